"""Builds the native parts with CMake and puts them into the package.

MPS_CONV_TRANSPOSE3D_BRIDGE in the environment says what happens where they cannot be built:

    1       the installation fails; so it does on an Apple-silicon Mac unless 0 is said, for it is they that serve there
    (none)  elsewhere the package is installed without what cannot be built, and says why when asked
    0       nothing is compiled
"""

from __future__ import annotations

import enum
import hashlib
import json
import os
import platform
import re
import subprocess
import sys
import zlib
from collections.abc import Mapping
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent
VARIABLE = "MPS_CONV_TRANSPOSE3D_BRIDGE"

# What is said where it fails, and what mends that on a Mac. The names are CMakeLists.txt's words for what is missing.
REMEDIES = {
    r"want of (Torch|pybind11)|No such file or directory: 'cmake'|CMake Error.*build program": (
        "It is compiled against the torch that will load it, and so beside it, not in an environment of pip's own:",
        'pip install "torch>=2.4" setuptools cmake ninja pybind11 && pip install --no-build-isolation .',
    ),
    r"want of (METAL|FOUNDATION)|CMake Error.*(CXX_COMPILER|find the compiler)|xcode-select: |xcrun: error": (
        "Apple's command-line tools bring the compiler, Metal and Foundation:",
        "xcode-select --install",
    ),
}


class Bridge(enum.Enum):
    REQUIRED = "1"
    WHERE_POSSIBLE = ""
    NONE = "0"


def wanted(environment: Mapping[str, str], system: str, machine: str) -> Bridge:
    setting = environment.get(VARIABLE, "")
    if not setting and (system, machine) == ("Darwin", "arm64"):
        return Bridge.REQUIRED
    try:
        return Bridge(setting)
    except ValueError:
        raise SystemExit(f"mps-conv-transpose3d: {VARIABLE} is {setting!r}, and can be 0 or 1") from None


class NotBuilt(Exception):
    """The message is what was said first about an error, `output` all that was said."""

    def __init__(self, message: str, output: str = "") -> None:
        super().__init__(message)
        self.output = output


def refusal(error: NotBuilt, system: str) -> str:
    """What to tell a person who gets no package."""
    lines = [f"mps-conv-transpose3d was not built: {error}"]
    for pattern, (reason, command) in REMEDIES.items():
        if system == "Darwin" and re.search(pattern, f"{error}\n{error.output}"):
            lines += [reason, "", f"    {command}", ""]
            break
    return "\n".join([*lines, f"{VARIABLE}=0 installs the package without what has to be compiled."])


def first_error(output: str) -> str:
    """What is said first about an error, up to the end of the sentence; without one, what is said last."""
    errors = r"^ *CMake Error(?:.|\n)*?\.$|^.*\berror: .*$|^ld: .*$|^Undefined symbols.*\n.*$"
    found = re.search(errors, output, re.MULTILINE)
    return " ".join((found[0] if found else output.strip().rpartition("\n")[2]).split())


def cmake_prefixes() -> list[str]:
    """Where CMake finds the packages of this environment."""
    prefixes = []
    try:
        import torch

        prefixes.append(torch.utils.cmake_prefix_path)
    except ImportError:
        pass
    try:
        import pybind11

        prefixes.append(pybind11.get_cmake_dir())
    except ImportError:
        pass
    return prefixes


def run(command: list[object]) -> None:
    """Shows what the command says as it says it. Raises NotBuilt."""
    words = [str(word) for word in command]
    output = ""
    try:
        with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
            assert process.stdout is not None
            for line in process.stdout:
                print(line, end="", flush=True)
                output += line
    except OSError as error:
        raise NotBuilt(str(error)) from None
    if process.returncode:
        raise NotBuilt(first_error(output) or f"{words[0]} failed", output)


class CMakeBuild(build_ext):
    """Runs CMakeLists.txt; its install step fills the package."""

    def run(self) -> None:
        package = Path(self.build_lib).resolve() / "mps_conv_transpose3d"
        if self.inplace:
            package = ROOT / "python" / "mps_conv_transpose3d"
        package.mkdir(parents=True, exist_ok=True)
        for pattern in ("_bridge/*.so", "_plan*.so", "_plan*.pyd", "build.json"):
            for path in package.glob(pattern):
                path.unlink()  # of an earlier build
        bridge = wanted(os.environ, platform.system(), platform.machine())
        if bridge is Bridge.NONE:
            record(package, [f"{VARIABLE}=1"])
            return
        try:
            build, missing = configure(package)
            if missing and bridge is Bridge.REQUIRED:
                raise NotBuilt(f"for want of {', '.join(missing)}")
            run(["cmake", "--build", build, "--target", "install"])
            record(package, missing)
        except NotBuilt as error:
            if bridge is Bridge.REQUIRED:
                raise SystemExit(refusal(error, platform.system())) from None
            record(package, [f"a build without errors ({error})"])


def configure(package: Path) -> tuple[Path, list[str]]:
    """The folder in which CMake will build what goes into the package, and what was missing. Raises NotBuilt."""
    # CMake takes compilers and packages from its cache, whatever they have become since.
    prefixes = cmake_prefixes()
    environment = [os.environ.get("CMAKE_TOOLCHAIN_FILE", ""), sys.executable, *prefixes]
    build = ROOT / "build" / f"cmake-{zlib.crc32(repr(environment).encode()):08x}"
    run(
        [
            *("cmake", "-S", ROOT, "-B", build, "-G", "Ninja"),
            f"-DCMAKE_INSTALL_PREFIX={package}",
            f"-DCMAKE_PREFIX_PATH={';'.join(prefixes)}",
            f"-DPython_EXECUTABLE={sys.executable}",
            f"-DPYTHON_EXECUTABLE={sys.executable}",
        ]
    )
    return build, [name for name in (build / "missing").read_text().split(";") if name]


def record(package: Path, missing: list[str]) -> None:
    """Writes build.json: what was missing, and of each bridge the file, its digest, and for which torch it is.

    A torch is a release and the commit that it was built from: another's headers may be others. The digest is there so
    that a damaged bridge is never loaded.
    """
    # Metal, without which the package is inert, only a Mac can have.
    if platform.system() != "Darwin" and not list(package.glob("_bridge/*.so")):
        missing = list(dict.fromkeys([*missing, "METAL"]))
    bridges = []
    for path in sorted(package.glob("_bridge/*.so")):
        import torch

        release = {torch.__version__: str(torch.version.git_version)}
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        bridges.append({"file": path.name, "sha256": digest, "torch": release})
    (package / "build.json").write_text(json.dumps({"missing": missing, "bridges": bridges}) + "\n")


if __name__ == "__main__":
    setup(
        # Without a source of its own: CMake knows the sources. It makes the wheel one for this platform.
        ext_modules=[Extension("mps_conv_transpose3d._native", [])],
        cmdclass={"build_ext": CMakeBuild},
    )
