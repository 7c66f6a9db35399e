"""What will happen to a call, in words, with or without a device."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from . import _arguments, _formulas, _machine
from ._cases import Case

if TYPE_CHECKING:
    from . import _plan

PASSES = ("forward", "input_grad", "weight_grad", "bias_grad")


def geometry_of(case: Case) -> _arguments.Geometry:
    """Raises RuntimeError, in PyTorch's words, if the call is not valid."""
    x, w, b = _empty(case, "meta")
    batched = x.unsqueeze(0) if x.dim() == 4 else x
    arguments = (case.stride, case.padding, case.dilation, True, case.output_padding, case.groups)
    g = _arguments.read(batched, w, b, *arguments)
    if g is None:
        F.conv_transpose3d(*_empty(case, "cpu"), **case.arguments)
        raise RuntimeError("not a valid ConvTranspose3d")
    return g


def _empty(case: Case, device: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """Input, weight and bias that take no memory."""
    shapes = (case.input, case.weight, (case.weight[1] * case.groups,) if len(case.weight) > 1 else ())
    x, w, b = (torch.zeros((), device=device).expand(shape) for shape in shapes)
    return x, w, b if case.bias else None


def for_planner(case: Case) -> _plan.Geometry:
    """Raises RuntimeError for an invalid call and ImportError where the planner was not built."""
    from . import _plan

    g = geometry_of(case)
    planned = _plan.Geometry()
    for name in ("batch", "in_channels", "out_channels", "groups"):
        setattr(planned, name, getattr(g, name))
    for name in ("input", "kernel", "stride", "padding", "output_padding", "dilation"):
        setattr(planned, name, list(getattr(g, name)))
    return planned


def plans(case: Case, dtype: str, cores: int | None = None) -> dict[str, tuple[list[str], str]] | None:
    """For each pass the Metal kernels' names, and the plan in words; None where the planner was not built.

    `cores` are those of the GPU, by default of this machine's.

    Raises RuntimeError for an invalid call and OverflowError for one too large for the kernels, which then goes on to
    PyTorch's own.
    """
    try:
        from . import _plan
    except ImportError:
        return None
    planned = for_planner(case)
    result = {}
    for name in PASSES:
        if name == "bias_grad" and not case.bias:
            continue
        arguments = (_plan.Pass.__members__[name], _plan.DataType.__members__[dtype], planned)
        with_bias = name == "weight_grad" and case.bias
        plan = _plan.make_plan(*arguments, wants_bias_grad=with_bias, cores=cores or _cores())
        kernels = [step.kernel for step in plan.steps]
        result[name] = (kernels, str(plan))
        if plan.has_bias_grad:
            result["bias_grad"] = ([], "summed by the kernels of the weight gradient")
            break
    return result


def explain(case: Case, dtype: str, cores: int | None = None) -> str:
    """The call, its cost and its plan on a GPU of so many cores, by default this machine's.

    Raises RuntimeError, in PyTorch's words, for an invalid call.
    """
    g = geometry_of(case)
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
        planned = plans(case, dtype, cores)
    except OverflowError as error:
        return "\n".join([*lines, f"Left to PyTorch's own operator: {error}."])
    if planned is None:
        return "\n".join([*lines, "The plan cannot be told: the package was built without pybind11."])
    lines += [f"On a GPU of {cores or _cores()} cores:"]
    return "\n".join([*lines, *(f"{name.replace('_', ' ')}: {text}" for name, (_, text) in planned.items())])


def _cores() -> int:
    from . import _plan

    return _machine.gpu_cores() or _plan.cores_of(_machine.device_name() or "")


def _character(g: _arguments.Geometry) -> str:
    if _formulas.is_shuffle(g):
        return "kernel equals stride: each output voxel takes one tap of one input voxel"
    if any(d * (k - 1) + 1 > s for d, k, s in zip(g.dilation, g.kernel, g.stride)):
        return "the kernel overlaps itself: neighbouring input voxels add to the same output voxels"
    return "the kernel leaves gaps, or is cut by padding: some output voxels may get the bias alone"


def _not_default(case: Case) -> list[tuple[str, tuple[int, ...]]]:
    values = [("stride", case.stride), ("padding", case.padding), ("output_padding", case.output_padding)]
    values += [("dilation", case.dilation), ("groups", (case.groups,))]
    least = {"padding": 0, "output_padding": 0}
    return [(name, value) for name, value in values if set(value) != {least.get(name, 1)}]


def _axes(value: tuple[int, ...]) -> str:
    return str(value[0]) if len(set(value)) == 1 else " x ".join(map(str, value))


def _shape(sizes: tuple[int, ...]) -> str:
    return f"[{', '.join(map(str, sizes))}]"


def _megabytes(sizes: tuple[int, ...], size: int) -> str:
    return f"{math.prod(sizes) * size / 1e6:.3g} MB"
