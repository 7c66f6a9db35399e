"""Builds with CMake and ninja, against torch of the version that pyproject.toml names.

    pip install ./simulator                         # in any environment; what it needs comes with it
    pip install --no-build-isolation ./simulator    # against the torch of this environment

The build lies in build/simulator of the repository, so that installing again compiles only what has changed.
"""

from __future__ import annotations

import glob
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

SOURCE = Path(__file__).resolve().parent
BUILD = SOURCE.parent / "build" / "simulator"


def missing_packages() -> list[str]:
    """The Debian packages without which nothing can be compiled, neither here nor when a shader is run."""
    needed = [line.split() for line in (SOURCE / "debian-packages.txt").read_text().splitlines()]
    needed.append(["python3-dev", str(Path(sysconfig.get_paths()["include"]) / "Python.h")])
    return [package for package, file in needed if not glob.glob(file)]


class CMakeBuild(build_ext):
    def build_extension(self, extension: Extension) -> None:
        if missing := missing_packages():
            raise SystemExit(
                "mps-simulator needs Debian packages that are not installed. As root:\n\n"
                f"    apt-get install --no-install-recommends {' '.join(missing)}\n"
            )
        package = Path(self.get_ext_fullpath(extension.name)).resolve().parent
        for installed in ("lib", "include", "cmake"):
            shutil.rmtree(package / installed, ignore_errors=True)  # of an earlier build
        # cmake and ninja of this environment, which need not be the active one.
        environment = {**os.environ, "PATH": os.pathsep.join([sysconfig.get_path("scripts"), os.environ["PATH"]])}

        def cmake(*arguments: str | Path) -> None:
            subprocess.run(
                [shutil.which("cmake", path=environment["PATH"]) or "cmake", *arguments], check=True, env=environment
            )

        options = [f"-DPython_EXECUTABLE={sys.executable}", *os.environ.get("CMAKE_ARGS", "").split()]
        cmake("-S", SOURCE, "-B", BUILD, "-G", "Ninja", *options)
        cmake("--build", BUILD)
        cmake("--install", BUILD, "--prefix", package)


setup(
    ext_modules=[Extension("mps_simulator._C", sources=[])],
    cmdclass={"build_ext": CMakeBuild},
    options={"build": {"build_base": str(BUILD.parent / "simulator-wheel")}},
)
