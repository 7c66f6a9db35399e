"""The macOS wheels that the check reads: downloaded once, of each only what is needed kept in the user's cache."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
import zlib
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

ZIGLANG = "0.14.1"


# The first and the last patch release of each minor version that the package supports, from what
# `pip index versions torch --platform macosx_14_0_arm64 --python-version 3.11 --only-binary=:all:` lists.
RELEASES = (
    ("2.4.0", "2.4.1"),
    ("2.5.0", "2.5.1"),
    ("2.6.0",),
    ("2.7.0", "2.7.1"),
    ("2.8.0",),
    ("2.9.0", "2.9.1"),
    ("2.10.0",),
    ("2.11.0",),
    ("2.12.0", "2.12.1"),
    ("2.13.0",),
    ("2.14.0", "2.14.1"),
    ("2.15.0",),
)
# Of these, the last of the oldest minor version, the last whose headers are C++17, and those whose headers are C++20.
USUAL_RELEASES = ("2.4.1", "2.13.0", "2.14.1", "2.15.0")


@dataclass(frozen=True)
class Wheel:
    """A wheel for Apple silicon; `keep` are the patterns of the files kept, `stubs` the libraries reduced to stubs.

    `macos` is the version of the system that it is fetched for: the wheels of some releases differ by it.
    """

    name: str
    version: str
    keep: tuple[str, ...]
    stubs: tuple[str, ...] = ()
    macos: str = "14_0"

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


def torch(version: str) -> Wheel:
    # libtorch exports nothing: it is small already.
    kept = "torch/include/*", "torch/share/cmake/*", "torch/version.py", "torch/lib/libtorch.dylib"
    return Wheel("torch", version, kept, ("torch/lib/libc10.dylib", "torch/lib/libtorch_cpu.dylib"))


# Apple's metal-cpp, as of macOS 26 and as of macOS 13: what only the first has is newer than the macOS we build for.
METAL_CPP = Wheel("mlx-metal", "0.32.4", ("mlx/include/metal_cpp/*", "mlx/include/mlx/backend/metal/kernels/*"))
METAL_CPP_13 = Wheel("mlx", "0.10.0", ("mlx/include/metal_cpp/*",), macos="13_0")


class Unavailable(Exception):
    """Something that the check needs is not to be had; the message says what to do."""


# What is kept of a library beside its stub: what it leaves undefined, and its load commands.
FACTS = (".imports", ".commands")


def cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "mps-conv-transpose3d" / "mac"


def folder(wheel: Wheel) -> Path:
    """Where what is kept of the wheel lies; downloads it when it does not. Raises Unavailable."""
    kept = zlib.crc32(repr((wheel.keep, wheel.stubs, wheel.macos, FACTS)).encode())
    place = cache() / f"{wheel.name}-{wheel.version}-{kept:08x}"
    if place.is_dir():
        return place
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place.parent) as scratch:
        archive = _download(wheel, Path(scratch))
        unpacked = Path(scratch) / "unpacked"
        with zipfile.ZipFile(archive) as files:
            for name in files.namelist():
                if any(fnmatch(name, pattern) for pattern in (*wheel.keep, *wheel.stubs)):
                    files.extract(name, unpacked)
        for library in wheel.stubs:
            reduce(unpacked / library)
        try:
            unpacked.rename(place)  # whole or not at all: another check may be doing the same
        except OSError:
            if not place.is_dir():
                raise
    return place


def reduce(library: Path) -> None:
    """Puts a text stub, which linkers tell from a library by its content, in the place of a library of 400 MB."""
    stub = library.with_suffix(".tbd")
    command = [tool("llvm-readtapi"), "--stubify", "--filetype=tbd-v4", str(library), "-o", str(stub)]
    subprocess.run(command, capture_output=True, check=True)
    facts = undefined(library), load_commands(library)
    for suffix, text in zip(FACTS, facts):
        library.with_suffix(suffix).write_text(text)
    stub.replace(library)


def undefined(binary: Path) -> str:
    """llvm-nm's list of what a Mach-O file leaves undefined."""
    command = [tool("llvm-nm"), "--undefined-only", "-m", str(binary)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def load_commands(binary: Path) -> str:
    """llvm-otool's list of a Mach-O file's load commands."""
    return subprocess.run([tool("llvm-otool"), "-l", str(binary)], capture_output=True, text=True, check=True).stdout


def needed(listed: str) -> list[str]:
    """Of load commands: the install names of the libraries that the file needs, weakly or not."""
    return re.findall(r"cmd LC_LOAD(?:_WEAK)?_DYLIB\n.*\n\s*name (\S+)", listed)


def _download(wheel: Wheel, to: Path) -> Path:
    command = [
        *(sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"),
        *("--no-cache-dir", "--only-binary=:all:", f"--platform=macosx_{wheel.macos}_arm64", "--python-version=3.11"),
        *(f"--dest={to}", f"{wheel.name}=={wheel.version}"),
    ]
    # A constraint of the user's may hold torch below the version that is to be looked at.
    environment = {**os.environ, "PIP_CONSTRAINT": os.devnull}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    archives = list(to.glob("*.whl"))
    if done.returncode or not archives:
        raise Unavailable(f"cannot download {wheel} for macOS:\n{done.stderr.strip()}")
    return archives[0]


def ziglang() -> Path:
    """ziglang's `lib`: macOS's C headers, LLVM 19's libc++ headers and libSystem.tbd. Raises Unavailable."""
    spec = importlib.util.find_spec("ziglang")
    folders = spec.submodule_search_locations if spec else None
    version = importlib.metadata.version("ziglang") if folders else "absent"
    if not folders or version != ZIGLANG:
        raise Unavailable(f"ziglang is {version}: pip install ziglang=={ZIGLANG}")
    return Path(folders[0]) / "lib"


def tool(name: str) -> str:
    """The path of a program of LLVM 19. Raises Unavailable."""
    found = shutil.which(f"{name}-19")
    if found is None:
        raise Unavailable(f"no {name}-19: apt-get install clang-19 lld-19 llvm-19")
    return found
