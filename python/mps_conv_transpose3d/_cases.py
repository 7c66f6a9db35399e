"""Calls of ConvTranspose3d: those that networks make, and one given by hand."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

Triple = tuple[int, int, int]


@dataclass(frozen=True)
class Case:
    """One call: `input` is [N, C, D, H, W] or, unbatched, [C, D, H, W]; `weight` is [C, O / groups, kD, kH, kW]."""

    name: str
    input: tuple[int, ...]
    weight: tuple[int, ...]
    bias: bool = True
    stride: Triple = (1, 1, 1)
    padding: Triple = (0, 0, 0)
    output_padding: Triple = (0, 0, 0)
    dilation: Triple = (1, 1, 1)
    groups: int = 1
    calls: dict[str, int] = field(default_factory=dict, compare=False)  # network: how often it makes this call

    def __str__(self) -> str:
        return self.name

    @property
    def kernel(self) -> tuple[int, ...]:
        return self.weight[2:]

    @property
    def out_channels(self) -> int:
        return self.weight[1] * self.groups

    @cached_property
    def output(self) -> tuple[int, ...]:
        """Shape of the result."""
        size = [
            (i - 1) * s - 2 * p + d * (k - 1) + op + 1
            for i, k, s, p, op, d in zip(
                self.input[-3:], self.kernel, self.stride, self.padding, self.output_padding, self.dilation
            )
        ]
        return (*self.input[:-4], self.out_channels, *size)

    @property
    def multiplications(self) -> int:
        """How many products the forward pass sums; each gradient sums as many."""
        return math.prod(self.input) * self.weight[1] * math.prod(self.kernel)

    @property
    def arguments(self) -> dict:
        """Keyword arguments of conv_transpose3d other than the tensors."""
        return {
            "stride": self.stride,
            "padding": self.padding,
            "output_padding": self.output_padding,
            "groups": self.groups,
            "dilation": self.dilation,
        }


def network_cases() -> list[Case]:
    """Every distinct call of 17 networks of the field, at the patch and batch sizes they are used with."""
    entries = json.loads((Path(__file__).parent / "network_shapes.json").read_text())
    cases = []
    for entry in entries:
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in entry.items()}
        cases.append(Case(name=values.pop("id"), **values))
    return cases
