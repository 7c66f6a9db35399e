"""The definition by which calls are judged that the CPU's operator does not keep: where that computes, they agree."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from cases import SWEEP, Case
from definition import conv_transpose3d_by_definition
from reference import make_tensors


@pytest.mark.parametrize("case", SWEEP, ids=str)
def test_definition(case: Case) -> None:
    tensors = make_tensors(case, torch.float64)
    leaves = [tensors[name].requires_grad_() for name in ("input", "weight", "bias") if name in tensors]
    bias = leaves[2:] or [None]

    def results(convolution: object) -> list[torch.Tensor]:
        output = convolution(*leaves[:2], *bias, **case.arguments)
        return [output, *torch.autograd.grad(output, leaves, tensors["grad_output"])]

    for mine, cpus in zip(results(conv_transpose3d_by_definition), results(F.conv_transpose3d)):
        torch.testing.assert_close(mine, cpus, rtol=1e-12, atol=1e-12)


def test_definition_beyond_32_bits() -> None:
    """Padding cuts all but what the middle one of three taps reaches."""
    x, w = torch.full((1, 1, 1, 1, 1), 3.0), torch.tensor([5.0, 7.0, 11.0]).view(1, 1, 3, 1, 1).requires_grad_()
    y = conv_transpose3d_by_definition(x, w, torch.ones(1), 1, (2**40, 0, 0), 0, (2**40, 1, 1), groups=1)
    assert y.flatten().tolist() == [3 * 7 + 1]
    (gradient,) = torch.autograd.grad(y, w, torch.full_like(y, 2.0))
    assert gradient.flatten().tolist() == [0, 2 * 3, 0]
