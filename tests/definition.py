"""ConvTranspose3d by its definition, for strides, paddings and dilations that the CPU's operator does not keep."""

from __future__ import annotations

import itertools
from typing import Union

import torch

Sizes = Union[int, tuple[int, ...]]


def conv_transpose3d_by_definition(
    input: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    stride: Sizes,
    padding: Sizes,
    output_padding: Sizes,
    dilation: Sizes,
    groups: int,
) -> torch.Tensor:
    """y[i * stride + k * dilation - padding] += x[i] * w[k] along each axis, of a legal call; differentiable."""
    s, p, op, d = (
        (v,) * 3 if isinstance(v, int) else v * (3 // len(v)) for v in (stride, padding, output_padding, dilation)
    )
    sizes, kernel = input.shape[-3:], weight.shape[2:]
    x = input.reshape(-1, groups, weight.shape[0] // groups, *sizes)
    w = weight.unflatten(0, (groups, -1))
    output = [
        (i - 1) * s_ - 2 * p_ + d_ * (k - 1) + op_ + 1 for i, s_, p_, d_, k, op_ in zip(sizes, s, p, d, kernel, op)
    ]
    y = x.new_zeros(x.shape[0], groups, weight.shape[1], *output)
    y = y + 0 * (x.sum() + w.sum())  # a function of both, even where no tap reaches it
    for tap in itertools.product(*map(range, kernel)):
        targets = [[i * s[a] + tap[a] * d[a] - p[a] for i in range(sizes[a])] for a in range(3)]
        inside = [[i for i, o in enumerate(targets[a]) if 0 <= o < output[a]] for a in range(3)]
        if not all(inside):
            continue
        values = x[:, :, :, inside[0]][:, :, :, :, inside[1]][..., inside[2]]
        at = [
            torch.tensor([targets[a][i] for i in inside[a]]).view([-1 if b == a else 1 for b in range(3)])
            for a in range(3)
        ]
        products = torch.einsum("ngcdhw,gco->ngodhw", values, w[(..., *tap)])
        every = (slice(None),) * 3
        y[(*every, *at)] += products  # no two inputs meet one output by the same tap
    y = y.flatten(1, 2)
    if bias is not None:
        y = y + bias.view(-1, 1, 1, 1)
    return y if input.dim() == 5 else y.squeeze(0)
