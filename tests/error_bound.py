"""How far a result may lie from the exact one, whatever the values: by how its kernel sums.

A float32 sum of products errs, to first order, by at most

    n * 2**-24 * (sum of |products|),

where no product goes through more than n roundings: its own, and one for each partial sum that holds it (Higham,
"Accuracy and Stability of Numerical Algorithms", 4.2). Rounding the sum to the result's dtype adds half a unit in the
last place. `roundings` states n for each family of kernels; for no element does it exceed the number of the products
that are summed in it, which is that of a plain sum, and of the same products in any order.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from mps_conv_transpose3d._arguments import Geometry

UNIT = 2.0**-24  # half the distance from 1 to the next number in float32

# Errors of random sums grow as the root of their length: this times sqrt(products) in the place of n. Measured, not
# proved: three times the worst, 1.78, that two hours of `make fuzz` have seen.
ROOT_FACTOR = 5.4

# A product is rounded once itself, unless it is fused with a sum; the bias is added at the end of a forward pass.
_OWN_AND_BIAS = 2
# A compensated sum errs by a unit of its result and by second-order terms. There are up to three of them behind each
# other (threads of a simdgroup, simdgroups, parts), and each ends with an addition of what rounding took.
_COMPENSATED = 8


@dataclass(frozen=True)
class _Problem:
    """What the sums of one group are made of."""

    batch: int
    in_channels: int
    out_channels: int
    taps: int
    taps_of_output: int  # that reach one output at most
    positions: int
    width: int  # of the input
    outputs: int  # positions of the output

    @classmethod
    def of(cls, g: Geometry) -> _Problem:
        reaching = (-(-k // (s // math.gcd(s, d))) for k, s, d in zip(g.kernel, g.stride, g.dilation))
        return cls(
            batch=g.batch,
            in_channels=g.in_channels // g.groups,
            out_channels=g.out_channels // g.groups,
            taps=math.prod(g.kernel),
            taps_of_output=math.prod(reaching),
            positions=math.prod(g.input),
            width=g.input[2],
            outputs=math.prod(g.output),
        )


def roundings(pass_: str, algorithm: str, g: Geometry) -> int:
    """The most roundings that a product goes through on its way into a result of `algorithm`.

    `algorithm` is a name of torch.ops.mps_conv_transpose3d.algorithms(), "composite" or "native". For "bias_grad" it is
    the algorithm that computes the weight's gradient where that sums the bias's too, else "direct".
    """
    p = _Problem.of(g)
    # That one element sums at most; of the bias's gradient, how many terms.
    products = {
        "forward": p.in_channels * p.taps_of_output,
        "input_grad": p.out_channels * p.taps,
        "weight_grad": p.batch * p.positions,
        "bias_grad": p.batch * p.outputs,
    }[pass_]
    if algorithm == "native":
        return products + _OWN_AND_BIAS
    family = {"forward": _forward, "input_grad": _input_grad, "weight_grad": _weight_grad, "bias_grad": _bias_grad}
    return family[pass_](algorithm, p, products) + _OWN_AND_BIAS


def _ceil_div(a: int, b: int) -> int:
    return -(-a // b)


def _gemm(products: int, chunk_k: int) -> int:
    """Sums of `chunk_k` products are added to a running total (block_mma.h). A tile may have four K slices, each with a
    total of its own, which are added in the end.
    """
    return chunk_k + _ceil_div(products, chunk_k) + 4


def _forward(algorithm: str, p: _Problem, products: int) -> int:
    if algorithm == "direct":
        return p.in_channels + p.taps_of_output  # the channels of each tap are summed apart (add_tap)
    if algorithm == "depthwise":
        return 8 + p.in_channels  # up to 8 taps of a channel are summed apart (cell)
    if algorithm == "tiled_gemm_bm64_bn128":
        return products  # without running totals
    if algorithm.startswith("tiled_gemm"):
        return _gemm(products, 64)
    if algorithm in ("polyphase_gemm", "polyphase_gemm_k3s2"):
        # A step has the taps of 8 channels that are staged together, up to 32 of all fragments and up to 16 of one.
        # After as many steps as make 64 products, or after each, the sums are added to a total. Taps that are staged
        # in different blocks of shifts come in steps of their own.
        step = 8 * min(p.taps_of_output, 16)
        steps_of_sum = max(64 // step, 1)
        steps = _ceil_div(p.in_channels, 8) * p.taps_of_output
        return steps_of_sum * step + _ceil_div(steps, steps_of_sum)
    return p.in_channels + p.taps_of_output  # composite: a matrix product for each tap, added in turn


def _input_grad(algorithm: str, p: _Problem, products: int) -> int:
    if algorithm == "direct":
        return p.out_channels + p.taps  # the channels of each tap are summed apart (add_tap)
    if algorithm == "depthwise":
        return 27 + p.out_channels  # the taps of a channel are summed apart
    if algorithm.startswith("gemm"):
        return _gemm(products, 64)
    return products  # composite: one matrix product where the kernel tiles the output


def _weight_grad(algorithm: str, p: _Problem, products: int) -> int:
    if algorithm == "direct":
        # A thread sums a row of the input plainly, of which its threadgroup has 8 threads or more; rows are
        # compensated.
        return _ceil_div(p.width, 8) + _COMPENSATED
    if algorithm == "depthwise":
        return _plain_terms(p) + _COMPENSATED
    if algorithm.startswith("gemm"):
        # Each sample is added to the total by itself. Splits have 128 positions or more and are added plainly.
        return _gemm(products, 32) + 2 * p.batch + _ceil_div(products, 128)
    return p.positions + p.batch  # composite: a matrix product for each sample, added in turn


def _bias_grad(algorithm: str, p: _Problem, products: int) -> int:
    if algorithm == "direct":
        return 8 + _COMPENSATED  # kPositionsAtOnce
    if algorithm == "depthwise":
        return 27 * _plain_terms(p) + _COMPENSATED  # an input at a border stands for up to 27 outputs
    if algorithm.startswith("gemm"):
        return 32 + 4 + _COMPENSATED  # kShortSum, and 16 lanes
    return products  # composite: however PyTorch sums


def _plain_terms(p: _Problem) -> int:
    """Of a thread of a depthwise kernel before kPlainTerms ends its sum, and over the 32 lanes."""
    return 64 + _ceil_div(p.width, 8) + 5


@dataclass(frozen=True)
class Sums:
    """A result in float64: of each element the exact value, the sum of |products|, and how many are summed."""

    exact: torch.Tensor
    absolute: torch.Tensor
    products: torch.Tensor


def allowed_error(sums: Sums, dtype: torch.dtype, roundings: int) -> torch.Tensor:
    """For each element of a result in `dtype`, whose products go through so many roundings at most."""
    n = (sums.products + _OWN_AND_BIAS).clamp(max=roundings) * UNIT
    of_sum = sums.absolute * n / (1 - n)
    return of_sum + half_unit(sums.exact.abs() + of_sum, dtype)


def root_factor(sums: Sums, dtype: torch.dtype, error: torch.Tensor) -> torch.Tensor:
    """Of each element the `a` by which it errs: a * sqrt(products) * 2**-24 * (sum of |products|), and half a unit."""
    of_sum = (error - half_unit(sums.exact.abs(), dtype)).clamp(min=0)
    return of_sum / (sums.products.sqrt() * UNIT * sums.absolute).clamp(min=1e-300)


def half_unit(value: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """What rounding a float64 number no larger than `value` to `dtype` changes at most."""
    info = torch.finfo(dtype)
    _, exponent = torch.frexp(value.clamp(info.smallest_normal, info.max))
    return torch.ldexp(torch.full_like(value, info.eps / 4), exponent)  # value < 2 ** exponent
