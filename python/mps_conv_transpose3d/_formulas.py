"""ConvTranspose3d and its gradients as matrix products, in PyTorch operations that `mps` has had since torch 2.4.

Tensors here are float32 and split by groups: x is [N, G, C/G, D, H, W], w is [G, C/G, O/G, kD, kH, kW] and the output y
is [N, G, O/G, oD, oH, oW]. Along each axis

    y[i * stride + k * dilation - padding]  +=  x[i] * w[k]
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from ._arguments import Geometry


def is_shuffle(g: Geometry) -> bool:
    """Whether each output takes exactly one tap of one voxel, as in the decoders of UNETR and nnU-Net."""
    plain = all(p == 0 and op == 0 for p, op in zip(g.padding, g.output_padding))
    return plain and g.kernel == g.stride and all(d == 1 or k == 1 for d, k in zip(g.dilation, g.kernel))


def forward(x: torch.Tensor, w: torch.Tensor, g: Geometry) -> torch.Tensor:
    """y, without bias."""
    if is_shuffle(g):
        products = w.flatten(2).transpose(1, 2) @ x.flatten(3)  # [N, G, O/G * k, i]
        return _interleave(products, g).reshape(*x.shape[:2], -1, *g.output)
    axes = [_phases(g, axis) for axis in range(3)]
    w = w.transpose(1, 2)
    y = x.new_zeros(*x.shape[:2], w.size(1), *g.output)
    for phase in itertools.product(*axes):
        total = None
        for taps in itertools.product(*(axis.taps for axis in phase)):
            k, first = zip(*taps)
            window = _window(x, first, [axis.count for axis in phase])
            product = w[(..., *k)] @ window.flatten(3)
            total = product if total is None else total.add_(product)
        assert total is not None, "a phase has taps"
        outputs = y[(..., *(slice(axis.first, None, axis.step) for axis in phase))]
        outputs.copy_(total.view(outputs.shape))
    return y


def input_grad(gy: torch.Tensor, w: torch.Tensor, g: Geometry) -> torch.Tensor:
    """The gradient of x, given that of y."""
    shape = (*gy.shape[:2], w.size(1), *g.input)
    if is_shuffle(g):
        return (w.flatten(2) @ _deinterleave(gy, g)).view(shape)
    total = None
    for k, voxels in _gathered(gy, g):
        product = w[(..., *k)] @ voxels
        total = product if total is None else total.add_(product)
    assert total is not None, "a kernel has at least one tap"
    return total.view(shape)


def weight_grad(gy: torch.Tensor, x: torch.Tensor, g: Geometry) -> torch.Tensor:
    """The gradient of w, given that of y."""
    shape = (*x.shape[1:3], gy.size(2), *g.kernel)
    x = x.flatten(3)
    if is_shuffle(g):
        return (x @ _deinterleave(gy, g).transpose(2, 3)).sum(0).view(shape)
    result = x.new_empty(shape)
    for k, voxels in _gathered(gy, g):
        result[(..., *k)] = (x @ voxels.transpose(2, 3)).sum(0)
    return result


def _interleave(products: torch.Tensor, g: Geometry) -> torch.Tensor:
    """[N, G, O/G * kD * kH * kW, D * H * W] to [N * G * O/G, D, kD, H, kH, W, kW]."""
    return products.reshape(-1, *g.kernel, *g.input).permute(0, 4, 1, 5, 2, 6, 3)


def _deinterleave(gy: torch.Tensor, g: Geometry) -> torch.Tensor:
    """A gradient of y to [N, G, O/G * kD * kH * kW, D * H * W]."""
    (d, h, w), (kd, kh, kw) = g.input, g.kernel
    split = gy.reshape(-1, d, kd, h, kh, w, kw).permute(0, 2, 4, 6, 1, 3, 5)
    return split.reshape(*gy.shape[:2], -1, d * h * w)


@dataclass(frozen=True)
class _Phase:
    """The outputs `first`, `first + step`, ... of one axis: all meet the same taps."""

    first: int
    step: int
    count: int
    taps: tuple[tuple[int, int], ...]  # tap, and the voxel of x that it carries to the first of these outputs


def _phases(g: Geometry, axis: int) -> list[_Phase]:
    """Those that a tap reaches: no more than the kernel has taps, however large the stride."""
    kernel, stride, padding, dilation = g.kernel[axis], g.stride[axis], g.padding[axis], g.dilation[axis]
    size = g.output[axis]
    return [
        _Phase(
            first=first,
            step=stride,
            count=(size - first + stride - 1) // stride,
            taps=tuple(
                (k, (first + padding - k * dilation) // stride)
                for k in range(kernel)
                if (first + padding - k * dilation) % stride == 0
            ),
        )
        for first in sorted({(k * dilation - padding) % stride for k in range(kernel)})
        if first < size
    ]


def _gathered(gy: torch.Tensor, g: Geometry) -> Iterator[tuple[tuple[int, ...], torch.Tensor]]:
    """For each tap, the outputs that it reaches from each voxel of x: [N, G, O/G, D * H * W], zero outside of y."""
    for k in itertools.product(*map(range, g.kernel)):
        first = [tap * d - p for tap, d, p in zip(k, g.dilation, g.padding)]
        yield k, _window(gy, first, g.input, g.stride).flatten(3)


def _window(
    tensor: torch.Tensor, first: Sequence[int], sizes: Sequence[int], steps: Sequence[int] = (1, 1, 1)
) -> torch.Tensor:
    """`sizes` voxels of each axis, `steps` apart from `first` on; zero where the tensor has none."""
    inside = []
    for f, n, step, size in zip(first, sizes, steps, tensor.shape[3:]):
        low = min(n, max(0, -(f // step)))
        inside.append((low, max(low, min(n, (size - 1 - f) // step + 1))))
    exists = all(low < high for low, high in inside)
    if exists:
        read = (slice(f + low * s, f + (high - 1) * s + 1, s) for f, s, (low, high) in zip(first, steps, inside))
        found = tensor[(..., *read)]
        if found.shape[3:] == tuple(sizes):
            return found
    result = tensor.new_zeros(*tensor.shape[:3], *sizes)
    if exists:
        result[(..., *(slice(low, high) for low, high in inside))].copy_(found)
    return result
