"""The planner in C++ (csrc/planner/json.h), which answers in JSON.

It is the bridge's, torch.ops.mps_conv_transpose3d.plan, or without a bridge that of the module _plan, which a checkout
has.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F

from . import _arguments, _loading, _machine
from ._cases import Case

Triple = list[int]


@dataclass(frozen=True)
class Dispatch:
    """One kernel over one grid. Grids are in threads."""

    kernel: str
    algorithm: str | None  # None for the reduction of a sum
    threads: Triple
    threads_per_threadgroup: Triple
    z_per_dispatch: int  # the grid is encoded in slices of so many along z
    tile_rows: int | None
    split_k: Triple | None  # splits, terms of a split, terms of a sample
    polyphase_tile: dict[str, Any] | None


@dataclass(frozen=True)
class Plan:
    """What computes one pass."""

    dispatches: list[Dispatch]
    partial_sums: int  # float32 elements of memory between the dispatches
    has_bias_grad: bool  # whether the gradient of the bias is computed too
    text: str

    @property
    def algorithm(self) -> str | None:
        return self.dispatches[0].algorithm


class Missing(ImportError):
    """Neither a bridge nor the module: nobody here can plan."""


def ask(**question: object) -> dict[str, Any]:
    """The answer to a question that csrc/planner/json.h lists. Raises Missing, and ValueError or RuntimeError."""
    return json.loads(_planner()(json.dumps(question, ensure_ascii=False)))


def _planner() -> Callable[[str], str]:
    if _loading.load().error is None:
        return torch.ops.mps_conv_transpose3d.plan
    try:
        from . import _plan  # type: ignore[attr-defined]
    except ImportError:
        raise Missing(f"there is no planner without a bridge: {_loading.load().error}") from None
    return _plan.answer


def plans(
    case: Case, dtype: str = "float32", cores: int | None = None, algorithm: str | None = None
) -> dict[str, Plan]:
    """The plans on dense tensors, by pass: "forward", "input_grad", "weight_grad" and "bias_grad".

    The last is for a call whose weight gradient does not compute it too (`has_bias_grad`). `cores` are those of the
    GPU, by default of this machine's. `algorithm` is taken where it can compute a pass.

    Raises RuntimeError, in PyTorch's words, for an invalid call; OverflowError for one that is too large for the
    kernels, and so goes on to PyTorch's own operator; Missing.
    """
    return answer_for(case, dtype, cores, algorithm)[0]


def answer_for(
    case: Case, dtype: str = "float32", cores: int | None = None, algorithm: str | None = None
) -> tuple[dict[str, Plan], int]:
    """The plans as of plans(), and the number of cores that they are for."""
    question: dict[str, Any] = {"dtype": dtype, "has_bias": case.bias, **asdict(geometry_of(case))}
    if algorithm is not None:
        question["algorithm"] = algorithm
    cores = cores or _machine.gpu_cores()
    if cores is None:
        question["device"] = _machine.device_name() or ""
    else:
        question["cores"] = cores
    answer = ask(**question)
    if "too_large" in answer:
        raise OverflowError(answer["too_large"])
    found = {}
    for name, plan in answer["passes"].items():
        dispatches = [Dispatch(**dispatch) for dispatch in plan.pop("dispatches")]
        found[name] = Plan(dispatches, **plan)
    return found, answer["cores"]


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
