"""Builds with CMake and ninja, against the torch of the environment that it is installed into.

    pip install --no-build-isolation ./simulator

The build lies in build/simulator of the repository, so that installing again compiles only what has changed.
"""

from __future__ import annotations

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


class CMakeBuild(build_ext):
    def build_extension(self, extension: Extension) -> None:
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
