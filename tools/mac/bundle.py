"""Looks into the linked bundle: what a Mac's loader would have to find, and what it would run into."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import macho
import wheels
from comparison import MACOS_27
from metal_cpp import MetalCpp
from toolchain import MACOS, RPATH, Toolchain, imports

# What `import torch` has loaded under these names (tools/mac/README.md).
TORCH_LIBRARIES = {f"@rpath/lib{name}.dylib" for name in ("c10", "torch", "torch_cpu")}
# What lld makes of a bundle. A kind that is not here has not been thought about.
LOAD_COMMANDS = {
    *(
        "LC_SEGMENT_64",
        "LC_DYLD_CHAINED_FIXUPS",
        "LC_DYLD_EXPORTS_TRIE",
        "LC_SYMTAB",
        "LC_DYSYMTAB",
        "LC_RPATH",
        "LC_UUID",
    ),
    *("LC_BUILD_VERSION", "LC_LOAD_DYLIB", "LC_FUNCTION_STARTS", "LC_DATA_IN_CODE", "LC_CODE_SIGNATURE"),
}
TORCH = re.compile(r"\b(at|c10|torch|caffe2)::")
AVAILABLE = re.compile(r"_+(is(OS|Platform)(Or\w+)?VersionAtLeast|availability_version_check)")


@dataclass
class Examination:
    counts: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)


def examine(bundle: Path, toolchain: Toolchain) -> Examination:
    """Everything in the file that a Mac with the toolchain's torch would refuse, or that this machine left in it."""
    result = symbols(imports(bundle))
    result.problems += load_commands(wheels.load_commands(bundle), set(toolchain.system_libraries().values()))
    data = bundle.read_bytes()
    result.problems += macho.header_problems(data) + macho.signature_problems(data) + macho.folder_problems(data)
    return result


def symbols(undefined: list[tuple[str, str]]) -> Examination:
    """Of (symbol, library it is bound to): refuses what no library is known to export, Python's, and @available's."""
    result = Examination()
    for (symbol, library), readable in zip(undefined, _demangled([symbol for symbol, _ in undefined])):
        if re.match(r"__?Py", symbol):
            result.problems.append(f"Python's {symbol[1:]} is referenced: one binary must serve every Python")
        elif AVAILABLE.fullmatch(symbol):
            result.problems.append(f"@available is used, which calls {symbol[1:]}: ask respondsToSelector: instead")
        elif library:
            result.counts[_kind(library)] += 1
        elif TORCH.search(readable):
            result.problems.append(f"torch's macOS libraries do not export {readable}")
        elif symbol.startswith("_OBJC_CLASS_$_"):
            result.problems.append(f"no framework is known to have the class {symbol.removeprefix('_OBJC_CLASS_$_')}")
        else:
            result.problems.append(f"no library is known to export {readable}")
    return result


def _kind(library: str) -> str:
    return "of torch" if library.startswith(("libtorch", "libc10")) else "of macOS"


def _demangled(symbols: list[str]) -> list[str]:
    done = subprocess.run(
        [wheels.tool("llvm-cxxfilt"), "-_"], input="\n".join(symbols), capture_output=True, text=True, check=True
    )
    return done.stdout.splitlines()


def load_commands(listed: str, system_libraries: set[str]) -> list[str]:
    """Of llvm-otool's list: refuses unknown commands, foreign libraries, other folders and another macOS version.

    `system_libraries` are the install names of macOS's libraries that a bundle may want.
    """
    problems = []
    commands = re.split(r"^Load command \d+$", listed, flags=re.M)[1:]
    kinds = re.findall(r"^ *cmd (\S+)", listed, flags=re.M)
    problems += [f"the bundle has a load command {kind}" for kind in kinds if kind not in LOAD_COMMANDS]
    wanted = wheels.needed(listed)
    for name in wanted:
        if name not in TORCH_LIBRARIES | system_libraries:
            problems.append(f"the bundle wants {name}, which `import torch` does not load")
    for name in sorted(TORCH_LIBRARIES - set(wanted)):
        problems.append(f"the bundle does not name {name}")
    folders = [match for command in commands for match in re.findall(r"cmd LC_RPATH\n.*\n\s*path (\S+)", command)]
    if folders != [RPATH]:
        problems.append(f"the bundle looks for torch in {folders}, not in {RPATH}")
    versions = re.findall(r"cmd LC_BUILD_VERSION.*?platform (\S+).*?minos (\S+)", listed, re.S)
    if versions not in ([("1", MACOS)], [("macos", MACOS)]):
        problems.append(f"the bundle is for (platform, oldest version) {versions}, not macOS {MACOS}")
    return problems


def selectors(bundle: Path) -> set[str]:
    """The selectors that the bundle sends or asks for."""
    with tempfile.TemporaryDirectory() as scratch:
        section = Path(scratch) / "names"
        dump = f"--dump-section=__TEXT,__objc_methname={section}"
        subprocess.run([wheels.tool("llvm-objcopy"), dump, str(bundle), "/dev/null"], capture_output=True)
        return set(section.read_bytes().decode().split("\0")) - {""} if section.exists() else set()


def newer(bundle: Path, sources: list[Path], today: MetalCpp, macos13: MetalCpp) -> list[str]:
    """Metal's names which macOS 13 lacks, and which a source uses without asking first.

    A selector counts as asked for where a source says `respondsToSelector:@selector(...)`; an enumerator where its
    source asks for the system's version.
    """
    problems = []
    texts = {path: path.read_text() for path in sources}
    for name in sorted(selectors(bundle) & (today.metal_selectors - macos13.metal_selectors)):
        if not any(f"respondsToSelector:@selector({name})" in text for text in texts.values()):
            problems.append(f"-{name} came after macOS 13: ask respondsToSelector:@selector({name}) first")
    late = (today.enumerators.keys() | MACOS_27.keys()) - macos13.enumerators.keys()
    for path, text in texts.items():
        for name in sorted(late & set(re.findall(r"\bMTL\w+", text))):
            if "isOperatingSystemAtLeastVersion" not in text:
                problems.append(f"{path.name}: {name} came after macOS 13: ask for the system's version first")
    return problems
