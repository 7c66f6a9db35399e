"""Is a result right? Judged against float64, by what PyTorch's CPU operator makes of the same numbers.

Right is an error of at most twice that of the CPU operator in the same dtype, and one unit in the last place.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from ._cases import Case

Tensors = dict[str, torch.Tensor]
RESULTS = ("output", "input gradient", "weight gradient", "bias gradient")


@dataclass(frozen=True)
class Error:
    """The largest error of a result, and the largest that is allowed."""

    error: float
    allowed: float

    @property
    def is_right(self) -> bool:
        """False for an error that is not a number, too."""
        return self.error <= self.allowed


def make_tensors(case: Case, dtype: torch.dtype) -> Tensors:
    """Random "input", "weight", "bias" (where the case has one) and "grad_output", on the CPU in `dtype`."""
    generator = torch.Generator().manual_seed(0)
    shapes = {"input": case.input, "weight": case.weight, "grad_output": case.output}
    if case.bias:
        shapes["bias"] = (case.out_channels,)
    return {name: torch.randn(shape, generator=generator).to(dtype) for name, shape in shapes.items()}


def run(case: Case, tensors: Tensors) -> Tensors:
    """RESULTS, as far as the case has them, on the tensors' own device and in their dtype."""
    leaves = {name: tensors[name].detach().requires_grad_() for name in ("input", "weight", "bias") if name in tensors}
    output = F.conv_transpose3d(leaves["input"], leaves["weight"], leaves.get("bias"), **case.arguments)
    gradients = torch.autograd.grad(output, list(leaves.values()), tensors["grad_output"])
    return {"output": output.detach(), **{f"{name} gradient": g for name, g in zip(leaves, gradients)}}


def run_by(
    algorithm: str | None, case: Case, tensors: Tensors, cores: int | None = None, backward: bool = True
) -> Tensors:
    """As run(), by our kernels on device `mps` alone, planned for a GPU of so many cores; by default for this one.

    `algorithm` is one of torch.ops.mps_conv_transpose3d.algorithms(). A pass that it cannot compute is computed as
    planned. Without `backward` there is the output alone.
    """
    ours = torch.ops.mps_conv_transpose3d
    batched = len(case.input) == 5
    x, w, bias = tensors["input"].detach(), tensors["weight"].detach(), tensors.get("bias")
    x = x if batched else x.unsqueeze(0)
    arguments = (case.stride, case.padding, case.output_padding, case.groups, case.dilation)
    output = ours.forward(x, w, None if bias is None else bias.detach(), *arguments, algorithm, cores)
    results = {"output": output if batched else output.squeeze(0)}
    if backward:
        grad_output = tensors["grad_output"] if batched else tensors["grad_output"].unsqueeze(0)
        mask = [True, True, bias is not None]
        gradients = dict(zip(RESULTS[1:], ours.backward(grad_output, x, w, *arguments, mask, algorithm, cores)))
        if not batched:
            gradients["input gradient"] = gradients["input gradient"].squeeze(0)
        results.update((name, gradient) for name, gradient in gradients.items() if gradient is not None)
    return results


def errors(
    case: Case,
    dtype: torch.dtype,
    device: str = "mps",
    baseline_dtype: torch.dtype | None = None,
    slack: float = 2.0,
    algorithm: str | None = None,
) -> dict[str, Error]:
    """How far `device` is from exact, for each of RESULTS. Raises what the operator raises.

    With an `algorithm` it is our kernels that are looked at, as by run_by(). The CPU operator may compute in another
    `baseline_dtype` and round at the end: in half precision it is very slow. `slack` times its error is allowed.
    """
    tensors = make_tensors(case, dtype)
    on_device = {name: tensor.to(device) for name, tensor in tensors.items()}
    actual = run_by(algorithm, case, on_device) if algorithm else run(case, on_device)
    exact = run(case, {name: tensor.double() for name, tensor in tensors.items()})
    baseline = run(case, {name: tensor.to(baseline_dtype or dtype) for name, tensor in tensors.items()})
    return {name: _error(actual[name].cpu(), exact[name], baseline[name].to(dtype), slack) for name in actual}


def _error(actual: torch.Tensor, exact: torch.Tensor, baseline: torch.Tensor, slack: float) -> Error:
    if actual.shape != exact.shape or actual.dtype != baseline.dtype:
        return Error(math.inf, 0.0)
    difference = (actual.double() - exact).abs()
    allowed = slack * (baseline.double() - exact).abs().max().item()
    return Error(
        difference.max().item() if difference.isfinite().all() else math.inf,
        allowed + _unit_in_last_place(exact.abs().max().item(), baseline.dtype),
    )


def _unit_in_last_place(value: float, dtype: torch.dtype) -> float:
    """The distance between neighbouring numbers of `dtype` at `value`."""
    info = torch.finfo(dtype)
    return info.eps * 2.0 ** math.floor(math.log2(max(value, info.smallest_normal)))
