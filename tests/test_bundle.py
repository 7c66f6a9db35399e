"""What the checks of a bridge for Macs refuse: a fault of each kind, planted into what they read of a real bundle."""

import dataclasses
import json
import re
import struct
import sys
import types
import zipfile
from pathlib import Path

import pytest

if not sys.platform.startswith("linux"):
    pytest.skip("the Mac check is for machines that are none", allow_module_level=True)

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tools" / "mac"))

import build_wheel
import bundle
import check
import macho
import metal_cpp
import wheels
from toolchain import METAL_HEADERS, Toolchain, imports

SOURCE = """
#import <Foundation/Foundation.h>
#include <torch/library.h>
#include <string>

TORCH_LIBRARY(check_bundle, m) {
  m.def("length(str text) -> int", [](const std::string& text) -> int64_t {
    return [[NSString stringWithUTF8String:text.c_str()] length];
  });
}
"""


@dataclasses.dataclass
class Bundle:
    """A small bundle that passes, and what the checks read of it."""

    path: Path
    symbols: list[tuple[str, str]]
    commands: str
    system_libraries: set[str]
    data: bytes


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("bundle")
    apple = metal_cpp.read(wheels.folder(wheels.METAL_CPP) / "mlx/include/metal_cpp")
    source, path = folder / "source.mm", folder / "torch_2_13.so"
    source.write_text(SOURCE)
    toolchain = Toolchain(folder)
    assert toolchain.compile(source, folder / "source.o").errors == []
    assert toolchain.link([folder / "source.o"], path, apple).errors == []
    assert bundle.examine(path, toolchain).problems == []
    libraries = set(toolchain.system_libraries().values())
    return Bundle(path, imports(path), wheels.load_commands(path), libraries, path.read_bytes())


# A symbol that is undefined, the library it is bound to, and what must be said of it.
SYMBOLS = [
    ("__ZN2at3mps14begin_encodingEi", "", "torch's macOS libraries do not export at::mps::begin_encoding(int)"),
    ("__ZN20mps_conv_transpose3d9forgottenEv", "", "no library is known to export mps_conv_transpose3d::forgotten()"),
    (
        "__ZNSt3__14__fs10filesystem4pathC1Ev",
        "",
        "no library is known to export std::__1::__fs::filesystem::path::path()",
    ),
    ("__ZdlPvm", "", "no library is known to export operator delete(void*, unsigned long)"),
    ("_memset_explicit", "", "no library is known to export _memset_explicit"),
    ("_OBJC_CLASS_$_MTLMagic", "", "no framework is known to have the class MTLMagic"),
    ("_MTLMagic", "", "no library is known to export _MTLMagic"),
    ("_PyErr_Occurred", "", "Python's PyErr_Occurred is referenced"),
    ("__Py_NoneStruct", "libpython3.12", "Python's _Py_NoneStruct is referenced"),
    ("___isPlatformVersionAtLeast", "", "@available is used"),
    ("___isOSVersionAtLeast", "libSystem", "@available is used"),
    ("__availability_version_check", "libSystem", "@available is used"),
]


@pytest.mark.parametrize(("symbol", "library", "problem"), SYMBOLS)
def test_a_foreign_symbol_is_refused(clean: Bundle, symbol: str, library: str, problem: str) -> None:
    found = bundle.symbols([*clean.symbols, (symbol, library)]).problems
    assert len(found) == 1 and found[0].startswith(problem), found


# Each: a pattern of llvm-otool's list, what stands in its place, what must be said.
COMMANDS = {
    "newer macOS": (r"minos 13.0", "minos 14.0", "oldest version) [("),
    "another platform": (r"platform (1|macos)\b", "platform 2", "not macOS 13.0"),
    "a library that torch does not load": (
        r"/usr/lib/libc\+\+\.1\.dylib",
        "/usr/lib/libz.1.dylib",
        "libz.1.dylib, which",
    ),
    "a framework's folder of another name": (
        "Foundation.framework/Versions/C",
        "Foundation.framework/Versions/A",
        "which",
    ),
    "Python": (r"/usr/lib/libobjc\.A\.dylib", "@rpath/libpython3.12.dylib", "@rpath/libpython3.12.dylib, which"),
    "no libtorch_cpu": ("@rpath/libtorch_cpu.dylib", "@rpath/libc10.dylib", "does not name @rpath/libtorch_cpu.dylib"),
    "torch by its folder": ("@rpath/libc10", "/opt/torch/lib/libc10", "/opt/torch/lib/libc10.dylib, which"),
    "another folder of torch's": ("path @loader_path/../../torch/lib", "path /opt/torch/lib", "looks for torch in"),
    "no folder of torch's": ("cmd LC_RPATH", "cmd LC_NOTE", "looks for torch in []"),
    "an unknown command": ("cmd LC_UUID", "cmd LC_LOAD_UPWARD_DYLIB", "has a load command LC_LOAD_UPWARD_DYLIB"),
    "a library that may be missing": ("LC_LOAD_DYLIB", "LC_LOAD_WEAK_DYLIB", "has a load command LC_LOAD_WEAK_DYLIB"),
}


@pytest.mark.parametrize("fault", COMMANDS)
def test_a_wrong_load_command_is_refused(clean: Bundle, fault: str) -> None:
    pattern, wrong, problem = COMMANDS[fault]
    commands, count = re.subn(pattern, wrong, clean.commands)
    assert count
    found = bundle.load_commands(commands, clean.system_libraries)
    assert any(problem in line for line in found), found


def flip(data: bytes, at: int, bits: int = 1) -> bytes:
    return data[:at] + bytes([data[at] ^ bits]) + data[at + 1 :]


def signature_at(data: bytes) -> int:
    """Where the code directory begins."""
    return data.rindex(struct.pack(">I", macho.DIRECTORY_MAGIC))


SIGNATURES = {
    "a changed byte of code": (lambda data: flip(data, 0x800), "page 0 is not what was signed"),
    "a changed byte in the last page": (lambda data: flip(data, signature_at(data) - 64), "is not what was signed"),
    "a changed hash": (lambda data: flip(data, len(data) - len(data) % 32 - 200), "is not what was signed"),
    "bytes behind it": (lambda data: data + b"\0" * 16, "not the end of the file"),
    "cut short": (lambda data: data[:-4096], "not the end of the file"),
    "a certificate's": (lambda data: flip(data, signature_at(data) + 15, macho.ADHOC), "is not ad hoc"),
    "another directory": (lambda data: flip(data, signature_at(data)), "the code directory is none"),
    "half covered": (lambda data: flip(data, signature_at(data) + 34), "does not cover the file"),
    "none": (
        lambda data: data.replace(struct.pack("<2I", macho.CODE_SIGNATURE, 16), struct.pack("<2I", 0x26, 16)),
        "has 0",
    ),
}


@pytest.mark.parametrize("fault", SIGNATURES)
def test_a_wrong_signature_is_refused(clean: Bundle, fault: str) -> None:
    plant, problem = SIGNATURES[fault]
    assert macho.signature_problems(clean.data) == []
    found = macho.signature_problems(plant(clean.data))
    assert len(found) == 1 and problem in found[0], found


@pytest.mark.parametrize(
    ("offset", "value", "problem"),
    [(0, 0xFEEDFACE, "64-bit"), (4, 0x01000007, "arm64"), (12, 6, "a bundle"), (24, 0, "library by library")],
)
def test_another_kind_of_file_is_refused(clean: Bundle, offset: int, value: int, problem: str) -> None:
    data = bytearray(clean.data)
    assert macho.header_problems(data) == []
    struct.pack_into("<I", data, offset, value)
    (found,) = macho.header_problems(data)
    assert problem in found


@pytest.mark.parametrize(
    "folder", ["/home/me/project/csrc/encoding.mm", "/Users/me/torch", "/opt/x/include", "/tmp/a.cpp"]
)
def test_a_folder_of_the_building_machine_is_refused(clean: Bundle, folder: str) -> None:
    assert macho.folder_problems(clean.data) == []
    (found,) = macho.folder_problems(clean.data + b"\0assert at " + folder.encode() + b":12\0")
    assert f"names {folder}" in found


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel.source_distribution(tmp_path_factory.mktemp("sources"))


@pytest.fixture(scope="module")
def wheel(clean: Bundle, sources: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel.pack(sources, packed(clean), tmp_path_factory.mktemp("wheel"))


def packed(clean: Bundle) -> list[build_wheel.Bridge]:
    return [build_wheel.Bridge(clean.path, {"2.13.0": "0123abc"})]


def test_the_archive_is_whole_and_the_same_bytes_twice(
    clean: Bundle, sources: Path, wheel: Path, tmp_path: Path
) -> None:
    assert build_wheel.problems(wheel, packed(clean)) == []
    assert build_wheel.pack(sources, packed(clean), tmp_path).read_bytes() == wheel.read_bytes()
    with zipfile.ZipFile(wheel) as archive:
        record = json.loads(archive.read("mps_conv_transpose3d/build.json"))
        (name,) = (name for name in archive.namelist() if name.endswith("/WHEEL"))
        assert "Root-Is-Purelib: false\nTag: py3-none-macosx_13_0_arm64\n" in archive.read(name).decode()
    assert [bridge["torch"] for bridge in record["bridges"]] == [{"2.13.0": "0123abc"}]


def change(wheel: Path, to: Path, ending: str, data: "bytes | None", name: "str | None" = None) -> Path:
    """A copy in which the file whose name ends so is another, or missing; or has one more, `name`."""
    with zipfile.ZipFile(wheel) as archive, zipfile.ZipFile(to / wheel.name, "w", zipfile.ZIP_DEFLATED) as copy:
        for entry in archive.namelist():
            if not entry.endswith(ending):
                copy.writestr(entry, archive.read(entry))
            elif data is not None:
                copy.writestr(entry, data)
        if name is not None:
            copy.writestr(name, b"")
    return to / wheel.name


def test_a_wrong_archive_is_refused(
    clean: Bundle, wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def found(*changes: object, name: "str | None" = None) -> str:
        return "\n".join(build_wheel.problems(change(wheel, tmp_path, *changes, name), packed(clean)))

    assert found("nothing", None) == ""
    assert "torch_2_13.so is not in the wheel" in found("torch_2_13.so", None)
    assert "not the file that build.json names" in found("torch_2_13.so", clean.data + b"\0")
    assert "not the end of the file" in found("torch_2_13.so", clean.data + b"\0")
    assert "_plan.so has no place in the wheel" in found("nothing", None, name="mps_conv_transpose3d/_plan.so")
    assert "Requires-Dist" in found("METADATA", b"Name: x\nRequires-Dist: torch<2.16,>=2.4\n\n")
    renamed = wheel.rename(tmp_path / "mps_conv_transpose3d-0.1.0-py3-none-macosx_11_0_arm64.whl")
    assert "is not for py3-none-macosx_13_0_arm64" in "\n".join(build_wheel.problems(renamed, packed(clean)))
    renamed.rename(wheel)
    monkeypatch.setattr(build_wheel, "LARGEST", 1000)
    assert "more than 1000" in "\n".join(build_wheel.problems(wheel, packed(clean)))


def test_a_bridge_serves_the_releases_that_give_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checked = check.Check(tmp_path, METAL_HEADERS, ("2.4.0", "2.4.1", "2.6.0", "2.14.0", "2.14.1"))
    built = {"2.4.0": b"old", "2.4.1": b"new", "2.6.0": b"2.6", "2.14.0": b"2.14", "2.14.1": b"2.14"}
    for release, data in built.items():
        (tmp_path / release).write_bytes(data)
    monkeypatch.setattr(checked, "toolchain", lambda release: types.SimpleNamespace(bundle=tmp_path / release))
    monkeypatch.setattr(build_wheel, "commit", lambda release: f"commit of {release}")
    served = {bridge.path.name: bridge.torch for bridge in build_wheel.bridges(checked)}
    assert served == {
        "2.4.1": {"2.4.1": "commit of 2.4.1"},
        "2.6.0": {"2.6.0": "commit of 2.6.0"},
        "2.14.1": {"2.14.0": "commit of 2.14.0", "2.14.1": "commit of 2.14.1"},
    }
    told = [step.detail for one in ("2.4", "2.14") for step in checked.patches(f"{one}.0", f"{one}.1")]
    assert told == ["differ: the wheel serves 2.4.1 alone", "the same bytes"]


def test_a_release_tells_its_commit() -> None:
    assert re.fullmatch("[0-9a-f]{40}", build_wheel.commit("2.13.0"))
