"""What is right: PyTorch on the CPU in float64; and how right one has to be: PyTorch on the CPU in the same dtype.

A result passes where its largest error against float64 is at most twice that of PyTorch's own CPU operator in the same
dtype, plus one unit in the last place of the largest value. So no tolerance is picked by hand, and a case whose
arithmetic is hard is allowed what it costs PyTorch too. In bfloat16 it is that of PyTorch in float32, rounded once:
oneDNN's backward pass in bfloat16 may end the process.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F

from cases import Case
from mps_conv_transpose3d import _accuracy

Tensors = dict[str, torch.Tensor]
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def make_tensors(case: Case, dtype: torch.dtype, seed: int = 0) -> Tensors:
    """`input`, `weight`, `bias` (where the case has one) and `grad_output`, random, on the CPU in `dtype`."""
    generator = torch.Generator().manual_seed(seed)
    shapes = {"input": case.input, "weight": case.weight, "grad_output": case.output}
    if case.bias:
        shapes["bias"] = (case.out_channels,)
    return {
        name: torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)
        for name, shape in sorted(shapes.items())
    }


def forward_and_backward(
    case: Case, tensors: Tensors, backward: bool = True, algorithm: str | None = None, cores: int | None = None
) -> Tensors:
    """The output and, if asked for, the gradient of each input, on the tensors' own device and in their dtype.

    With `algorithm` or `cores` (_accuracy.run_by) device `mps` computes them so.
    """
    if tensors["input"].device.type == "mps" and (algorithm or cores):
        return _accuracy.run_by(algorithm, case, tensors, cores, backward)
    if tensors["input"].device.type == "cpu" and tensors["input"].dtype == torch.bfloat16:
        results = forward_and_backward(case, map_tensors(torch.Tensor.float, tensors), backward)
        return map_tensors(torch.Tensor.bfloat16, results)
    leaves = {name: tensors[name].detach().requires_grad_() for name in ("input", "weight", "bias") if name in tensors}
    output = F.conv_transpose3d(leaves["input"], leaves["weight"], leaves.get("bias"), **case.arguments)
    if not backward:
        return {"output": output.detach()}
    gradients = torch.autograd.grad(output, list(leaves.values()), tensors["grad_output"])
    return {"output": output.detach(), **{f"{name} gradient": g for name, g in zip(leaves, gradients)}}


def map_tensors(function: Callable[[torch.Tensor], torch.Tensor], tensors: Mapping[str, torch.Tensor]) -> Tensors:
    return {name: function(tensor) for name, tensor in tensors.items()}


def unit_in_last_place(value: float, dtype: torch.dtype) -> float:
    """The distance between neighbouring numbers of `dtype` at `value`."""
    info = torch.finfo(dtype)
    exponent = math.floor(math.log2(max(abs(value), info.smallest_normal)))
    return info.eps * 2.0**exponent


def largest(tensor: torch.Tensor) -> float:
    return tensor.abs().max().item() if tensor.numel() else 0.0


def assert_accurate(actual: torch.Tensor, exact: torch.Tensor, baseline: torch.Tensor, what: str = "result") -> None:
    """Holds `actual`, on any device, against `exact` (float64) and `baseline` (same dtype), both from the CPU."""
    assert actual.shape == exact.shape, f"{what}: shape {tuple(actual.shape)}, expected {tuple(exact.shape)}"
    assert actual.dtype == baseline.dtype, f"{what}: {actual.dtype}, expected {baseline.dtype}"
    actual = actual.detach().cpu().double()
    exact = exact.detach()
    assert exact.isfinite().all(), f"{what}: the case itself is at fault, its exact result is not finite"
    assert actual.isfinite().all(), f"{what}: {(~actual.isfinite()).sum().item()} values are not finite"
    error = largest(actual - exact)
    allowed = 2 * largest(baseline.detach().double() - exact)
    allowed += unit_in_last_place(largest(exact), baseline.dtype)
    if error > allowed:
        where = tuple(torch.unravel_index((actual - exact).abs().argmax(), exact.shape))
        where = tuple(int(i) for i in where)
        raise AssertionError(
            f"{what}: error {error:.3g} is over the {allowed:.3g} that CPU PyTorch's own error allows,"
            f" at {where}: {actual[where].item():.9g}, exact {exact[where].item():.9g}"
        )


def assert_all_accurate(actual: Tensors, exact: Tensors, baseline: Tensors) -> None:
    assert actual.keys() == exact.keys()
    for name in actual:
        assert_accurate(actual[name], exact[name], baseline[name], name)


def check_case(
    case: Case,
    tensors: Tensors,
    to_device: Callable[[torch.Tensor], torch.Tensor],
    backward: bool = True,
    algorithm: str | None = None,
    cores: int | None = None,
) -> None:
    """Runs a case forward and, if asked for, backward on the device and on the CPU, from the same rounded values."""
    actual = forward_and_backward(case, map_tensors(to_device, tensors), backward, algorithm, cores)
    for name, tensor in actual.items():
        assert tensor.device.type == "mps", f"{name} is on {tensor.device}"
    exact = forward_and_backward(case, map_tensors(torch.Tensor.double, tensors), backward)
    assert_all_accurate(actual, exact, forward_and_backward(case, tensors, backward))
