"""On and off."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Literal

import torch

from . import _composite, _loading

# What computes ConvTranspose3d on `mps`: our kernels, plain PyTorch operations, or (None) PyTorch itself.
Operators = Literal["kernels", "composite"]


def enable() -> None:
    """Have device ``mps`` compute ConvTranspose3d with our kernels, in float32, float16 and bfloat16.

    Where they cannot be loaded, plain PyTorch operations do it, right but slow, and a RuntimeWarning says at their
    first use what to do about it. On a machine that cannot have an ``mps`` device nothing happens. Raises nothing.
    """
    serve(_best())


def disable() -> None:
    """Give PyTorch's dispatcher back as it was. It holds for all threads, as ``enable`` does."""
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
    return _loading.load().error


def serving() -> Operators | None:
    """What computes ConvTranspose3d on ``mps`` now; None: PyTorch itself, as if this package were not there."""
    bridge = _loading.load()
    if bridge.error is None and torch.ops.mps_conv_transpose3d.is_enabled():
        return "kernels"
    return "composite" if _composite.is_enabled() else None


def serve(operators: Operators | None) -> None:
    """Have these compute it, and no others. Raises RuntimeError if the kernels are asked for and cannot be loaded."""
    bridge = _loading.load()
    before = serving()
    if operators == before:
        return
    if operators == "kernels" and bridge.error is not None:
        raise RuntimeError(f"mps_conv_transpose3d: {bridge.error}")
    if before == "kernels":
        torch.ops.mps_conv_transpose3d.disable()
    elif before == "composite":
        _composite.disable()
    if operators == "kernels":
        torch.ops.mps_conv_transpose3d.enable()
    elif operators == "composite":
        _composite.enable(_warning(bridge.error))


def _best() -> Operators | None:
    bridge = _loading.load()
    if bridge.error is None:
        return "kernels"
    return "composite" if bridge.may_have_mps else None


def _warning(error: str | None) -> str | None:
    """None where the composite was asked for although the kernels are there."""
    if error is None:
        return None
    return (
        "mps_conv_transpose3d computes ConvTranspose3d with plain PyTorch operations, right but slow, for want of its "
        f"kernels: {error}. More from: python -m mps_conv_transpose3d doctor"
    )
