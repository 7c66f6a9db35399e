"""One pass of ConvTranspose3d at full size on the simulated device, and what its kernels did, counted."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from mps_conv_transpose3d import _plan
from mps_conv_transpose3d._explain import for_planner
from problem import Problem

if TYPE_CHECKING:
    import mps_simulator

# Of a dispatch that makes more accesses to memory than this a part runs, and the counts are scaled.
ACCESSES = 10_000_000

MASKS = {"input_grad": (True, False, False), "weight_grad": (False, True, True)}


def record(accesses: int = ACCESSES) -> AbstractContextManager[mps_simulator.Recording]:
    """Imported where it is used: a Mac has no simulator, and its tests read this module."""
    import mps_simulator

    return mps_simulator.record(counters=True, accesses=accesses)


@dataclass(frozen=True)
class Counted:
    dispatches: list[mps_simulator.Dispatch]
    extra_bytes: int  # of device memory, beside the operands and the result


def tensors_of(problem: Problem) -> dict[str, torch.Tensor]:
    c = problem.case
    shapes = {"input": c.input, "weight": c.weight}
    if problem.op != "forward":
        shapes["output"] = c.output
    elif c.bias:
        shapes["bias"] = (c.out_channels,)
    dtype = getattr(torch, problem.dtype)
    return {name: torch.empty(shape, dtype=dtype, device="mps") for name, shape in shapes.items()}


def run(problem: Problem, tensors: dict[str, torch.Tensor]) -> object:
    c = problem.case
    bias = tensors.get("bias")
    if problem.op == "forward":
        return torch.conv_transpose3d(tensors["input"], tensors["weight"], bias, **c.arguments)
    mask = list(MASKS[problem.op])
    mask[2] = mask[2] and c.bias
    return torch.ops.aten.convolution_backward(
        tensors["output"],
        tensors["input"],
        tensors["weight"],
        [c.out_channels] if c.bias else None,
        c.stride,
        c.padding,
        c.dilation,
        True,
        c.output_padding,
        c.groups,
        mask,
    )


def plan_of(problem: Problem, method: str | None = None, cores: int = 10) -> _plan.Plan:
    return _plan.make_plan(
        _plan.Pass.__members__[problem.op],
        _plan.DataType.__members__[problem.dtype],
        for_planner(problem.case),
        method and _plan.Method.__members__[method],
        wants_bias_grad=problem.op == "weight_grad" and problem.case.bias,
        cores=cores,
    )


def count(problem: Problem, method: str | None = None, cores: int = 10, accesses: int = ACCESSES) -> Counted:
    """As planned for a GPU of so many cores.

    `method` is one of those of `torch.ops.mps_conv_transpose3d.force_method`; None: what the plan chooses.
    """
    tensors = tensors_of(problem)
    torch.ops.mps_conv_transpose3d.force_method(method)
    torch.ops.mps_conv_transpose3d.force_cores(cores)
    try:
        with record(accesses) as dispatches:
            run(problem, tensors)
    finally:
        torch.ops.mps_conv_transpose3d.force_method(None)
        torch.ops.mps_conv_transpose3d.force_cores(None)
    return Counted(dispatches, 4 * plan_of(problem, method, cores).partial_sums)
