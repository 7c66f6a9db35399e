"""How the forward pass by phases is cut: the tiles that the planner gives to the kernel, looked at place by place."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from cases import DTYPES, NETWORKS, SWEEP, TILE_EDGES, Case
from mps_conv_transpose3d import _planner

LARGE_KERNELS = [
    Case("kernel_5", (1, 16, 9, 10, 11), (16, 16, 5, 5, 5), stride=(2, 2, 2)),
    Case("kernel_7", (1, 16, 9, 10, 11), (16, 64, 7, 7, 7)),
    Case("kernel_10", (1, 16, 12, 12, 12), (16, 64, 10, 10, 10)),
    Case("kernel_29", (1, 16, 1, 1, 64), (16, 8, 1, 1, 29)),
    Case("far_apart", (1, 16, 20, 6, 40), (16, 8, 2, 1, 2), dilation=(13, 1, 15)),
    Case("many_phases", (1, 16, 6, 7, 8), (16, 16, 9, 9, 9), stride=(4, 4, 4)),
]
CASES = [case for case in [*NETWORKS, *SWEEP, *TILE_EDGES, *LARGE_KERNELS] if len(case.input) == 5 and case.input[0]]


def dispatch_of(case: Case, dtype: str = "float32") -> _planner.Dispatch:
    (dispatch,) = _planner.plans(case, dtype, cores=10, algorithm="polyphase_gemm")["forward"].dispatches
    return dispatch


def tile_of(case: Case) -> SimpleNamespace | None:
    """None where the matrix kernels cannot compute it."""
    dispatch = dispatch_of(case)
    return SimpleNamespace(**dispatch.polyphase_tile) if dispatch.algorithm == "polyphase_gemm" else None


def places(size: list[int]) -> Iterator[tuple[int, ...]]:
    return itertools.product(*map(range, size))


def by_reciprocal(index: int, size: list[int], reciprocal: list[int]) -> tuple[int, int, int]:
    """As in the kernel; the first of the three may go on beyond its size."""
    row = index * reciprocal[2] >> 16
    plane = row * reciprocal[1] >> 16
    return plane, row - plane * size[1], index - row * size[2]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_shift_finds_its_input(case: Case) -> None:
    t = tile_of(case)
    if t is None:
        pytest.skip("more shifts than the matrix kernels have bits")
    staged = {}
    volume = math.prod(t.staged)
    for index in range(volume * t.copies):
        plane, h, w = by_reciprocal(index, t.staged, t.staged_reciprocal)
        copy = plane // t.staged[0]
        copy_w = copy // t.copies_h
        staged[index] = (plane - copy * t.staged[0], h + copy - copy_w * t.copies_h, w + copy_w)
    assert t.positions >= volume * t.copies
    pitches = [pitch // 8 for pitch in t.pitch]  # 8 channels of a position are neighbours
    for row, position in enumerate(places(t.box)):
        assert by_reciprocal(row, t.box, t.box_reciprocal) == position
        first = by_reciprocal(row - row % 8, t.box, t.box_reciprocal)
        index = (first[0] * t.staged[1] + first[1]) * t.staged[2] + first[2] + row % 8
        for shift in places(t.shifts):
            expected = tuple(p + s for p, s in zip(position, shift))
            assert staged[index + sum(s * pitch for s, pitch in zip(shift, pitches))] == expected
    # A last fragment that is not full reads nothing that is not staged.
    end = math.ceil(t.rows / 8) * 8 - t.rows + index + sum((s - 1) * pitch for s, pitch in zip(t.shifts, pitches))
    assert end < t.positions


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_tile_fits(case: Case) -> None:
    t = tile_of(case)
    if t is None:
        pytest.skip("more shifts than the matrix kernels have bits")
    for size, count, output, stride in zip(t.box, t.boxes, case.output[2:], case.stride):
        assert size * (count - 1) < math.ceil(output / stride) <= size * count
    most = _planner.ask(about="algorithms")["max_polyphase_elements"]
    for dtype in DTYPES:
        dispatch = dispatch_of(case, dtype)
        threads = dispatch.threads_per_threadgroup[0]
        assert 32 <= threads <= 256 and threads % 32 == 0 and t.fragment_rows in (1, 2)
        assert threads // 32 == math.ceil(t.rows / (8 * t.fragment_rows))
        assert t.positions <= 4 * threads
        # 8 channels of each; what is over holds the weights, and the simulator's checks see to that.
        assert t.positions * 8 < most
        assert dispatch.threads[0] % threads == 0
    assert math.prod(t.shifts) <= 32
