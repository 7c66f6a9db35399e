"""What a pass of ConvTranspose3d cannot do without: products to be summed, and bytes to be moved."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from model import CORE
from mps_conv_transpose3d._cases import Case

OPS = ("forward", "input_grad", "weight_grad")
ITEM_SIZE = {"float32": 4, "float16": 2, "bfloat16": 2}


def useful_pairs(size: int, kernel: int, stride: int, padding: int, dilation: int, output: int) -> int:
    """Along one axis, the pairs (position of the input, tap) that reach the output and not its padding."""
    return sum(0 <= i * stride + k * dilation - padding < output for i in range(size) for k in range(kernel))


def reached(size: int, kernel: int, stride: int, padding: int, dilation: int, output: int) -> np.ndarray:
    """Along one axis, the outputs that any tap reaches: not all where the kernel is smaller than the stride."""
    places = {i * stride + k * dilation - padding for i in range(size) for k in range(kernel)}
    return np.array(sorted(place for place in places if 0 <= place < output))


@dataclass(frozen=True)
class Problem:
    """One pass of one call, in one dtype. The bias's gradient belongs to that of the weight."""

    case: Case
    op: str
    dtype: str

    @property
    def batch(self) -> int:
        return self.case.input[0]

    @property
    def axes(self) -> list[tuple[int, ...]]:
        c = self.case
        return list(zip(c.input[2:], c.kernel, c.stride, c.padding, c.dilation, c.output[2:]))

    @property
    def useful_fma(self) -> int:
        c = self.case
        return self.batch * c.input[1] * c.weight[1] * math.prod(useful_pairs(*axis) for axis in self.axes)

    def bytes_of(self, *elements: int) -> int:
        return ITEM_SIZE[self.dtype] * sum(elements)

    @property
    def input(self) -> int:
        return math.prod(self.case.input)

    @property
    def weight(self) -> int:
        return math.prod(self.case.weight)

    @property
    def output(self) -> int:
        return math.prod(self.case.output)

    @property
    def bias(self) -> int:
        return self.case.out_channels if self.case.bias else 0

    @property
    def compulsory_bytes(self) -> int:
        """Each tensor read once, each result written once.

        Of the output's gradient, unless it is summed for the bias, the lines that hold what any tap reaches.
        """
        bias = 0 if self.op == "input_grad" else self.bias
        summed = self.op == "forward" or bias
        output = self.bytes_of(self.output) if summed else self.reached_bytes
        return self.bytes_of(self.input, self.weight, bias) + output

    @property
    def reached_bytes(self) -> int:
        """Of the output's gradient, dense and at the beginning of a line."""
        places = [reached(*axis) for axis in self.axes]
        if all(len(found) == axis[-1] for found, axis in zip(places, self.axes)):
            return self.bytes_of(self.output)
        index = np.arange(self.batch * self.case.out_channels)
        for found, axis in zip(places, self.axes):
            index = (index[:, None] * axis[-1] + found).ravel()
        lines = self.bytes_of(1) * index // CORE.line_bytes
        return CORE.line_bytes * (1 + int(np.count_nonzero(np.diff(lines))))
