"""clang 19, the headers of the second reading, and the folder that keeps what need not be done again."""

from __future__ import annotations

import functools
import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

ROOT = Path(os.environ.get("MPS_SIMULATOR_ROOT") or Path(__file__).parents[1])
HEADERS = ROOT / "include" / "metal_declared"
NAME = "program_source"  # of a shader in clang's messages, as in Metal's


@functools.cache
def compiler() -> str:
    named = os.environ.get("MPS_SIMULATOR_CLANG")
    found = named or shutil.which("clang++-19") or shutil.which("/usr/lib/llvm-19/bin/clang++")
    if found is None:
        raise FileNotFoundError(
            "clang++-19, which reads Metal shaders here, is not installed: apt-get install clang-19"
        )
    return found


def clang(arguments: list[str], folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Raises RuntimeError unless all that clang has to say is of a shader."""
    command = [compiler(), "-fno-color-diagnostics", "-fno-caret-diagnostics", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace")
    if done.returncode and f"{NAME}:" not in done.stderr:
        raise RuntimeError(f"{' '.join(command)}:\n{done.stderr}")
    return done


def clang_on(text: str, arguments: list[str]) -> subprocess.CompletedProcess[str]:
    """Runs clang on a file of this text, which its messages call program_source."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / NAME).write_text(text)
        return clang([*arguments, NAME], Path(folder))


@functools.cache
def fingerprint() -> str:
    """Of all that the readings depend on beside the shader."""
    digest = hashlib.sha256()
    for program in (Path(compiler()).resolve(), ROOT / "lib" / "libmps_simulator.so"):
        if program.exists():
            digest.update(f"{program} {program.stat().st_size} {program.stat().st_mtime_ns}".encode())
    for file in sorted([*Path(__file__).parent.glob("*.py"), *(p for p in HEADERS.parent.rglob("*") if p.is_file())]):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def cache() -> Path:
    """A folder of this fingerprint, within the simulator's cache of compiled shaders, which is kept to its size."""
    base = os.environ.get("XDG_CACHE_HOME") or Path(os.environ.get("HOME") or tempfile.gettempdir()) / ".cache"
    folder = Path(base) / "mps-simulator" / "msl" / f"read-{fingerprint()}"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def keep(file: Path, content: bytes) -> None:
    """Writes a file of the cache, whole or not at all."""
    with tempfile.NamedTemporaryFile(dir=file.parent, delete=False) as partial:
        partial.write(content)
    os.replace(partial.name, file)
