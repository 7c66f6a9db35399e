"""Building a CMake project that knows nothing of the simulator: only CMAKE_TOOLCHAIN_FILE is set."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import mps_simulator
import torch


def build(source: Path, directory: Path) -> Path:
    """Configure and build `source` in `directory`, which is returned."""
    toolchain = Path(mps_simulator.__file__).parent / "cmake" / "toolchain.cmake"
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "CMAKE_TOOLCHAIN_FILE": str(toolchain), "PATH": path}
    configure = ["/usr/bin/env", "cmake", "-S", source, "-B", directory, "-G", "Ninja"]
    configure += [f"-DCMAKE_PREFIX_PATH={torch.utils.cmake_prefix_path}"]
    for command in (configure, ["/usr/bin/env", "cmake", "--build", directory]):
        result = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert result.returncode == 0, result.stdout + result.stderr
    return directory
