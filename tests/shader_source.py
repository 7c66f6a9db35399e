"""The Metal sources that the bridge is built with, as cmake/embed_metal.cmake makes them."""

from __future__ import annotations

import functools
import re
import shutil
import subprocess
import sysconfig
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
METAL = ROOT / "metal"


def kernel_files() -> list[str]:
    """The names of the sources, each a library of its own, without their suffix."""
    return re.search(r"set\(kernel_files (.*?)\)", (ROOT / "CMakeLists.txt").read_text())[1].split()


def embed(sources: list[Path], folder: Path) -> subprocess.CompletedProcess[str]:
    """Makes folder/NAME.metal and folder/shader_source.cpp of these sources."""
    cmake = shutil.which("cmake", path=sysconfig.get_path("scripts")) or "cmake"
    defined = {"SOURCES": ";".join(map(str, sources)), "TEXTS": folder, "OUTPUT": folder / "shader_source.cpp"}
    script = ROOT / "cmake" / "embed_metal.cmake"
    command = [cmake, *(f"-D{name}={value}" for name, value in defined.items()), "-P", script]
    return subprocess.run(command, capture_output=True, text=True)


@functools.cache
def kernels() -> dict[str, str]:
    """The text of each source, and of all that it includes."""
    with tempfile.TemporaryDirectory() as folder:
        embed([METAL / f"{name}.metal" for name in kernel_files()], Path(folder)).check_returncode()
        return {name: Path(folder, f"{name}.metal").read_text() for name in kernel_files()}
