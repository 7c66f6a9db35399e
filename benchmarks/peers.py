"""Other ways to compute the same, each as its sequence of ideal passes.

A pass reads what it needs once, writes its result once, and multiplies at full efficiency: a bound in the peer's
favour. Elements are counted here; nothing of a peer is run.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from problem import Problem


@dataclass(frozen=True)
class Pass:
    name: str
    fma: int
    elements: int  # read and written


@dataclass(frozen=True)
class Peer:
    name: str
    source: str
    passes: Callable[[Problem], list[Pass] | None]  # None: it has no such pass
    extra: Callable[[Problem], int]  # elements of memory beside the tensors


def taps(p: Problem) -> int:
    return math.prod(p.case.kernel)


def input_positions(p: Problem) -> int:
    return p.batch * math.prod(p.case.input[2:])


def output_positions(p: Problem) -> int:
    return p.batch * math.prod(p.case.output[2:])


def tiles(p: Problem) -> bool:
    """The kernel tiles the output: each output element has one tap."""
    c = p.case
    return c.kernel == c.stride and not any(c.padding) and not any(c.output_padding) and set(c.dilation) == {1}


def unfolded(p: Problem) -> int:
    """Forward: every output position with all its taps, which for a stride of 2 are zeros but for one in eight."""
    channels = p.case.input[1] if p.op == "forward" else p.case.out_channels
    positions = output_positions(p) if p.op == "forward" else input_positions(p)
    return positions * channels * taps(p)


def unfold_and_gemm(p: Problem) -> list[Pass]:
    columns = unfolded(p)
    if p.op == "forward":
        return [
            Pass("unfold", 0, p.input + columns),
            Pass("GEMM", columns * p.case.weight[1], columns + p.weight + p.bias + p.output),
        ]
    # The gradients unfold the output's gradient by the stride, and meet no zeros.
    fma = input_positions(p) * p.case.input[1] * p.case.weight[1] * taps(p)
    return [Pass("unfold", 0, p.output + columns), Pass("GEMM", fma, columns + p.weight + p.input)]


def phases(p: Problem) -> int:
    return math.prod(p.case.stride)


def parity_gemms(p: Problem) -> list[Pass] | None:
    if not tiles(p):
        return None
    n = phases(p)
    fma, weight, output = p.useful_fma // n, p.weight // n, p.output // n
    copy = Pass("strided copy", 0, 2 * output)
    if p.op == "forward":
        return [Pass("GEMM", fma, p.input + weight + p.bias + output), copy] * n
    if p.op == "input_grad":
        first = Pass("GEMM", fma, output + weight + p.input)
        return [copy, first] + [copy, Pass("GEMM, added", fma, output + weight + 2 * p.input)] * (n - 1)
    return [copy, Pass("GEMM", fma, output + p.input + weight)] * n


def matmul_and_shuffle(p: Problem) -> list[Pass] | None:
    if not tiles(p):
        return None
    shuffle = Pass("shuffle", 0, 2 * p.output)
    matmul = Pass("matmul", p.useful_fma, p.input + p.weight + p.output)
    if p.op == "forward":
        bias = Pass("shuffle and bias", 0, 2 * p.output + p.bias)
        return [matmul, bias]
    return [shuffle, matmul]


def dilated(p: Problem) -> int:
    """Elements of the input with zeros put in."""
    c = p.case
    return p.batch * c.input[1] * math.prod((size - 1) * s + 1 for size, s in zip(c.input[2:], c.stride))


def zero_insertion(p: Problem) -> list[Pass]:
    if p.op == "input_grad":  # an ordinary strided convolution of the gradient
        return [Pass("convolution", p.useful_fma, p.output + p.weight + p.input)]
    fma = output_positions(p) * p.case.input[1] * p.case.weight[1] * taps(p)
    insert = Pass("insert zeros", 0, p.input + dilated(p))
    return [insert, Pass("convolution", fma, dilated(p) + p.weight + p.output)]


PEERS = [
    Peer("unfold + GEMM", "MLX before ml-explore/mlx#4343; mps-conv3d", unfold_and_gemm, unfolded),
    Peer("parity GEMMs + copies", "ml-explore/mlx#4343", parity_gemms, lambda p: p.output // phases(p)),
    Peer("matmul + pixel shuffle", "plain PyTorch", matmul_and_shuffle, lambda p: p.output),
    Peer(
        "zero insertion + convolution",
        "the textbook's",
        zero_insertion,
        lambda p: 0 if p.op == "input_grad" else dilated(p),
    ),
]
