"""ConvTranspose3d and its gradients from plain PyTorch operations, for `mps` where nothing better serves.

Tensors are those of one call whose arguments have been read (`Geometry`), in float32, float16 or bfloat16. Sums are
made in float32.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from . import _formulas
from ._arguments import Geometry


def forward(input: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, g: Geometry) -> torch.Tensor:
    """The output [N, O, D, H, W], from input [N, C, D, H, W], weight [C, O / groups, kD, kH, kW] and bias [O]."""
    output = _formulas.forward(_grouped(input, 1, g), _grouped(weight, 0, g), g).flatten(1, 2)
    if bias is not None:
        output += bias.float().view(-1, 1, 1, 1)
    return output.to(input.dtype)


def backward(
    grad_output: torch.Tensor, input: torch.Tensor, weight: torch.Tensor, output_mask: Sequence[bool], g: Geometry
) -> list[torch.Tensor | None]:
    """The gradients of input, weight and bias, each None unless `output_mask` asks for it."""
    gy = _grouped(grad_output, 1, g)
    gradients = [
        _formulas.input_grad(gy, _grouped(weight, 0, g), g).flatten(1, 2) if output_mask[0] else None,
        _formulas.weight_grad(gy, _grouped(input, 1, g), g).flatten(0, 1) if output_mask[1] else None,
        gy.sum((0, 3, 4, 5)).flatten() if output_mask[2] else None,
    ]
    return [None if gradient is None else gradient.to(input.dtype) for gradient in gradients]


def _grouped(tensor: torch.Tensor, channels: int, g: Geometry) -> torch.Tensor:
    """In float32, with its axis of input or output channels split by groups."""
    return tensor.float().unflatten(channels, (g.groups, tensor.size(channels) // g.groups))
