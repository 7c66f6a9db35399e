"""Lets autograd's thread for the device finish before Python ends.

`backward()` returns before that thread has given back what it held. Python ends a thread that asks for the interpreter
lock after finalisation began (before 3.14), and libtorch's thread cannot be ended so: the process aborts. That is
PyTorch's own race, on every device and whatever the program; with two busy cores it was lost in one run of twelve.
"""

from __future__ import annotations

import atexit
from pathlib import Path


def _device_thread_exists() -> bool:
    return any(name.read_text().startswith("pt_autograd") for name in Path("/proc/self/task").glob("*/comm"))


def _wait_for_device_thread() -> None:
    import torch

    if _device_thread_exists():
        # The thread serves one task after another: it begins this one when nothing is left of those before.
        torch.ones((), device="mps", requires_grad=True).backward()


def wait_at_exit() -> None:
    atexit.register(_wait_for_device_thread)
