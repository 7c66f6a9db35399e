"""A cross-compiler for arm64 macOS on Linux: LLVM 19, open macOS headers, and stubs of the system's libraries."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import wheels
from metal_cpp import MetalCpp

REPOSITORY = Path(__file__).resolve().parents[2]
METAL_HEADERS = REPOSITORY / "simulator" / "include" / "apple" / "Metal"
FOUNDATION_HEADERS = Path(__file__).resolve().parent / "include"
MACOS = "13.0"
TARGET = f"arm64-apple-macos{MACOS}"

# As zig builds its libc++ for macOS, which is how Apple builds its own.
LIBCXX = (
    "-D_LIBCPP_ABI_VERSION=1",
    "-D_LIBCPP_ABI_NAMESPACE=__1",
    "-D_LIBCPP_PSTL_BACKEND_SERIAL",
    "-D_LIBCPP_HARDENING_MODE=_LIBCPP_HARDENING_MODE_NONE",
    # Of libc++.dylib what macOS 11 had, as torch's dylibs up to 2.11 do: they are all the proof of what it exports.
    *("-U__ENVIRONMENT_MAC_OS_X_VERSION_MIN_REQUIRED__", "-D__ENVIRONMENT_MAC_OS_X_VERSION_MIN_REQUIRED__=110000"),
)
# What Apple's compiler warns of by default is an error here. A misspelt selector is only a warning to clang.
WARNINGS = ("-Wall", "-Wextra", "-Wundeclared-selector", "-Wobjc-messaging-id", "-Wunguarded-availability", "-Werror")

# From _bridge/ to torch in the same site-packages, as CMakeLists.txt has it.
RPATH = "@loader_path/../../torch/lib"
# The libraries of macOS that a bridge is linked with.
SYSTEM_LIBRARIES = ("CoreFoundation", "Foundation", "Metal", "libSystem", "libc++", "libobjc")


@dataclass
class Build:
    """What one run of a tool came to: `errors` are clang's or the linker's lines that say what is wrong."""

    command: str
    output: str
    returncode: int

    @property
    def errors(self) -> list[str]:
        if self.returncode == 0:
            return []
        found = re.findall(
            r"^(?:\S+:\d+:\d+: (?:fatal )?error: .*|ld64\.lld.*error: .*|CMake Error.*|ninja: error: .*)$",
            self.output,
            re.M,
        )
        return list(dict.fromkeys(found)) or [line for line in self.output.splitlines() if line.strip()][-5:]


@dataclass
class Toolchain:
    """Compiles and links for arm64 macOS 13 and a release of torch in the folder `work`.

    `metal_headers` is a folder named Metal.
    """

    work: Path
    metal_headers: Path = METAL_HEADERS
    release: str = "2.13.0"
    zig: Path = field(default_factory=wheels.ziglang)

    def __post_init__(self) -> None:
        self.torch = wheels.folder(wheels.torch(self.release)) / "torch"
        self.clang = wheels.tool("clang++")
        include = self.work / "include"
        include.mkdir(parents=True, exist_ok=True)
        shared = [METAL_HEADERS.with_name(name) for name in ("MetalPerformanceShaders", "MetalPerformanceShadersGraph")]
        for folder in (self.metal_headers, *shared):
            link = include / folder.name
            if not link.is_symlink() or link.resolve() != folder.resolve():
                link.unlink(missing_ok=True)
                link.symlink_to(folder)
        self.includes = include

    def flags(self) -> list[str]:
        """Everything but the language, the standard and torch's headers, which the build system knows."""
        builtin = subprocess.run([self.clang, "-print-resource-dir"], capture_output=True, text=True, check=True)
        folders = [
            *(self.zig / "libcxx" / "include", self.zig / "libcxxabi" / "include", self.includes, FOUNDATION_HEADERS),
            *(Path(builtin.stdout.strip()) / "include", self.zig / "libc" / "include" / "any-macos-any"),
        ]
        searched = [part for folder in folders for part in ("-isystem", str(folder))]
        # torch's dylibs import no sized operator delete, so that nothing here proves that a Mac has one.
        return ["-nostdinc", *searched, *LIBCXX, *WARNINGS, "-fno-sized-deallocation"]

    def _clang(self, *arguments: str, standard: int = 17) -> Build:
        torch = [f"-isystem{self.torch / 'include'}", f"-isystem{self.torch / 'include/torch/csrc/api/include'}"]
        torch.append(f"-ffile-prefix-map={self.torch}/=")
        return _run([self.clang, f"--target={TARGET}", f"-std=c++{standard}", *torch, *self.flags(), *arguments])

    def check(self, source: Path, *folders: Path, standard: int = 17) -> Build:
        """Reads a source as the Mac's compiler would, and makes nothing; `folders` are searched for headers too."""
        searched = [f"-I{folder}" for folder in folders]
        return self._clang("-fsyntax-only", *searched, str(source), standard=standard)

    def compile(self, source: Path, target: Path) -> Build:
        return self._clang("-O3", f"-ffile-prefix-map={source.parent}/=", "-c", str(source), "-o", str(target))

    def tree(self, source: Path) -> str:
        """clang's syntax tree of a source, as JSON. Raises ValueError with clang's errors."""
        build = self._clang("-fsyntax-only", "-Xclang", "-ast-dump=json", str(source))
        if build.returncode:
            raise ValueError("\n".join(build.errors))
        return build.output

    def link(self, objects: list[Path], target: Path, apple: MetalCpp) -> Build:
        """Links a bundle as the build of the product does."""
        torch = [str(self.torch / "lib" / f"lib{name}.dylib") for name in ("c10", "torch", "torch_cpu")]
        command = [self.clang, f"--target={TARGET}", "-bundle", f"-Wl,-rpath,{RPATH}", *self.link_flags(apple)]
        command += [*map(str, objects), *torch]
        return _run([*command, "-framework", "Metal", "-framework", "Foundation", "-o", str(target)])

    def link_flags(self, apple: MetalCpp) -> list[str]:
        """Symbols that no library is known to export stay for the loader, so that all of them can be told at once."""
        stubs = self._stubs(apple)
        libraries = [stubs / "libc++.tbd", stubs / "libobjc.tbd", self.zig / "libc/darwin/libSystem.tbd"]
        # The SDK's Foundation brings CoreFoundation, which has the class of constant strings.
        libraries.append(stubs / "CoreFoundation.framework" / "CoreFoundation.tbd")
        return ["-fuse-ld=lld", "-nostdlib", f"-F{stubs}", *map(str, libraries), "-Wl,-undefined,dynamic_lookup"]

    def _stubs(self, apple: MetalCpp) -> Path:
        """Stubs of the system's libraries: they export what torch's own dylibs import, and Apple's Metal classes.

        What the oldest torch imports, whose dylibs run on macOS 11, every Mac has; what this release imports, every Mac
        that runs it.
        """
        place = self.work / "stubs"
        install_names = self.system_libraries()
        exports: dict[str, set[str]] = {name: set() for name in install_names if name != "libSystem"}
        for folder in (self.torch, wheels.folder(wheels.torch(wheels.USUAL_RELEASES[0])) / "torch"):
            for library in ("c10", "torch_cpu"):
                listed = (folder / "lib" / f"lib{library}.imports").read_text()
                for symbol, origin in _imports(listed):
                    if origin in exports:
                        exports[origin].add(symbol)
        for name in apple.classes:
            framework = "Foundation" if name.startswith("NS") else "Metal"
            exports[framework] |= {f"_OBJC_CLASS_$_{name}", f"_OBJC_METACLASS_$_{name}"}
        exports["Metal"] |= {f"_{name}" for name in {*apple.functions, *apple.constants} if name.startswith("MTL")}
        exports["Foundation"] |= {f"_{name}" for name in apple.constants if name.startswith("NS")} | {"_NSLog"}
        # Neither torch nor metal-cpp needs these. pyobjc-core's extension module imports the first two; objc4's
        # objc-exception.mm exports the others, since macOS 10.5.
        exports["Foundation"].add("_OBJC_CLASS_$_NSException")
        exports["libobjc"] |= {"___objc_personality_v0", "_objc_begin_catch", "_objc_end_catch", "_objc_ehtype_vtable"}
        for name, symbols in exports.items():
            is_library = name.startswith("lib")
            path = place / f"{name}.tbd" if is_library else place / f"{name}.framework" / f"{name}.tbd"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(_stub(install_names[name], symbols))
        return place

    def system_libraries(self) -> dict[str, str]:
        """Of SYSTEM_LIBRARIES the install names, as torch's own libtorch_cpu.dylib has them."""
        wanted = wheels.needed((self.torch / "lib" / "libtorch_cpu.commands").read_text())
        names = {Path(name).name.partition(".")[0]: name for name in wanted}
        return {name: names[name] for name in SYSTEM_LIBRARIES}

    def cmake_file(self, apple: MetalCpp) -> Path:
        """The toolchain file with which CMake builds this repository's own CMakeLists.txt for a Mac."""
        path = self.work / "macos.cmake"
        text = f"""\
set(CMAKE_SYSTEM_NAME Darwin)
set(CMAKE_SYSTEM_VERSION 22)
set(CMAKE_SYSTEM_PROCESSOR arm64)
set(CMAKE_OSX_ARCHITECTURES arm64)
set(CMAKE_OSX_DEPLOYMENT_TARGET {MACOS})
set(CMAKE_OSX_SYSROOT "")
set(CMAKE_FIND_USE_CMAKE_SYSTEM_PATH FALSE)
set(CMAKE_FIND_USE_SYSTEM_ENVIRONMENT_PATH FALSE)
set(CMAKE_FRAMEWORK_PATH "{self.work}/stubs")
foreach(language CXX OBJCXX)
  set(CMAKE_${{language}}_COMPILER "{self.clang}")
  set(CMAKE_${{language}}_COMPILER_TARGET {TARGET})
  set(CMAKE_${{language}}_COMPILER_FORCED TRUE)
  set(CMAKE_${{language}}_FLAGS_INIT "{" ".join(self.flags())}")
endforeach()
set(CMAKE_MODULE_LINKER_FLAGS_INIT "{" ".join(self.link_flags(apple))}")
set(CMAKE_AR "{wheels.tool("llvm-ar")}")
set(CMAKE_RANLIB "{wheels.tool("llvm-ranlib")}")
set(CMAKE_INSTALL_NAME_TOOL "{wheels.tool("llvm-install-name-tool")}")
"""
        if not path.exists() or path.read_text() != text:
            shutil.rmtree(self.build, ignore_errors=True)  # CMake keeps what it once found
            path.write_text(text)
        return path

    def configure(self, apple: MetalCpp, source: Path = REPOSITORY) -> Build:
        """Has CMake read a CMakeLists.txt, which writes `build`/compile_commands.json."""
        return _run(
            [
                *(_program("cmake"), "-S", str(source), "-B", str(self.build), "-G", "Ninja", "-Wno-dev"),
                f"-DCMAKE_MAKE_PROGRAM={_program('ninja')}",
                f"-DCMAKE_TOOLCHAIN_FILE={self.cmake_file(apple)}",
                f"-DCMAKE_PREFIX_PATH={self.torch}",
            ]
        )

    def build_product(self, apple: MetalCpp, source: Path = REPOSITORY) -> Build:
        """Builds `bundle` with the repository's CMakeLists.txt; gives the last command run."""
        done = self.configure(apple, source)
        if done.returncode == 0:
            done = _run([_program("cmake"), "--build", str(self.build), "--target", "_bridge", "--", "-k", "0"])
        return done

    @property
    def build(self) -> Path:
        return self.work / "build"

    @property
    def bundle(self) -> Path:
        major, minor = self.release.split(".")[:2]
        return self.build / f"torch_{major}_{minor}.so"

    def standards(self) -> dict[Path, int]:
        """The sources of the bridge, and as which C++ each is compiled."""
        entries = json.loads((self.build / "compile_commands.json").read_text())
        found = {Path(entry["file"]): re.search(r"-std=\w+\+\+(\d+)", entry["command"]) for entry in entries}
        return {path: int(match.group(1)) if match else 0 for path, match in found.items()}


def _program(name: str) -> str:
    """The path of a program that came with this Python's environment, or of the system's."""
    found = shutil.which(name, path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if found is None:
        raise wheels.Unavailable(f"no {name}: pip install {name}")
    return found


def imports(binary: Path) -> list[tuple[str, str]]:
    """(symbol, library it is bound to) of what a Mach-O file leaves undefined; no library: looked up late."""
    return _imports(wheels.undefined(binary))


def _imports(listed: str) -> list[tuple[str, str]]:
    found = re.findall(r"external (?:\[.*?\] )?(\S+) \((?:from (\S+?)|dynamically looked up)\)", listed)
    return [(symbol, library) for symbol, library in found]


def _stub(install_name: str, symbols: set[str]) -> str:
    listed = ", ".join(f"'{symbol}'" for symbol in sorted(symbols))
    return f"""\
--- !tapi-tbd
tbd-version: 4
targets: [ arm64-macos ]
install-name: '{install_name}'
exports:
  - targets: [ arm64-macos ]
    symbols: [ {listed} ]
...
"""


def _run(command: list[str]) -> Build:
    done = subprocess.run(command, capture_output=True, text=True)
    output = done.stdout if done.returncode == 0 else done.stdout + done.stderr
    return Build(" ".join(command), output, done.returncode)
