"""The macOS wheels that the check reads: downloaded once, of each only what is needed kept in the user's cache."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

ZIGLANG = "0.14.1"


@dataclass(frozen=True)
class Wheel:
    """A wheel for Apple silicon; `keep` are the patterns of the files kept."""

    name: str
    version: str
    keep: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


TORCH = Wheel(
    "torch",
    "2.13.0",
    (
        "torch/include/*",
        "torch/share/cmake/*",
        "torch/lib/libc10.dylib",
        "torch/lib/libtorch.dylib",
        "torch/lib/libtorch_cpu.dylib",
    ),
)
# Apple's metal-cpp, as of macOS 26 and as of macOS 14: what only the first has is newer than the macOS we build for.
METAL_CPP = Wheel("mlx-metal", "0.32.4", ("mlx/include/metal_cpp/*",))
METAL_CPP_14 = Wheel("mlx", "0.10.0", ("mlx/include/metal_cpp/*",))


class Unavailable(Exception):
    """Something that the check needs is not to be had; the message says what to do."""


def cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "mps-conv-transpose3d" / "mac"


def folder(wheel: Wheel) -> Path:
    """Where the wheel lies unpacked; downloads it when it does not. Raises Unavailable."""
    place = cache() / f"{wheel.name}-{wheel.version}"
    if place.is_dir():
        return place
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place.parent) as scratch:
        archive = _download(wheel, Path(scratch))
        unpacked = Path(scratch) / "unpacked"
        with zipfile.ZipFile(archive) as files:
            for name in files.namelist():
                if any(fnmatch(name, pattern) for pattern in wheel.keep):
                    files.extract(name, unpacked)
        try:
            unpacked.rename(place)  # whole or not at all: another check may be doing the same
        except OSError:
            if not place.is_dir():
                raise
    return place


def _download(wheel: Wheel, to: Path) -> Path:
    command = [
        *(sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"),
        *("--only-binary=:all:", "--platform=macosx_14_0_arm64", "--python-version=3.11", f"--dest={to}"),
        f"{wheel.name}=={wheel.version}",
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    archives = list(to.glob("*.whl"))
    if done.returncode or not archives:
        raise Unavailable(f"cannot download {wheel} for macOS:\n{done.stderr.strip()}")
    return archives[0]


def ziglang() -> Path:
    """ziglang's `lib`: macOS's C headers, LLVM 19's libc++ headers and libSystem.tbd. Raises Unavailable."""
    spec = importlib.util.find_spec("ziglang")
    version = importlib.metadata.version("ziglang") if spec else "absent"
    if version != ZIGLANG:
        raise Unavailable(f"ziglang is {version}: pip install ziglang=={ZIGLANG}")
    return Path(spec.submodule_search_locations[0]) / "lib"


def tool(name: str) -> str:
    """The path of a program of LLVM 19. Raises Unavailable."""
    found = shutil.which(f"{name}-19")
    if found is None:
        raise Unavailable(f"no {name}-19: apt-get install clang-19 lld-19 llvm-19")
    return found
