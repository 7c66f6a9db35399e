"""`pip install ./simulator`: what it asks of the registry of Python packages, and of Debian."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from interpreter import run_python

SIMULATOR = Path(__file__).resolve().parents[1]
SHADER = 'import torch\ntorch.mps.compile_shader("kernel void k(device float* x) { x[0] = 1; }")'


def test_it_asks_for_the_torch_that_it_is_tested_with() -> None:
    text = (SIMULATOR / "pyproject.toml").read_text()
    installed = torch.__version__.partition("+")[0]
    assert re.findall(r'"torch([^"]*)"', text.replace('"torch.backends"', "")) == [f"=={installed}"] * 2


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """The sources of the distribution, to be changed."""
    left_out = shutil.ignore_patterns("tests", "*.egg-info", "__pycache__")
    return Path(shutil.copytree(SIMULATOR, tmp_path / "simulator", ignore=left_out))


def pip_wheel(source: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pip", "wheel", "--no-build-isolation", "--no-deps", "-w", source.parent, source]
    # A compiler would be seen: there is none.
    environment = {**os.environ, "PATH": str(Path(sys.executable).parent), "MPS_SIMULATOR": "0"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_debian_packages_that_are_missing_are_named_at_once(source: Path) -> None:
    listed = source / "debian-packages.txt"
    listed.write_text(re.sub("(?m)^(lld-19|gobjc[+][+]) ", r"\1 /absent", listed.read_text()))
    result = pip_wheel(source)
    output = result.stdout + result.stderr
    assert result.returncode != 0
    assert "    apt-get install --no-install-recommends lld-19 gobjc++\n" in output
    assert "cmake" not in output and not list((source.parent / "build").rglob("CMakeCache.txt"))


@pytest.mark.parametrize("absent", [("lld-19",), ("llvm-19", "libclang-rt-19-dev"), ()])
def test_packages_that_a_shader_lacks_are_named_before_a_compiler_is_called(tmp_path: Path, absent) -> None:
    """A clang that lies where Debian's does, beside some of its companions, and tells that it was called."""
    llvm = tmp_path / "llvm-19"
    clang = llvm / "bin" / "clang++"
    files = {"lld-19": "bin/ld.lld", "llvm-19": "bin/llvm-symbolizer", "libclang-rt-19-dev": "lib/clang/19/lib"}
    for package, file in files.items():
        (llvm / file).parent.mkdir(parents=True, exist_ok=True)
        if package not in absent:
            (llvm / file).symlink_to(Path("/usr/lib/llvm-19") / file)
    clang.write_text("#!/bin/sh\necho called >&2\nexit 1\n")
    clang.chmod(0o755)
    result = run_python(SHADER, MPS_SIMULATOR_CLANG=str(clang), XDG_CACHE_HOME=str(tmp_path))
    assert result.returncode == 1
    named = f"    apt-get install --no-install-recommends {' '.join(absent)}\n"
    assert ("called" in result.stderr, named in result.stderr) == ((False, True) if absent else (True, False))
