"""Infinities and NaN: where they come out, and that none is hidden. docs/accuracy.md says why.

One number of one operand is made infinite or NaN. Every element with a product of it must show it; elements that a
kernel reaches by multiplying it with a zero outside of a tensor may; all others must be as if it were finite.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
import torch

from cases import Case
from reference import DTYPES, assert_accurate, forward_and_backward, make_tensors, map_tensors

CASES = [
    Case("kernel_equals_stride", (2, 16, 4, 4, 5), (16, 8, 2, 2, 2), stride=(2, 2, 2)),
    Case("overlapping", (2, 16, 4, 5, 4), (16, 8, 3, 3, 3), True, (2, 2, 2), (1, 1, 1), (1, 1, 1)),
    Case("one_voxel", (1, 1, 1, 1, 1), (1, 1, 3, 3, 3), True, (2, 2, 2), (1, 1, 1), (1, 1, 1)),
    Case("depthwise", (2, 4, 4, 4, 5), (4, 1, 3, 3, 3), True, (2, 2, 2), (1, 1, 1), groups=4),
    Case("dilated", (1, 16, 4, 3, 5), (16, 4, 3, 2, 3), True, (1, 2, 3), (1, 0, 2), (0, 1, 0), (2, 3, 1), groups=2),
    Case("kernel_below_stride", (1, 16, 4, 4, 4), (16, 8, 1, 2, 1), True, (2, 3, 2)),
]
OPERANDS = ("input", "weight", "grad_output")
RESULTS = {"output": ("input", "weight"), "input gradient": ("weight", "grad_output")}
RESULTS |= {"weight gradient": ("input", "grad_output"), "bias gradient": ("grad_output",)}


ALGORITHMS = torch.ops.mps_conv_transpose3d.algorithms()


@pytest.fixture(params=[*((None, dtype) for dtype in DTYPES), *((name, "float32") for name in ALGORITHMS)], ids=str)
def way(request):
    """Every dtype by the algorithm that is chosen, and every algorithm in float32."""
    algorithm, name = request.param
    return algorithm, DTYPES[name]


def on_mps(case, tensors, algorithm):
    return forward_and_backward(case, map_tensors(lambda t: t.to("mps"), tensors), algorithm=algorithm)


@dataclass
class Planted:
    """One number of one operand, and what may show it, in each of RESULTS."""

    operand: str
    at: tuple[int, ...]
    must: dict[str, torch.Tensor]
    may: dict[str, torch.Tensor]


def plant(case: Case, operand: str, tensors: dict[str, torch.Tensor], seed: int) -> Planted:
    generator = torch.Generator().manual_seed(seed)
    at = tuple(int(torch.randint(size, (1,), generator=generator)) for size in tensors[operand].shape)
    ones = map_tensors(torch.ones_like, map_tensors(torch.Tensor.double, tensors))
    alone = {
        **ones,
        operand: torch.zeros_like(ones[operand]).index_put(tuple(map(torch.tensor, at)), torch.tensor(1.0).double()),
    }
    alone["bias"] = torch.zeros_like(ones["bias"])
    counts = forward_and_backward(case, alone)
    must = {
        name: counts[name] > 0 if operand in of else torch.zeros_like(counts[name]) > 0 for name, of in RESULTS.items()
    }
    may = {name: torch.zeros_like(mask) for name, mask in must.items()}
    if operand == "weight":
        channel, output, *tap = at
        may["input gradient"][:, channel] = True
        axes = (
            (torch.arange(size) + padding - k * dilation) % stride == 0
            for size, padding, k, dilation, stride in zip(
                case.output[2:], case.padding, tap, case.dilation, case.stride
            )
        )
        d, h, w = axes
        group = channel // (case.weight[0] // case.groups)
        may["output"][:, group * case.weight[1] + output] = d[:, None, None] & h[:, None] & w
    if operand == "input":
        may["weight gradient"][at[1]] = True
    return Planted(operand, at, must, may)


@pytest.mark.parametrize("operand", OPERANDS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_where_and_only_where(case, operand, way):
    algorithm, dtype = way
    tensors = make_tensors(case, dtype)
    planted = plant(case, operand, tensors, seed=len(case.name))
    finite = {**tensors, operand: tensors[operand].clone()}
    finite[operand][planted.at] = 1.0
    exact = forward_and_backward(case, map_tensors(torch.Tensor.double, finite))
    baseline = map_tensors(lambda t: t.to(dtype), forward_and_backward(case, map_tensors(torch.Tensor.float, finite)))
    for special in (math.inf, math.nan):
        tensors[operand][planted.at] = special
        actual = map_tensors(torch.Tensor.cpu, on_mps(case, tensors, algorithm))
        for name, result in actual.items():
            must, may = planted.must[name], planted.may[name]
            shown = ~result.isfinite()
            assert shown[must].all(), f"{name}: hidden"
            assert not (shown & ~must & ~may).any(), f"{name}: shown where it has no part"
            if special == math.inf:
                assert result[must].isinf().all(), f"{name}: an infinite sum is no number"
            untouched = result.where(~shown & ~must, exact[name].to(dtype))
            assert_accurate(untouched, exact[name], baseline[name], name)


def test_a_sum_beyond_the_largest_number_is_infinite(way):
    algorithm, dtype = way
    case = Case("large", (1, 8, 3, 3, 3), (8, 8, 2, 2, 2), stride=(2, 2, 2))
    large = torch.finfo(dtype).max
    tensors = map_tensors(torch.ones_like, make_tensors(case, dtype))
    tensors["grad_output"] *= large
    actual = on_mps(case, tensors, algorithm)
    assert all(actual[name].isposinf().all() for name in RESULTS if name != "output")


def test_the_fault_that_was_reported(way):
    """One output in the corner is reached by the tap; others of its phase meet it outside of the input."""
    algorithm, dtype = way
    case = Case("reported", (1, 1, 1, 1, 1), (1, 1, 3, 3, 3), False, (2, 2, 2), (1, 1, 1), (1, 1, 1))
    x, w = torch.ones(1, 1, 1, 1, 1, dtype=dtype), torch.ones(1, 1, 3, 3, 3, dtype=dtype)
    w[0, 0, 0, 0, 0] = math.inf
    tensors = {"input": x.to("mps"), "weight": w.to("mps")}
    output = forward_and_backward(case, tensors, False, algorithm)["output"].cpu()
    beyond = torch.zeros(2, 2, 2, dtype=torch.bool)
    beyond[1, 1, 1] = True  # of the tap's phase; its input lies outside
    assert not (~output[0, 0].isfinite() & ~beyond).any()
