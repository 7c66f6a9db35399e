"""Finds and loads the compiled operators, _bridge.so: a module of that name would be hidden by it."""

from __future__ import annotations

import functools
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import torch

PACKAGE = Path(__file__).parent
REBUILD = (
    "reinstall it beside this torch: pip install --force-reinstall --no-deps --no-build-isolation mps-conv-transpose3d"
)


@dataclass(frozen=True)
class Bridge:
    """How loading went."""

    error: str | None  # why the compiled operators cannot be used, with what to do; None when they are loaded
    may_have_mps: bool  # whether this machine can have an `mps` device to serve


@dataclass(frozen=True)
class Build:
    """What build.json says of the installed package."""

    torch: str  # the version that the bridge was built with; "" without a bridge
    missing: list[str]  # what a bridge would have needed
    sha256: str | None  # of the bridge


@functools.cache
def load() -> Bridge:
    """Load the operators into PyTorch, once. Raises nothing.

    Whether there is an `mps` device is not asked: PyTorch remembers its first answer for ever, and during
    `import torch` it may come too early. What can be known without asking: whether PyTorch was built for one, and
    whether Metal was there when this package was.
    """
    built_for_mps = torch.backends.mps.is_built()
    library = PACKAGE / "_bridge.so"
    try:
        build = read_build()
    except (OSError, ValueError) as error:
        reason = f"not installed by pip ({PACKAGE / 'build.json'}: {error}); {REBUILD}"
        return Bridge(reason, built_for_mps or library.exists())
    may_have_mps = built_for_mps or "METAL" not in build.missing
    if build.sha256 is None:
        reason = f"not built for want of {', '.join(build.missing) or library}"
        return Bridge(f"{reason}; {REBUILD}" if may_have_mps else reason, may_have_mps)
    try:
        _load(library, build)
    except Exception as error:
        return Bridge(f"{library}: {error}; {REBUILD}", True)
    return Bridge(None, True)


def read_build() -> Build:
    """What build.json says. Raises OSError or ValueError."""
    record = json.loads((PACKAGE / "build.json").read_text(encoding="utf-8"))
    if not isinstance(record, dict):
        raise ValueError("no record of a build")
    version, missing, sha256 = (record.get(key) for key in ("torch", "missing", "sha256"))
    lists_missing = isinstance(missing, list) and all(isinstance(name, str) for name in missing)
    if not (isinstance(version, str) and lists_missing and isinstance(sha256, (str, type(None)))):
        raise ValueError("no record of a build")
    return Build(version, missing, sha256)


def _load(library: Path, build: Build) -> None:
    """Raises OSError or RuntimeError."""
    if _minor(build.torch) != _minor(torch.__version__):
        raise RuntimeError(f"built for torch {build.torch}, but this is torch {torch.__version__}")
    # A file that was cut short, or replaced, can end the process once the loader maps it.
    if hashlib.sha256(library.read_bytes()).hexdigest() != build.sha256:
        raise RuntimeError("not the file that was installed")
    torch.ops.load_library(str(library))


def _minor(version: str) -> str:
    return ".".join(version.split("+")[0].split(".")[:2])
