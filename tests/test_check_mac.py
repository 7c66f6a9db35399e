"""The Mac check bites: small faults of the kind that only a Mac would show, each refused with its name."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

if not sys.platform.startswith("linux"):
    pytest.skip("the Mac check is for machines that are none", allow_module_level=True)

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tools" / "mac"))

import bundle
import check
import metal_cpp
import wheels
from toolchain import METAL_HEADERS, TARGET, Toolchain, imports

STREAM = """
#include <ATen/mps/MPSStream.h>
#include <torch/library.h>

at::Tensor fill(const at::Tensor& input, {integer} value) {{
  at::mps::MPSStream* stream = at::mps::getCurrentMPSStream();
  dispatch_sync(stream->queue(), ^{{
    @autoreleasepool {{
      id<MTLComputeCommandEncoder> encoder = stream->{encoder}();
      [encoder setBuffer:__builtin_bit_cast(id<MTLBuffer>, input.storage().data()) offset:0 atIndex:0];
      [encoder setBytes:&value length:sizeof(value) atIndex:1];
      [encoder dispatchThreads:MTLSizeMake(1, 1, 1) threadsPerThreadgroup:MTLSizeMake(1, 1, 1)];
    }}
  }});
  return input;
}}

TORCH_LIBRARY(check_mac, m) {{ m.def("fill(Tensor input, int value) -> Tensor", &fill); }}
"""

METAL = """
#import <Metal/Metal.h>
#include <algorithm>
"""

REFUSED = {
    "misspelt selector": (
        METAL + "void f(id<MTLComputeCommandEncoder> e) { [e setBytez:nullptr length:0 atIndex:0]; }",
        "setBytez:length:atIndex:",
    ),
    "selector of another class": (METAL + "void f(id<MTLBuffer> buffer) { [buffer commit]; }", "'-commit' not found"),
    "undeclared selector asked for": (METAL + "SEL f() { return @selector(setMathMood:); }", "setMathMood:"),
    "another class's object": (
        METAL + "void f(id<MTLDevice> d, NSString* s) { [d newLibraryWithURL:s error:nil]; }",
        "NSString *",
    ),
    "misspelt method of the stream": (STREAM.format(integer="int64_t", encoder="commandEncodr"), "commandEncodr"),
    "min of NSUInteger and int": (METAL + "NSUInteger f(NSUInteger a) { return std::min(a, 4); }", "'min'"),
    "max of long and int64_t": (METAL + "long f(long a, int64_t b) { return std::max(a, b); }", "'max'"),
    "operator argument typed long": (STREAM.format(integer="long", encoder="commandEncoder"), "INVALID TYPE"),
}

# Declared as torch might, and exported by no library of its wheel.
NOT_EXPORTED = """
namespace at::mps { void begin_encoding(int); }
namespace mps_conv_transpose3d { void forgotten(); }
extern "C" void Py_Initialize();
void f() { at::mps::begin_encoding(1); mps_conv_transpose3d::forgotten(); Py_Initialize(); }
"""

# Each: header, text, what stands in its place, what the report must say.
WRONG_HEADERS = {
    "misspelt selector": (
        "MTLComputeCommandEncoder.h",
        "- (void)setBytes:(const void*)",
        "- (void)setBites:(const void*)",
        "metal-cpp knows no selector setBites:length:atIndex:",
    ),
    "selector in another class": (
        "MTLBuffer.h",
        "- (void*)contents",
        "- (void)commit;\n- (void*)contents",
        "metal-cpp has the selector, but not in MTLBuffer",
    ),
    "wrong return type": ("MTLBuffer.h", "- (void*)contents", "- (NSUInteger)contents", "metal-cpp says void* ()"),
    "misspelt property": (
        "MTLComputePipeline.h",
        "NSUInteger threadExecutionWidth",
        "NSUInteger threadExecutionWeight",
        "metal-cpp knows no selector threadExecutionWeight",
    ),
    "wrong enum value": (
        "MTLResource.h",
        "MTLStorageModePrivate = 2",
        "MTLStorageModePrivate = 4",
        "MTLStorageModePrivate is 4; metal-cpp says 2",
    ),
    "misspelt enum value": (
        "MTLLibrary.h",
        "MTLLanguageVersion3_1 =",
        "MTLLanguageVersion31 =",
        "metal-cpp knows no MTLLanguageVersion31",
    ),
    "swapped fields": (
        "MTLTypes.h",
        "typedef struct {\n  NSUInteger width, height, depth",
        "typedef struct {\n  NSUInteger height, width, depth",
        "struct MTLSize is",
    ),
    "unknown protocol": (
        "MTLFence.h",
        "@protocol MTLFence <NSObject>",
        "@protocol MTLFense <NSObject>\n- (void)wait;\n@end\n@protocol MTLFence <NSObject>",
        "metal-cpp knows no protocol MTLFense",
    ),
}


@pytest.fixture(scope="module")
def apple() -> metal_cpp.MetalCpp:
    return metal_cpp.read(wheels.folder(wheels.METAL_CPP) / "mlx/include/metal_cpp")


@pytest.mark.parametrize("fault", REFUSED)
def test_source_is_refused_by_name(fault: str, tmp_path: Path) -> None:
    text, name = REFUSED[fault]
    source = tmp_path / "faulty.mm"
    source.write_text(text)
    build = Toolchain(tmp_path).check(source)
    assert build.returncode != 0
    assert any(str(source) in line or "INVALID TYPE" in line for line in build.errors), build.errors
    assert name in "\n".join(build.errors)


def test_clean_source_passes(tmp_path: Path, apple: metal_cpp.MetalCpp) -> None:
    source, target = tmp_path / "clean.mm", tmp_path / "clean.so"
    source.write_text(STREAM.format(integer="int64_t", encoder="commandEncoder"))
    toolchain = Toolchain(tmp_path)
    compiled = toolchain.compile(source, tmp_path / "clean.o")
    assert compiled.errors == []
    assert toolchain.link([tmp_path / "clean.o"], target, apple).errors == []
    assert bundle.examine(target, toolchain).problems == []
    assert "setBytes:length:atIndex:" in bundle.selectors(target)


def test_catching_an_exception_of_objective_c_passes(tmp_path: Path, apple: metal_cpp.MetalCpp) -> None:
    source, target = tmp_path / "f.mm", tmp_path / "f.so"
    caught = '@try { [buffer contents]; } @catch (NSException* exception) { NSLog(@"%@", [exception reason]); }'
    source.write_text(METAL + f"void f(id<MTLBuffer> buffer) {{ {caught} }}")
    toolchain = Toolchain(tmp_path)
    assert toolchain.compile(source, tmp_path / "f.o").errors == []
    assert toolchain.link([tmp_path / "f.o"], target, apple).errors == []
    assert bundle.examine(target, toolchain).problems == []


def test_symbols_that_nobody_exports_are_refused_by_name(tmp_path: Path, apple: metal_cpp.MetalCpp) -> None:
    source, target = tmp_path / "f.mm", tmp_path / "f.so"
    source.write_text(NOT_EXPORTED)
    toolchain = Toolchain(tmp_path)
    assert toolchain.compile(source, tmp_path / "f.o").errors == []
    assert toolchain.link([tmp_path / "f.o"], target, apple).errors == []
    problems = "\n".join(bundle.examine(target, toolchain).problems)
    assert "torch's macOS libraries do not export at::mps::begin_encoding(int)" in problems
    assert "no library is known to export mps_conv_transpose3d::forgotten()" in problems
    assert "Py_Initialize" in problems


def test_unknown_class_is_refused_by_name(tmp_path: Path, apple: metal_cpp.MetalCpp) -> None:
    source, target = tmp_path / "f.mm", tmp_path / "f.so"
    source.write_text(METAL + "@interface MTLMagic : NSObject\n@end\nid f() { return [MTLMagic new]; }")
    toolchain = Toolchain(tmp_path)
    assert toolchain.compile(source, tmp_path / "f.o").errors == []
    assert toolchain.link([tmp_path / "f.o"], target, apple).errors == []
    assert "no framework is known to have the class MTLMagic" in bundle.examine(target, toolchain).problems


def test_names_newer_than_macos_13_must_be_asked_for(tmp_path: Path, apple: metal_cpp.MetalCpp) -> None:
    macos13 = metal_cpp.read(wheels.folder(wheels.METAL_CPP_13) / "mlx/include/metal_cpp")
    source, target = tmp_path / "f.mm", tmp_path / "f.so"
    setter = "[options setMathMode:MTLMathModeSafe]; [options setLanguageVersion:MTLLanguageVersion4_1];"
    source.write_text(METAL + f"void f(MTLCompileOptions* options) {{ {setter} }}")
    toolchain = Toolchain(tmp_path)
    assert toolchain.compile(source, tmp_path / "f.o").errors == []
    assert toolchain.link([tmp_path / "f.o"], target, apple).errors == []
    problems = bundle.newer(target, [source], apple, macos13)
    assert [problem.split(" came")[0] for problem in problems] == [
        "-setMathMode:",
        "f.mm: MTLLanguageVersion4_1",
        "f.mm: MTLMathModeSafe",
    ]
    asked = "if ([options respondsToSelector:@selector(setMathMode:)] && isOperatingSystemAtLeastVersion) "
    source.write_text(source.read_text().replace(setter, asked + setter))
    assert bundle.newer(target, [source], apple, macos13) == []


def test_wrong_headers_are_refused_by_name_and_line(tmp_path: Path, apple: metal_cpp.MetalCpp) -> None:
    copy = tmp_path / "Metal"
    shutil.copytree(METAL_HEADERS, copy)
    expected = []
    for header, right, wrong, message in WRONG_HEADERS.values():
        text = (copy / header).read_text()
        assert text.count(right) == 1
        (copy / header).write_text(text.replace(right, wrong))
        expected.append((f"{copy / header}:{text[: text.index(right)].count(chr(10)) + 1}: ", message))
    problems = check.hold_metal(Toolchain(tmp_path, copy), apple).problems
    missed = [
        message
        for place, message in expected
        if not any(problem.startswith(place) and message in problem for problem in problems)
    ]
    assert missed == [], problems


def test_metal_headers_agree_with_apple(tmp_path: Path, apple: metal_cpp.MetalCpp) -> None:
    assert check.hold_metal(Toolchain(tmp_path), apple).problems == []
    assert check.hold_foundation(Toolchain(tmp_path), apple).problems == []


@pytest.fixture
def only_headers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check.Check, "jobs", lambda self: {"headers": self.headers})


def test_a_wrong_header_fails_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str], only_headers) -> None:
    copy = tmp_path / "Metal"
    shutil.copytree(METAL_HEADERS, copy)
    header = copy / "MTLResource.h"
    header.write_text(header.read_text().replace("MTLStorageModePrivate = 2", "MTLStorageModePrivate = 4"))
    options = ["--work", str(tmp_path), "--metal-headers", str(copy)]
    assert check.main(options) == 1
    assert "MTLStorageModePrivate is 4; metal-cpp says 2" in capsys.readouterr().out
    assert check.main(["--work", str(tmp_path / "clean")]) == 0


def test_what_passed_is_looked_at_again_once_it_has_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And what did not pass, always."""
    sources, looks, found = tmp_path / "csrc", [], []

    def look():
        looks.append("")
        yield check.Step("look", "", list(found))

    monkeypatch.setattr(check, "INPUTS", (sources,))
    monkeypatch.setattr(check.Check, "jobs", lambda self: {"look": look})
    sources.mkdir()

    def run() -> int:
        assert [step.name for step in check.Check(tmp_path, METAL_HEADERS, ()).run(lambda name: None)] == ["look"]
        return len(looks)

    found.append("a fault")
    assert (run(), run()) == (1, 2)
    found.clear()
    assert (run(), run()) == (3, 3)
    (sources / "file.cpp").write_text("int x;")
    assert (run(), run()) == (4, 4)
    (sources / "file.cpp").touch()
    assert run() == 4
    (sources / "file.cpp").write_text("int y;")
    assert run() == 5


@pytest.mark.parametrize(("release", "standard"), [("2.13.0", 17), ("2.14.1", 20), ("2.15.0", 20)])
def test_sources_are_of_the_standard_of_torch_headers(tmp_path: Path, apple, release: str, standard: int) -> None:
    toolchain = Toolchain(tmp_path, release=release)
    assert toolchain.configure(apple).errors == []
    standards = toolchain.standards()
    assert {path.suffix for path in standards} == {".cpp", ".mm"}
    assert set(standards.values()) == {standard}


def test_a_bridge_of_another_minor_version_is_refused(tmp_path: Path, apple: metal_cpp.MetalCpp) -> None:
    source, target = tmp_path / "clean.mm", tmp_path / "clean.so"
    source.write_text(STREAM.format(integer="int64_t", encoder="commandEncoder"))
    new, old = Toolchain(tmp_path), Toolchain(tmp_path / "old", release="2.4.1")
    assert new.compile(source, tmp_path / "clean.o").errors == []
    assert old.link([tmp_path / "clean.o"], target, apple).errors == []
    problems = bundle.examine(target, old).problems
    assert problems and all(problem.startswith("torch's macOS libraries do not export ") for problem in problems)


def test_a_stub_exports_and_imports_what_the_library_does(tmp_path: Path, apple: metal_cpp.MetalCpp) -> None:
    library = tmp_path / "liblibrary.dylib"
    text = 'extern "C" int puts(const char*);\nint f() { return puts(""); }\n'
    text += "__attribute__((weak)) int g() { return 1; }\nint h = g();"
    (tmp_path / "library.cpp").write_text(text)
    (tmp_path / "user.cpp").write_text("int f(), g(), i();\nextern int h;\nint main() { return f() + g() + h + i(); }")
    toolchain = Toolchain(tmp_path)
    for name in ("library", "user"):
        assert toolchain.compile(tmp_path / f"{name}.cpp", tmp_path / f"{name}.o").errors == []
    flags = [*toolchain.link_flags(apple), f"--target={TARGET}", "-install_name", "@rpath/liblibrary.dylib"]
    subprocess.run([toolchain.clang, "-dynamiclib", *flags, tmp_path / "library.o", "-o", library], check=True)
    origins = []
    for _ in range(2):
        command = [toolchain.clang, "-bundle", *flags[:-2], tmp_path / "user.o", library, "-o", tmp_path / "user.so"]
        subprocess.run(command, check=True)
        origins.append({symbol: origin for symbol, origin in imports(tmp_path / "user.so") if symbol.startswith("_")})
        if not library.with_suffix(".imports").exists():
            wheels.reduce(library)
    assert origins[0] == origins[1]
    assert origins[1] == {"__Z1fv": "liblibrary", "__Z1gv": "liblibrary", "_h": "liblibrary", "__Z1iv": ""}
    assert "_puts (from libSystem)" in library.with_suffix(".imports").read_text()
    assert library.read_text().startswith("--- !tapi-tbd")


def test_a_constraint_of_the_user_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "constraints.txt").write_text("ninja<1.11\n")
    monkeypatch.setenv("PIP_CONSTRAINT", str(tmp_path / "constraints.txt"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    place = wheels.folder(wheels.Wheel("ninja", "1.13.0", ("*/METADATA",)))
    assert [path.name for path in place.rglob("*") if path.is_file()] == ["METADATA"]


def test_every_minor_version_that_is_supported_is_listed() -> None:
    sys.path.insert(0, str(Path(check.__file__).resolve().parents[1] / "setup"))
    from install import TORCH_ON_MAC

    (major, first), (_, last) = TORCH_ON_MAC
    listed = [{release.rpartition(".")[0] for release in releases} for releases in wheels.RELEASES]
    assert listed == [{f"{major}.{minor}"} for minor in range(first, last + 1)]
    assert set(wheels.USUAL_RELEASES) <= {release for releases in wheels.RELEASES for release in releases}
