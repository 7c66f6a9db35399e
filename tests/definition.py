"""ConvTranspose3d by its definition, for sizes of hyper-parameters that the CPU's operator does not keep."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Union

import torch

Sizes = Union[int, Sequence[int]]


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
    lists = (stride, padding, output_padding, dilation)
    s, p, op, d = ([v] * 3 if isinstance(v, int) else [*v] * (3 // len(v)) for v in lists)
    sizes, kernel = input.shape[-3:], weight.shape[2:]
    x = input.reshape(-1, groups, weight.shape[0] // groups, *sizes)
    w = weight.unflatten(0, (groups, -1))
    output = [(sizes[a] - 1) * s[a] - 2 * p[a] + d[a] * (kernel[a] - 1) + op[a] + 1 for a in range(3)]
    y = x.new_zeros(x.shape[0], groups, weight.shape[1], *output)
    y = y + 0 * (x.sum() + w.sum())  # a function of both, even where no tap reaches it
    for tap in itertools.product(*map(range, kernel)):
        targets = [[i * s[a] + tap[a] * d[a] - p[a] for i in range(sizes[a])] for a in range(3)]
        inputs = [[i for i, o in enumerate(targets[a]) if 0 <= o < output[a]] for a in range(3)]
        if not all(inputs):
            continue
        read = torch.meshgrid(*map(torch.tensor, inputs), indexing="ij")
        written = torch.meshgrid(*(torch.tensor([t[i] for i in of]) for t, of in zip(targets, inputs)), indexing="ij")
        every = (slice(None),) * 3
        products = torch.einsum("ngcdhw,gco->ngodhw", x[(*every, *read)], w[(..., *tap)])
        y[(*every, *written)] += products  # no two inputs meet one output by the same tap
    y = y.flatten(1, 2)
    if bias is not None:
        y = y + bias.view(-1, 1, 1, 1)
    return y if input.dim() == 5 else y.squeeze(0)
