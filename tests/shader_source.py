"""The Metal source that the bridge is built with, as cmake/embed_metal.cmake joins it."""

from __future__ import annotations

import functools
import re
import shutil
import subprocess
import sysconfig
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


@functools.cache
def kernels() -> str:
    listed = re.search(r"set\(metal_sources\s(.*?)\)", (ROOT / "CMakeLists.txt").read_text(), re.DOTALL)
    sources = ";".join(listed[1].replace("${CMAKE_SOURCE_DIR}", str(ROOT)).split())
    cmake = shutil.which("cmake", path=sysconfig.get_path("scripts")) or "cmake"
    script = ROOT / "cmake" / "embed_metal.cmake"
    command = [cmake, f"-DSOURCES={sources}", "-DOUTPUT=/dev/stdout", "-P", script]
    written = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return re.search(r'R"METAL\((.*)\)METAL"', written, re.DOTALL)[1]
