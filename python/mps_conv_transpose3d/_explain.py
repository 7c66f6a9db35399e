"""What will happen to a call, in words, with or without a device."""

from __future__ import annotations

import math

import torch

from . import _arguments, _formulas, _planner
from ._cases import Case


def explain(case: Case, dtype: str, cores: int | None = None) -> str:
    """The call, its cost and its plan on a GPU of so many cores, by default this machine's.

    Raises RuntimeError, in PyTorch's words, for an invalid call.
    """
    g = _planner.geometry_of(case)
    size = torch.empty((), dtype=getattr(torch, dtype)).element_size()
    lines = [
        f"conv_transpose3d in {dtype}: {_shape(case.input)} and weight {_shape(case.weight)} to {_shape(case.output)}",
        *(f"  {name} {_axes(value)}" for name, value in _not_default(case)),
        f"  {_character(g)}",
        f"  {2 * g.multiplications / 1e9:.3g} GFLOP forward, and as many for each of the gradients of input and weight",
        f"  reads {_megabytes(case.input, size)} and {_megabytes(case.weight, size)} of weights,"
        f" writes {_megabytes(case.output, size)}",
        "",
    ]
    try:
        planned, cores = _planner.answer_for(case, dtype, cores)
    except OverflowError as error:
        return "\n".join([*lines, f"Left to PyTorch's own operator: {error}."])
    except _planner.Missing as error:
        return "\n".join([*lines, f"The plan cannot be told: {error}."])
    texts = {name: plan.text for name, plan in planned.items()}
    if not case.bias:
        del texts["bias_grad"]
    elif planned["weight_grad"].has_bias_grad:
        texts["bias_grad"] = "summed by the kernels of the weight gradient"
    passes = [f"{name.replace('_', ' ')}: {text}" for name, text in texts.items()]
    return "\n".join([*lines, f"On a GPU of {cores} cores:", *passes])


def _character(g: _arguments.Geometry) -> str:
    if _formulas.is_shuffle(g):
        return "kernel equals stride: each output voxel takes one tap of one input voxel"
    if any(d * (k - 1) + 1 > s for d, k, s in zip(g.dilation, g.kernel, g.stride)):
        return "the kernel overlaps itself: neighbouring input voxels add to the same output voxels"
    return "the kernel leaves gaps, or is cut by padding: some output voxels may get the bias alone"


def _not_default(case: Case) -> list[tuple[str, tuple[int, ...]]]:
    values: list[tuple[str, tuple[int, ...]]] = [("stride", case.stride), ("padding", case.padding)]
    values += [("output_padding", case.output_padding), ("dilation", case.dilation), ("groups", (case.groups,))]
    least = {"padding": 0, "output_padding": 0}
    return [(name, value) for name, value in values if set(value) != {least.get(name, 1)}]


def _axes(value: tuple[int, ...]) -> str:
    return str(value[0]) if len(set(value)) == 1 else " x ".join(map(str, value))


def _shape(sizes: tuple[int, ...]) -> str:
    return f"[{', '.join(map(str, sizes))}]"


def _megabytes(sizes: tuple[int, ...], size: int) -> str:
    return f"{math.prod(sizes) * size / 1e6:.3g} MB"
