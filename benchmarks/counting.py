"""One pass of ConvTranspose3d at full size on the simulated device, and what its kernels did, counted."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from mps_conv_transpose3d import _planner
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


def run(
    problem: Problem, tensors: dict[str, torch.Tensor], algorithm: str | None = None, cores: int | None = None
) -> object:
    """By our kernels. `algorithm` is one of torch.ops.mps_conv_transpose3d.algorithms(); None: as planned."""
    c, ours = problem.case, torch.ops.mps_conv_transpose3d
    x, w, bias = tensors["input"], tensors["weight"], tensors.get("bias")
    arguments = (c.stride, c.padding, c.output_padding, c.groups, c.dilation)
    if problem.op == "forward":
        return ours.forward(x, w, bias, *arguments, algorithm, cores)
    mask = list(MASKS[problem.op])
    mask[2] = mask[2] and c.bias
    return ours.backward(tensors["output"], x, w, *arguments, mask, algorithm, cores)


def plan_of(problem: Problem, algorithm: str | None = None, cores: int = 10) -> _planner.Plan:
    return _planner.plans(problem.case, problem.dtype, cores, algorithm)[problem.op]


def count(problem: Problem, algorithm: str | None = None, cores: int = 10, accesses: int = ACCESSES) -> Counted:
    """As planned for a GPU of so many cores, or by an algorithm of the caller's choice."""
    tensors = tensors_of(problem)
    with record(accesses) as dispatches:
        run(problem, tensors, algorithm, cores)
    return Counted(dispatches, 4 * plan_of(problem, algorithm, cores).partial_sums)
