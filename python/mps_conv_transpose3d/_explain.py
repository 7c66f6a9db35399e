"""What will happen to a call, in words, with or without a device."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F

from . import _arguments, _formulas, _loading, _machine
from ._cases import Case

if TYPE_CHECKING:
    from . import _plan


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
    """For the planner's module. Raises RuntimeError for an invalid call and ImportError where it was not built."""
    from . import _plan

    planned = _plan.Geometry()
    for name, value in asdict(geometry_of(case)).items():
        setattr(planned, name, value)
    return planned


def plan(case: Case, dtype: str, cores: int | None = None) -> dict[str, Any] | None:
    """The planner's answer (csrc/plan_json.h) for a GPU of so many cores, by default this machine's.

    It is the bridge's, or without one that of the planner's module, which a checkout has; None where neither is.

    Raises RuntimeError for an invalid call and OverflowError for one too large for the kernels, which then goes on to
    PyTorch's own.
    """
    request = {"dtype": dtype, "has_bias": case.bias, **asdict(geometry_of(case))}
    cores = cores or _machine.gpu_cores()
    request.update({"device": _machine.device_name() or ""} if cores is None else {"cores": cores})
    if _loading.load().error is None:
        ask = torch.ops.mps_conv_transpose3d.plan
    else:
        try:
            from . import _plan
        except ImportError:
            return None
        ask = _plan.plan
    answer = json.loads(ask(json.dumps(request, ensure_ascii=False)))
    if "too_large" in answer:
        raise OverflowError(answer["too_large"])
    return answer


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
        answer = plan(case, dtype, cores)
    except OverflowError as error:
        return "\n".join([*lines, f"Left to PyTorch's own operator: {error}."])
    if answer is None:
        return "\n".join([*lines, f"The plan cannot be told without a bridge: {_loading.load().error}."])
    passes = [f"{name.replace('_', ' ')}: {planned['text']}" for name, planned in answer["passes"].items()]
    return "\n".join([*lines, f"On a GPU of {answer['cores']} cores:", *passes])


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
