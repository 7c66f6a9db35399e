"""What the device ran, in order, and what each dispatch did, counted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Counters:
    """What one dispatch did: simulator/docs/counters.md tells how each number comes about.

    ``executed`` and ``issued`` map the classes of operations ("fma", "matrix_fma", "integer" ...) to how many were
    executed by lanes, and how many lanes of simdgroups were busy with them, active or not. Bytes are those that
    simdgroups ask for, an address once. ``lines`` are the lines of 128 bytes that each threadgroup touches, summed.
    ``matrix_bytes`` is the most that a lane held of simdgroup matrices at a time. ``counted`` of the ``threadgroups``
    really ran; where these are fewer, the other numbers are scaled.
    """

    executed: dict[str, float]
    issued: dict[str, float]
    device_bytes: float
    constant_bytes: float
    threadgroup_bytes: float
    lines: float
    barriers: float
    threadgroups: int
    threads_per_threadgroup: int
    threadgroup_memory: int
    matrix_bytes: int
    counted: int
    _traffic: Callable[[int, int], tuple[float, float]] = field(repr=False, compare=False)

    @property
    def fma(self) -> float:
        """Multiply-adds executed, of scalars and of simdgroup matrices."""
        return self.executed["fma"] + self.executed["matrix_fma"]

    def traffic(self, cache_bytes: int, in_flight: int) -> tuple[float, float]:
        """Bytes read from and written to memory, by a last-level cache of this size and replaced by least recent use.

        The cache is empty at first; ``in_flight`` threadgroups run at a time, in the order of dispatch.
        """
        return self._traffic(cache_bytes, in_flight)


@dataclass(frozen=True)
class Dispatch:
    """One compute dispatch: the Metal function's name, its grid and threadgroup in threads, its label, and its place.

    ``command_buffer`` numbers the command buffers of a recording in which dispatches ran, from 0 on: where it changes,
    there was a commit. ``barriers_before`` and ``barriers_after`` count the memory barriers for buffers between this
    dispatch and its neighbours in the same encoder, or the encoder's begin and end.
    """

    kernel: str
    grid: tuple[int, int, int]
    threads_per_threadgroup: tuple[int, int, int]
    label: str
    command_buffer: int
    barriers_before: int
    barriers_after: int
    counters: Counters | None = None


class Recording(list[Dispatch]):
    """The dispatches, a list of :class:`Dispatch`; ``operators`` names what ran on the CPU ("aten::add.out")."""

    def __init__(self) -> None:
        super().__init__()
        self.operators: list[str] = []


@contextmanager
def record(*, counters: bool = False, accesses: int | None = None) -> Iterator[Recording]:
    """Record what runs inside the ``with`` block, on every stream and thread.

    The list is filled when the block is left, after a synchronisation, which raises the error of a kernel that failed.

    With ``counters``, each dispatch has :class:`Counters`, and takes about ten times as long; results are the same.
    ``accesses`` bounds that: of a grid that makes more accesses to memory, a part runs, and **the results are then not
    to be used**. 10 to 40 million are enough for the model in ``benchmarks/``.

    Raises:
        ValueError: ``accesses`` is not positive, or given without ``counters``.
    """
    import torch

    from mps_simulator import _C

    if accesses is not None and (accesses <= 0 or not counters):
        raise ValueError("accesses must be positive, and needs counters=True")
    torch.mps.synchronize()
    recording = Recording()
    handle = _C.open_recording((accesses or 0) if counters else None)
    try:
        yield recording
    finally:
        try:
            torch.mps.synchronize()
        finally:
            dispatches, recording.operators = _C.close_recording(handle)
            numbers: dict[int, int] = {}
            for kernel, grid, threads, label, buffer, before, after, counted in dispatches:
                number = numbers.setdefault(buffer, len(numbers))
                counters_of_it = Counters(**counted) if counted else None
                recording.append(Dispatch(kernel, grid, threads, label, number, before, after, counters_of_it))
