"""Builds with CMake and ninja, against the torch of the environment that it is installed into.

    pip install --no-build-isolation ./simulator

The build lies in build/simulator of the repository, so that installing again compiles only what has changed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

SOURCE = Path(__file__).resolve().parent
BUILD = SOURCE.parent / "build" / "simulator"


class CMakeBuild(build_ext):
    def build_extension(self, extension: Extension) -> None:
        package = Path(self.get_ext_fullpath(extension.name)).resolve().parent
        cmake = shutil.which("cmake") or "cmake"
        configure = [cmake, "-S", SOURCE, "-B", BUILD, "-G", "Ninja", f"-DPython_EXECUTABLE={sys.executable}"]
        configure += os.environ.get("CMAKE_ARGS", "").split()
        subprocess.run(configure, check=True)
        subprocess.run([cmake, "--build", BUILD], check=True)
        subprocess.run([cmake, "--install", BUILD, "--prefix", package], check=True)


setup(ext_modules=[Extension("mps_simulator._C", sources=[])], cmdclass={"build_ext": CMakeBuild})
