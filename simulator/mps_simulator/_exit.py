"""Lets autograd's threads finish before Python ends.

`backward()` returns before the device's thread has given back what it held, and for that the thread asks for the
interpreter lock. A thread that asks after finalisation began is ended there (before Python 3.14), and libtorch's cannot
be: the process aborts. That is PyTorch's own race, on every device; two busy cores lost it in one run of twelve.
"""

from __future__ import annotations

import atexit
import time
from pathlib import Path

import torch


def _threads() -> list[Path]:
    tasks = Path("/proc/self/task").iterdir()
    return [task for task in tasks if (task / "comm").read_text().startswith("pt_autograd")]


def _asleep(thread: Path) -> bool:
    return (thread / "stat").read_text().rpartition(")")[2].split()[0] == "S"


def _wait() -> None:
    if not _threads():
        return
    # The thread serves one task after another: it begins this one when nothing is left of those before.
    torch.ones((), device="mps", requires_grad=True).backward()
    # What it still holds of this one it gives back while the lock is free. Then it sleeps.
    while True:
        time.sleep(0.001)
        if all(map(_asleep, _threads())):
            break
    time.sleep(0.001)


def wait_at_exit() -> None:
    atexit.register(_wait)
