"""What the device ran, in order."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True)
class Dispatch:
    """One compute dispatch: the Metal function's name, its grid and threadgroup in threads, and its label."""

    kernel: str
    grid: tuple[int, int, int]
    threads_per_threadgroup: tuple[int, int, int]
    label: str


class Recording(list[Dispatch]):
    """The dispatches, a list of :class:`Dispatch`; ``operators`` names what ran on the CPU ("aten::add.out")."""

    def __init__(self) -> None:
        super().__init__()
        self.operators: list[str] = []


@contextmanager
def record() -> Iterator[Recording]:
    """Record what runs inside the ``with`` block, on every stream and thread.

    The list is filled when the block is left, after a synchronisation, which raises the error of a kernel that failed.
    """
    import torch

    from mps_simulator import _C

    torch.mps.synchronize()
    recording = Recording()
    handle = _C.open_recording()
    try:
        yield recording
    finally:
        try:
            torch.mps.synchronize()
        finally:
            dispatches, recording.operators = _C.close_recording(handle)
            recording.extend(Dispatch(*dispatch) for dispatch in dispatches)
