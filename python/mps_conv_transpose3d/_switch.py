"""On and off."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator

import torch

from . import _bridge


def enable() -> None:
    """Have device ``mps`` compute ConvTranspose3d with our kernels.

    Without Metal on this machine nothing happens. Raises RuntimeError if our operators cannot be loaded.
    """
    if _bridge.load() is None:
        torch.ops.mps_conv_transpose3d.enable()


def disable() -> None:
    """Give PyTorch's dispatcher back as it was."""
    if is_enabled():
        torch.ops.mps_conv_transpose3d.disable()


def is_enabled() -> bool:
    """Whether our kernels are in PyTorch's dispatcher."""
    return unavailable_reason() is None and torch.ops.mps_conv_transpose3d.is_enabled()


@contextlib.contextmanager
def enabled(mode: bool = True) -> Iterator[None]:
    """Switch on (``mode=True``) or off for a while, then back to what it was. It holds for all threads."""
    before = is_enabled()
    (enable if mode else disable)()
    try:
        yield
    finally:
        (enable if before else disable)()


def unavailable_reason() -> str | None:
    """Why this machine cannot use our kernels; None where it can."""
    try:
        return _bridge.load()
    except _bridge.BridgeError as error:
        return str(error)


def _enable_at_import() -> None:
    try:
        enable()
    except Exception as error:
        warnings.warn(f"mps_conv_transpose3d cannot be used: {error}", RuntimeWarning, stacklevel=4)
