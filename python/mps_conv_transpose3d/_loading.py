"""Finds and loads the compiled operators, _bridge.so: a module of that name would be hidden by it."""

from __future__ import annotations

import functools
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


@functools.cache
def load() -> Bridge:
    """Load the operators into PyTorch, once. Raises nothing.

    Whether there is an `mps` device is not asked: PyTorch remembers its first answer for ever, and during
    `import torch` it may come too early. What can be known without asking: whether PyTorch was built for one, and
    whether Metal was there when this package was.
    """
    built_for_mps = torch.backends.mps.is_built()
    try:
        build = json.loads((PACKAGE / "build.json").read_text())
        built_with, missing = str(build["torch"]), list(build["missing"])
    except (OSError, ValueError, LookupError, TypeError) as error:
        return Bridge(f"not installed by pip ({error})", built_for_mps)
    library = PACKAGE / "_bridge.so"
    may_have_mps = built_for_mps or "METAL" not in missing
    if not library.exists():
        reason = f"not built for want of {', '.join(missing) or library.name}"
        return Bridge(f"{reason}; {REBUILD}" if may_have_mps else reason, may_have_mps)
    if _minor(built_with) != _minor(torch.__version__):
        return Bridge(f"built for torch {built_with}, but this is torch {torch.__version__}; {REBUILD}", True)
    try:
        torch.ops.load_library(str(library))
    except (OSError, RuntimeError) as error:
        return Bridge(f"{error}; {REBUILD}", True)
    return Bridge(None, True)


def _minor(version: str) -> str:
    return ".".join(version.split("+")[0].split(".")[:2])
