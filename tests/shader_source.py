"""The Metal source that the bridge is built with, as cmake/embed_metal.cmake joins it."""

from __future__ import annotations

import functools
import re
import shutil
import subprocess
import sysconfig
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


@functools.cache
def kernels() -> str:
    listed = re.search(r"set\(metal_sources\s(.*?)\)", (ROOT / "CMakeLists.txt").read_text(), re.DOTALL)
    sources = ";".join(listed[1].replace("${CMAKE_SOURCE_DIR}", str(ROOT)).split())
    cmake = shutil.which("cmake", path=sysconfig.get_path("scripts")) or "cmake"
    with tempfile.TemporaryDirectory() as folder:
        text, output = Path(folder, "kernels.metal"), Path(folder, "shader_source.cpp")
        script = ROOT / "cmake" / "embed_metal.cmake"
        command = [cmake, f"-DSOURCES={sources}", f"-DTEXT={text}", f"-DOUTPUT={output}", "-P", script]
        subprocess.run(command, capture_output=True, check=True)
        return text.read_text()
