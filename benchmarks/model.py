"""A roofline model of Apple's GPUs: the time of a dispatch from what the simulator counted. Modelled, not measured.

    with mps_simulator.record(counters=True, accesses=20_000_000) as dispatches:
        y = run()
    chip = CHIPS["M1"]
    times = [time_of(dispatch.counters, chip) for dispatch in dispatches]
    limit = limit_of(useful_fma, compulsory_bytes, chip)
    print(sum(t.ms for t in times), limit.ms, fraction(times, limit), times[0].bound)

With `accesses`, a large grid runs in part: counters only, its results are not to be used. simulator/docs/counters.md
says how numbers are counted, benchmarks/README.md how far the model can be believed.

The time of a dispatch is the largest of four bounds, in seconds of a GPU whose cores are all busy:

    arithmetic   multiply-adds at 80 % of peak, and other operations at their cost
    on_core      bytes asked of device memory, and of threadgroup memory, at 64 bytes a cycle and core
    lines        lines that each threadgroup touches, at 32 bytes a cycle and core
    memory       what the last-level cache misses, at the memory's bandwidth

times ceil(waves) / waves: the last wave of threadgroups is as long as any other.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Protocol

from chips import Chip
from mps_conv_transpose3d import _planner

LEFT_OUT = (
    "Modelled, not measured. Left out: latency of memory, bank conflicts, coalescing within a line, instruction fetch, "
    "register spills, the cost of a launch, overlap of dispatches, clocks that sink under load."
)

_GPU = _planner.ask(about="gpu")
CORE = SimpleNamespace(**_GPU["core"])
CYCLES: dict[str, float] = _GPU["instructions"]  # in which a lane does nothing else

WORDS_OF_A_THREAD = 32  # beside matrices
# Where each instruction waits for the one before, a core needs `in_flight_when_busy` simdgroups. Multiply-adds of one
# simdgroup that do not wait for each other: those of different matrices, and of one matrix.
INDEPENDENT_MATRIX_FMAS = 4


class Counters(Protocol):
    """What is read of mps_simulator.Counters."""

    issued: dict[str, float]
    device_bytes: float
    threadgroup_bytes: float
    lines: float
    threadgroups: int
    threads_per_threadgroup: int
    threadgroup_memory: int
    matrix_bytes: int

    def traffic(self, cache_bytes: int, in_flight: int) -> tuple[float, float]: ...


class Refused(ValueError):
    """A kernel that needs more registers than a thread has: Metal would spill them to memory."""


@dataclass(frozen=True)
class Modelled:
    """The modelled time of a dispatch; its bounds in milliseconds, before the factor for waves."""

    chip: Chip
    bounds: dict[str, float]
    bound: str  # which of them holds
    ms: float
    moved_bytes: float  # to and from memory
    resident: int  # threadgroups on a core
    waves: float
    latency: float  # factor in the arithmetic bound, for too few simdgroups on a core


@dataclass(frozen=True)
class Limit:
    """What no kernel can beat: useful multiply-adds at 80 % of peak, or each byte moved once."""

    ms: float
    bound: str


def words_of(counters: Counters) -> int:
    """Registers of a thread, in words of 4 bytes: 2 for a live 8x8 float matrix, and 32."""
    return WORDS_OF_A_THREAD + math.ceil(counters.matrix_bytes / 4)


def resident_of(counters: Counters, chip: Chip) -> int:
    """Threadgroups on a core at a time.

    Raises:
        Refused: a thread needs more than 128 words.
    """
    words = words_of(counters)
    if words > CORE.max_words:
        raise Refused(f"{words} words of registers in a thread, more than {CORE.max_words}")
    threads = math.ceil(counters.threads_per_threadgroup / CORE.simd_width) * CORE.simd_width
    fit = min(
        CORE.registers // (4 * words * threads),
        CORE.max_threads // threads,
        CORE.threadgroup_memory // counters.threadgroup_memory if counters.threadgroup_memory else CORE.max_threads,
    )
    # A grid that does not fill the cores is spread over them.
    return max(1, min(fit, math.ceil(counters.threadgroups / chip.cores)))


def latency_of(counters: Counters, resident: int) -> float:
    """How much longer arithmetic takes because a core has too few simdgroups to hide its latency."""
    simdgroups = resident * math.ceil(counters.threads_per_threadgroup / CORE.simd_width)
    matrices = counters.issued["matrix_fma"] > counters.issued["fma"]
    return max(1.0, CORE.in_flight_when_busy / (simdgroups * (INDEPENDENT_MATRIX_FMAS if matrices else 1)))


def time_of(counters: Counters, chip: Chip) -> Modelled:
    """The modelled time of one dispatch.

    Raises:
        Refused: a thread needs more than 128 words of registers.
    """
    resident = resident_of(counters, chip)
    latency = latency_of(counters, resident)
    cycles = sum(CYCLES[name] * lanes for name, lanes in counters.issued.items()) / CORE.lanes
    read, written = counters.traffic(chip.cache_bytes, resident * chip.cores)
    seconds = {
        "arithmetic": latency * cycles / chip.cycles_per_second,
        "on_core": (counters.device_bytes + counters.threadgroup_bytes) / CORE.on_core_bytes / chip.cycles_per_second,
        "lines": counters.lines * CORE.line_bytes / CORE.l2_bytes / chip.cycles_per_second,
        "memory": (read + written) / (chip.bandwidth * 1e9),
    }
    bound = max(seconds, key=lambda name: seconds[name])
    waves = counters.threadgroups / (resident * chip.cores)
    return Modelled(
        chip=chip,
        bounds={name: 1e3 * s for name, s in seconds.items()},
        bound=bound,
        ms=1e3 * seconds[bound] * math.ceil(waves) / waves,
        moved_bytes=read + written,
        resident=resident,
        waves=waves,
        latency=latency,
    )


def limit_of(useful_fma: float, compulsory_bytes: float, chip: Chip) -> Limit:
    """The limit of an operation, however many dispatches it takes."""
    seconds = {
        "arithmetic": useful_fma / (CORE.attainable * CORE.lanes * chip.cycles_per_second),
        "memory": compulsory_bytes / (chip.bandwidth * 1e9),
    }
    bound = max(seconds, key=lambda name: seconds[name])
    return Limit(1e3 * seconds[bound], bound)


def fraction(times: Iterable[Modelled], limit: Limit) -> float:
    """The limit over the time of all dispatches of an operation, from 0 to 1.

    Raises:
        ValueError: the limit is not one: the operation was counted as more than its dispatches did.
    """
    value = limit.ms / sum(t.ms for t in times)
    if value > 1.02:  # counters of a part of a grid are not exact
        raise ValueError(f"the dispatches take 1/{value:.3f} of a limit that nothing can beat: it is too high")
    return min(value, 1.0)
