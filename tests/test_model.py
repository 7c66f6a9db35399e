"""benchmarks/model.py, on counters made up so that each bound can be computed by hand."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

from chips import CHIPS, Chip
from model import CYCLES, Refused, fraction, latency_of, limit_of, resident_of, time_of, words_of

ROUND = Chip("round", cores=10, ghz=1.0, bandwidth=100, cache_mib=8, family=7)  # 1.28e12 multiply-adds a second


@dataclass
class Made:
    operations: dict = field(default_factory=dict)
    device_bytes: float = 0
    threadgroup_bytes: float = 0
    lines: float = 0
    threadgroups: int = 1000
    threads_per_threadgroup: int = 128
    threadgroup_memory: int = 0
    matrix_bytes: int = 0
    moved: tuple = (0, 0)

    @property
    def issued(self):
        return {**dict.fromkeys(CYCLES, 0), **self.operations}

    def traffic(self, cache_bytes, in_flight):
        assert cache_bytes == 8 << 20
        self.in_flight = in_flight
        return self.moved


def test_each_bound_by_hand():
    # 13 threadgroups of 128 threads fill the registers of a core: 130 in flight, 10 whole waves.
    even = {"threadgroups": 1300}
    assert time_of(Made({"matrix_fma": 1.28e9}, **even), ROUND).ms == pytest.approx(1 / 0.8)
    assert time_of(Made({"fma": 1.28e9, "integer": 1.28e9}, **even), ROUND).ms == pytest.approx(1 / 0.8 + 1)
    on_core = time_of(Made(device_bytes=3.2e8, threadgroup_bytes=3.2e8, **even), ROUND)
    assert on_core.ms == pytest.approx(1) and on_core.bound == "on_core"
    assert time_of(Made(lines=2.5e6, **even), ROUND).ms == pytest.approx(1)  # 3.2e8 bytes at 32 a cycle and core
    memory = time_of(Made({"fma": 1e6}, moved=(6e7, 4e7), **even), ROUND)
    assert memory.ms == pytest.approx(1) and memory.bound == "memory" and memory.moved_bytes == 1e8
    assert set(memory.bounds) == {"arithmetic", "on_core", "lines", "memory"}


def test_the_last_wave_is_as_long_as_the_others():
    whole = time_of(Made(lines=2.5e6, threadgroups=260), ROUND)
    more = time_of(Made(lines=2.5e6, threadgroups=261), ROUND)
    assert whole.waves == 2 and whole.ms == pytest.approx(1)
    assert more.ms == pytest.approx(3 * 130 / 261)
    # A grid smaller than the GPU is spread over the cores: one that has a threadgroup for each leaves none idle.
    assert time_of(Made(lines=2.5e6, threadgroups=10), ROUND).ms == pytest.approx(1)
    assert time_of(Made(lines=2.5e6, threadgroups=5), ROUND).ms == pytest.approx(2)


def test_what_is_resident():
    assert resident_of(Made(), ROUND) == 13  # 208 KiB of registers, 32 words a thread
    assert resident_of(Made(threads_per_threadgroup=1024), ROUND) == 1
    assert resident_of(Made(threadgroup_memory=20 * 1024), ROUND) == 3  # of 60 KiB
    sixteen = Made(matrix_bytes=24 * 8)  # 24 float matrices
    assert words_of(sixteen) == 32 + 2 * 24
    assert resident_of(sixteen, ROUND) == 208 * 1024 // (4 * 80 * 128)
    with pytest.raises(Refused, match="130 words"):
        resident_of(Made(matrix_bytes=49 * 8), ROUND)
    counters = Made(threadgroup_memory=20 * 1024)
    time_of(counters, ROUND)
    assert counters.in_flight == 30


def test_too_few_simdgroups_pay_for_latency():
    assert latency_of(Made(), 6) == 1  # 24 simdgroups
    assert latency_of(Made(), 3) == 2
    assert latency_of(Made({"matrix_fma": 1}), 3) == 1  # each has 4 multiply-adds in flight
    assert latency_of(Made({"matrix_fma": 1}), 1) == 24 / 16


def test_limit_and_fraction():
    compute = limit_of(1.28e9 * 0.8, 1e6, ROUND)
    assert (compute.ms, compute.bound) == (pytest.approx(1), "arithmetic")
    memory = limit_of(1, 2e8, ROUND)
    assert (memory.ms, memory.bound) == (pytest.approx(2), "memory")
    perfect = time_of(Made({"matrix_fma": 1.28e9 * 0.8}, threadgroups=1300), ROUND)
    assert fraction([perfect], compute) == pytest.approx(1)
    assert fraction([perfect, perfect], compute) == pytest.approx(0.5)
    with pytest.raises(ValueError, match="too high"):
        fraction([perfect], memory)


def test_peaks_of_the_chips():
    # TFLOP/s as metal-benchmarks gives them, for the older ones measured.
    for name, tflops in {"M1": 2.62, "M1 Max": 10.6, "M1 Ultra": 21.2, "M2": 3.58, "M2 Max": 13.6}.items():
        assert 2 * 128 * CHIPS[name].cycles_per_second / 1e12 == pytest.approx(tflops, rel=0.01)
