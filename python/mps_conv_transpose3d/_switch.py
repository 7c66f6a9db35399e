"""On and off."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Literal

import torch

from . import _fallback, _loading

# What computes ConvTranspose3d on `mps`: our kernels; what serves without them (_fallback.py); plain PyTorch operations
# alone, for tests and measurements; or (None) PyTorch itself.
Backend = Literal["kernels", "fallback", "composite"]


def enable() -> None:
    """Have device ``mps`` compute ConvTranspose3d with our kernels, in float32, float16 and bfloat16.

    Where they cannot be loaded, PyTorch's own operator serves what it can and plain PyTorch operations the rest, and a
    RuntimeWarning says at their first use what to do about it. On a machine that cannot have an ``mps`` device nothing
    happens. The first call writes into PyTorch's dispatcher and is not safe beside running convolutions; importing the
    package makes it. Raises RuntimeError if MPS_CONV_TRANSPOSE3D_ALGORITHM names no algorithm, and nothing else.
    """
    serve(_best())


def disable() -> None:
    """Leave ConvTranspose3d to PyTorch, as if this package were not there. Holds for all threads, as ``enable`` does.

    What ``enable`` wrote into PyTorch's dispatcher stays there, and goes on to PyTorch's own functions.
    """
    serve(None)


def is_enabled() -> bool:
    """Whether it is this package that computes ConvTranspose3d on device ``mps``."""
    return serving() is not None


@contextlib.contextmanager
def enabled(mode: bool = True) -> Iterator[None]:
    """Switch on (``mode=True``) or off for a while, then back to what it was. It holds for all threads."""
    before = serving()
    serve(_best() if mode else None)
    try:
        yield
    finally:
        serve(before)


def unavailable_reason() -> str | None:
    """Why this machine cannot use our kernels, and what to do; None where it can."""
    bridge = _loading.load()
    if bridge.error is None and torch.backends.mps.is_available():
        return torch.ops.mps_conv_transpose3d.unavailable_reason()
    return bridge.error


def serving() -> Backend | None:
    """What computes ConvTranspose3d on ``mps`` now; None: PyTorch itself, as if this package were not there."""
    if _loading.load().error is None:
        return torch.ops.mps_conv_transpose3d.serving()
    return "fallback" if _fallback.serves() else None


def serve(backend: Backend | None) -> None:
    """Have this compute it. Raises RuntimeError if it takes the bridge, and that cannot be loaded."""
    bridge = _loading.load()
    if bridge.error is None:
        if backend is not None:
            _fallback.serve_behind_bridge(composite_only=backend == "composite")
        torch.ops.mps_conv_transpose3d.serve(backend)
    elif backend is None:
        _fallback.stop()
    elif backend == "fallback":
        _fallback.serve(bridge.error)
    else:
        raise RuntimeError(f"mps_conv_transpose3d: {bridge.error}")


def _best() -> Backend | None:
    bridge = _loading.load()
    if bridge.error is None:
        return "kernels"
    return "fallback" if bridge.may_have_mps else None
