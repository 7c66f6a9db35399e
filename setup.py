"""Builds the native parts with CMake, as far as this machine allows.

Where torch, Metal or a compiler is missing, or the build fails, the Python package is installed alone and
``mps_conv_transpose3d`` says why when asked. ``MPS_CONV_TRANSPOSE3D_REQUIRE_BRIDGE=1`` makes that an error.
"""

import hashlib
import json
import os
import subprocess
import sys
import zlib
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent


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


class BuildError(Exception):
    """A command failed; the message is what it said first about an error."""


def run(command: list[object]) -> None:
    """Shows what the command says as it says it. Raises BuildError, or OSError if there is no such command."""
    words = [str(word) for word in command]
    lines = []
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            lines.append(line.strip())
    if process.returncode:
        errors = [line for line in lines if "error" in line.lower()] or lines[-1:] or [f"{words[0]} failed"]
        raise BuildError(errors[0])


def describe(package: Path) -> list[str]:
    """Writes the bridge's digest into build.json, so that a damaged one is never loaded; gives what is missing."""
    path, bridge = package / "build.json", package / "_bridge.so"
    build = json.loads(path.read_text())
    if bridge.exists():
        build["sha256"] = hashlib.sha256(bridge.read_bytes()).hexdigest()
    path.write_text(json.dumps(build) + "\n")
    return build["missing"]


class CMakeBuild(build_ext):
    """Runs CMakeLists.txt; its install step fills the package."""

    def run(self) -> None:
        package = Path(self.build_lib).resolve() / "mps_conv_transpose3d"
        if self.inplace:
            package = ROOT / "python" / "mps_conv_transpose3d"
        package.mkdir(parents=True, exist_ok=True)
        # CMake takes compilers and packages from its cache, whatever they have become since.
        environment = [os.environ.get("CMAKE_TOOLCHAIN_FILE", ""), sys.executable, *cmake_prefixes()]
        build = ROOT / "build" / f"cmake-{zlib.crc32(repr(environment).encode()):08x}"
        configure = [
            *("cmake", "-S", ROOT, "-B", build, "-G", "Ninja"),
            f"-DCMAKE_INSTALL_PREFIX={package}",
            f"-DCMAKE_PREFIX_PATH={';'.join(cmake_prefixes())}",
            f"-DPython_EXECUTABLE={sys.executable}",
            f"-DPYTHON_EXECUTABLE={sys.executable}",
        ]
        try:
            run(configure)
            run(["cmake", "--build", build, "--target", "install"])
            missing = describe(package)
        except (OSError, BuildError) as error:
            missing = [f"a build without errors ({error})"]
            (package / "_bridge.so").unlink(missing_ok=True)
            (package / "build.json").write_text(json.dumps({"torch": "", "missing": missing}) + "\n")
        if missing and os.environ.get("MPS_CONV_TRANSPOSE3D_REQUIRE_BRIDGE") == "1":
            raise SystemExit(f"mps-conv-transpose3d: not built for want of {', '.join(missing)}")


setup(
    # Without a source of its own: CMake knows the sources. It makes the wheel one for this platform.
    ext_modules=[Extension("mps_conv_transpose3d._native", [])],
    cmdclass={"build_ext": CMakeBuild},
)
