"""Looks into the linked bundle: what a Mac's loader would have to find, and what it would run into."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import wheels
from comparison import MACOS_27
from metal_cpp import MetalCpp
from toolchain import MACOS, imports

# Everything a program that has said `import torch` has already loaded, and what every Mac has.
LOADABLE = re.compile(r"@rpath/lib(c10|torch|torch_cpu)\.dylib|/usr/lib/.*|/System/Library/Frameworks/.*")
TORCH = re.compile(r"\b(at|c10|torch|caffe2)::")
# Which parts of the C++ and Objective-C runtimes are called depends on the headers of the SDK: not ours to judge.
RUNTIME = re.compile(
    r"(?:vtable|VTT|typeinfo|typeinfo name|guard variable) for (?:std|__cxxabiv1)::|operator (?:new|delete)"
)
RUNTIME_SYMBOL = re.compile(r"__ZNK?S|__ZS|__ZNKSt|___cxa_|___gxx_|__Unwind_|_objc_|___CFConstantStringClassReference")


@dataclass
class Examination:
    counts: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)


def examine(bundle: Path) -> Examination:
    """Refuses symbols that nothing known exports, Python symbols, foreign libraries and another macOS version."""
    result = Examination()
    undefined = imports(bundle)
    for (symbol, library), readable in zip(undefined, _demangled([symbol for symbol, _ in undefined])):
        if re.match(r"__?Py", symbol):
            result.problems.append(f"Python's {symbol[1:]} is referenced: one binary must serve every Python")
        elif library:
            result.counts[_kind(library)] += 1
        elif TORCH.search(readable):
            result.problems.append(f"torch's macOS libraries do not export {readable}")
        elif RUNTIME.match(readable) or RUNTIME_SYMBOL.match(symbol):
            result.counts["of the languages' runtimes"] += 1
        elif symbol.startswith("_OBJC_CLASS_$_"):
            result.problems.append(f"no framework is known to have the class {symbol.removeprefix('_OBJC_CLASS_$_')}")
        else:
            result.problems.append(f"no library is known to export {readable}")
    _load_commands(bundle, result)
    return result


def _kind(library: str) -> str:
    return "of torch" if library.startswith(("libtorch", "libc10")) else "of macOS"


def _demangled(symbols: list[str]) -> list[str]:
    done = subprocess.run(
        [wheels.tool("llvm-cxxfilt"), "-_"], input="\n".join(symbols), capture_output=True, text=True, check=True
    )
    return done.stdout.splitlines()


def _load_commands(bundle: Path, result: Examination) -> None:
    listed = subprocess.run(
        [wheels.tool("llvm-otool"), "-l", str(bundle)], capture_output=True, text=True, check=True
    ).stdout
    commands = re.split(r"^Load command \d+$", listed, flags=re.M)
    for command in commands:
        if "cmd LC_LOAD_DYLIB" in command:
            name = re.search(r"name (\S+)", command).group(1)
            if not LOADABLE.fullmatch(name):
                result.problems.append(f"the bundle wants {name}, which `import torch` does not load")
    versions = re.findall(r"cmd LC_BUILD_VERSION.*?platform (\S+).*?minos (\S+)", listed, re.S)
    if versions not in ([("1", MACOS)], [("macos", MACOS)]):
        result.problems.append(f"the bundle is for (platform, oldest version) {versions}, not macOS {MACOS}")
    for name in ("libtorch_cpu", "libc10"):
        if f"@rpath/{name}.dylib" not in listed:
            result.problems.append(f"the bundle does not name @rpath/{name}.dylib")


def selectors(bundle: Path) -> set[str]:
    """The selectors that the bundle sends or asks for."""
    with tempfile.TemporaryDirectory() as scratch:
        section = Path(scratch) / "names"
        dump = f"--dump-section=__TEXT,__objc_methname={section}"
        subprocess.run([wheels.tool("llvm-objcopy"), dump, str(bundle), "/dev/null"], capture_output=True)
        return set(section.read_bytes().decode().split("\0")) - {""} if section.exists() else set()


def newer(bundle: Path, sources: list[Path], today: MetalCpp, macos14: MetalCpp) -> list[str]:
    """Metal's names which macOS 14 lacks, and which a source uses without asking first.

    A selector counts as asked for where a source says `respondsToSelector:@selector(...)`; an enumerator where its
    source asks for the system's version.
    """
    problems = []
    texts = {path: path.read_text() for path in sources}
    for name in sorted(selectors(bundle) & (today.metal_selectors - macos14.metal_selectors)):
        if not any(f"respondsToSelector:@selector({name})" in text for text in texts.values()):
            problems.append(f"-{name} came after macOS 14: ask respondsToSelector:@selector({name}) first")
    late = (today.enumerators.keys() | MACOS_27.keys()) - macos14.enumerators.keys()
    for path, text in texts.items():
        for name in sorted(late & set(re.findall(r"\bMTL\w+", text))):
            if "isOperatingSystemAtLeastVersion" not in text:
                problems.append(f"{path.name}: {name} came after macOS 14: ask for the system's version first")
    return problems
