"""Finds and loads the compiled operators."""

from __future__ import annotations

import functools
import json
import sys
from pathlib import Path

import torch

PACKAGE = Path(__file__).parent
REBUILD = "reinstall it beside this torch: pip install --force-reinstall --no-deps --no-build-isolation mps-conv-transpose3d"


class BridgeError(RuntimeError):
    """The compiled operators are there, or ought to be, and cannot be used."""


def _minor(version: str) -> str:
    return ".".join(version.split("+")[0].split(".")[:2])


@functools.cache
def load() -> str | None:
    """Load the operators into PyTorch, once.

    Returns None, or why this machine has none: it has no Metal, so there is no ``mps`` device to serve.
    Raises BridgeError, with what to do, where they should work and do not.
    """
    try:
        build = json.loads((PACKAGE / "build.json").read_text())
    except OSError as error:
        return f"not installed by pip ({error})"
    library = PACKAGE / "_bridge.so"
    if not library.exists():
        reason = f"not built for want of {', '.join(build['missing'])}"
        if sys.platform == "darwin":
            raise BridgeError(f"{reason}; {REBUILD}")
        return reason
    if _minor(build["torch"]) != _minor(torch.__version__):
        raise BridgeError(f"built for torch {build['torch']}, but this is torch {torch.__version__}; {REBUILD}")
    try:
        torch.ops.load_library(str(library))
    except OSError as error:
        raise BridgeError(f"{error}; {REBUILD}") from error
    return None
