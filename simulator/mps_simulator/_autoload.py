"""What ``import torch`` calls, through the entry-point group ``torch.backends``."""

from __future__ import annotations

import os
import warnings


def load() -> None:
    """Give torch its ``mps`` device. A failure is a warning: ``import torch`` goes on without the device."""
    if os.environ.get("MPS_SIMULATOR") == "0":
        return
    try:
        from mps_simulator import _device

        _device.install()
    except Exception as error:
        warnings.warn(f"mps_simulator: torch has no mps device, because: {error}", RuntimeWarning, stacklevel=2)
