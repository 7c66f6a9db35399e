"""Building a CMake project that knows nothing of the simulator: only CMAKE_TOOLCHAIN_FILE is set."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from filelock import FileLock

import mps_simulator


def build(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The build directory of `source`, which is built once however many test processes there are."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    directory = shared / source.name
    with FileLock(shared / f"{source.name}.lock"):
        if not directory.exists():
            _build(source, directory)
    return directory


def _build(source: Path, directory: Path) -> None:
    toolchain = Path(mps_simulator.__file__).parent / "cmake" / "toolchain.cmake"
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "CMAKE_TOOLCHAIN_FILE": str(toolchain), "PATH": path}
    configure = ["/usr/bin/env", "cmake", "-S", source, "-B", directory, "-G", "Ninja"]
    configure += [f"-DCMAKE_PREFIX_PATH={torch.utils.cmake_prefix_path}"]
    for command in (configure, ["/usr/bin/env", "cmake", "--build", directory]):
        result = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert result.returncode == 0, result.stdout + result.stderr
