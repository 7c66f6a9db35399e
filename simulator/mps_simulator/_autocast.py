"""What the ``torch.autocast`` of older versions of PyTorch refuses on ``mps``."""

from __future__ import annotations

import warnings
from typing import Any

import torch


def install(version: tuple[int, int]) -> None:
    if version < (2, 5):
        _refuse_mps()
    elif version < (2, 6):
        _refuse_all_but_float16()


def _refuse_mps() -> None:
    is_available = torch._C._is_autocast_available
    torch._C._is_autocast_available = lambda device: device != "mps" and is_available(device)


def _refuse_all_but_float16() -> None:
    autocast = torch.amp.autocast_mode.autocast
    plain_init = autocast.__init__

    def init(
        self: Any,
        device_type: str,
        dtype: torch.dtype | None = None,
        enabled: bool = True,
        cache_enabled: bool | None = None,
    ) -> None:
        if device_type == "mps" and enabled and dtype not in (None, torch.float16):
            warnings.warn(
                "In MPS autocast, but the target dtype is not supported. Disabling autocast.\n"
                "MPS Autocast only supports dtype of torch.float16 currently.",
                stacklevel=2,
            )
            enabled = False
        plain_init(self, device_type, dtype, enabled, cache_enabled)

    autocast.__init__ = init  # type: ignore[method-assign]
