"""This machine: versions, the device and its memory. For people and for the records of measurements."""

from __future__ import annotations

import os
import platform
import subprocess
from typing import Any

import torch

from . import _loading
from ._version import __version__

# What changes how PyTorch or this package behaves on `mps`.
VARIABLES = (
    "MPS_CONV_TRANSPOSE3D",
    "PYTORCH_ENABLE_MPS_FALLBACK",
    "PYTORCH_MPS_HIGH_WATERMARK_RATIO",
    "PYTORCH_MPS_LOW_WATERMARK_RATIO",
    "PYTORCH_MPS_FAST_MATH",
    "PYTORCH_MPS_PREFER_METAL",
    "TORCH_DEVICE_BACKEND_AUTOLOAD",
)


def has_mps() -> bool:
    """Whether PyTorch has an `mps` device here."""
    return torch.backends.mps.is_available()


def device_name() -> str | None:
    """As PyTorch reports it, "Apple M1"; None without a device."""
    if not has_mps():
        return None
    for get_name in (getattr(torch.backends.mps, "get_name", None), getattr(torch._C, "_mps_get_name", None)):
        if get_name is not None:
            return str(get_name())
    return _processor()  # older PyTorch has no name for it


def gpu_cores() -> int | None:
    """None without a device, or where PyTorch cannot tell (before 2.9)."""
    get_core_count = getattr(torch.backends.mps, "get_core_count", None)
    return int(get_core_count()) or None if has_mps() and get_core_count is not None else None


def is_simulated() -> bool:
    """Whether the `mps` device is not Apple's: then no time measured on it says anything about a Mac."""
    return has_mps() and platform.system() != "Darwin"


def has_wrong_conv3d() -> bool:
    """Whether PyTorch's own Conv3d is silently wrong here: from torch 2.14 on, on macOS 26.2 (pytorch issue 197114)."""
    macos = platform.mac_ver()[0].split(".")[:2]
    version = tuple(int(part) for part in torch.__version__.split("+")[0].split(".")[:2])
    return platform.system() == "Darwin" and macos == ["26", "2"] and version >= (2, 14)


def usable_memory() -> int | None:
    """Bytes that Metal recommends to stay below; None where PyTorch cannot tell (before 2.5, or without a device)."""
    if not has_mps() or not hasattr(torch.mps, "recommended_max_memory"):
        return None
    return int(torch.mps.recommended_max_memory())


def memory_limit() -> int | None:
    """Bytes at which PyTorch's allocator gives up: by default 1.7 times what Metal recommends. None: no limit known."""
    usable = usable_memory()
    ratio = float(os.environ.get("PYTORCH_MPS_HIGH_WATERMARK_RATIO", "1.7"))
    return int(usable * ratio) if usable is not None and ratio > 0 else None


def describe() -> dict[str, Any]:
    """All of it, ready for JSON."""
    return {
        "mps_conv_transpose3d": __version__,
        "built_for_torch": _built_for(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "system": f"macOS {platform.mac_ver()[0]}" if platform.system() == "Darwin" else platform.platform(),
        "processor": _processor(),
        "device": device_name(),
        "simulated": is_simulated(),
        "usable_memory": usable_memory(),
        "environment": {name: os.environ[name] for name in VARIABLES if name in os.environ},
    }


def _built_for() -> str | None:
    try:
        return ", ".join(_loading.read_build().releases) or None
    except (OSError, ValueError):
        return None


def _processor() -> str:
    if platform.system() == "Darwin":
        command = ["sysctl", "-n", "machdep.cpu.brand_string"]
        try:
            return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
        except (OSError, subprocess.CalledProcessError):
            pass
    return platform.machine()
