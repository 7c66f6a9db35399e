"""Stride, padding, output padding, dilation, groups, kernel size, sizes: one property at a time, then at random."""

import math

import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from cases import LONG, SWEEP, Case
from reference import DTYPES, check_case, make_tensors


@pytest.mark.parametrize("case", SWEEP, ids=str)
def test_argument(dtype, case):
    check_case(case, make_tensors(case, dtype), dense)


def test_long_pass_runs_in_slices(record):
    """macOS ends work that keeps the display's GPU for seconds, so there is a bound for one dispatch."""
    tensors = make_tensors(LONG, torch.float32)
    torch.ops.mps_conv_transpose3d.force_method("direct")
    try:
        with record() as recording:
            check_case(LONG, tensors, dense)
    finally:
        torch.ops.mps_conv_transpose3d.force_method(None)
    assert recording.kernels.count("conv_transpose3d_forward_float") > 1


def triples(low: int, high: int) -> st.SearchStrategy[tuple[int, int, int]]:
    return st.tuples(*[st.integers(low, high)] * 3)


@st.composite
def random_cases(draw: st.DrawFn) -> Case:
    groups = draw(st.integers(1, 3))
    batch = draw(st.sampled_from([(), (1,), (2,), (3,)]))
    weight_channels = groups * draw(st.integers(1, 5)), draw(st.integers(1, 5))
    kernel, size = draw(triples(1, 4)), draw(triples(1, 5))
    stride, dilation = draw(triples(1, 4)), draw(triples(1, 3))
    # Only below stride or dilation is it valid.
    output_padding = tuple(draw(st.integers(0, max(s, d) - 1)) for s, d in zip(stride, dilation))
    case = Case(
        name="random",
        input=(*batch, weight_channels[0], *size),
        weight=(*weight_channels, *kernel),
        bias=draw(st.booleans()),
        stride=stride,
        padding=draw(triples(0, 3)),
        output_padding=output_padding,
        dilation=dilation,
        groups=groups,
    )
    assume(all(0 < n <= 24 for n in case.output[-3:]))
    assume(math.prod(case.output) <= 40_000)
    return case


def dense(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.to("mps")


def transposed(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.transpose(-1, -2).contiguous().to("mps").transpose(-1, -2) if tensor.dim() > 1 else tensor.to("mps")


def offset(tensor: torch.Tensor) -> torch.Tensor:
    """The same values in the middle of a larger storage."""
    whole = torch.full((tensor.numel() + 10,), float("nan"), dtype=tensor.dtype).to("mps")
    return whole[7:-3].view(tensor.shape).copy_(tensor)


def every_second(tensor: torch.Tensor) -> torch.Tensor:
    whole = torch.full((*tensor.shape[:-1], 2 * tensor.shape[-1]), float("nan"), dtype=tensor.dtype).to("mps")
    return whole[..., ::2].copy_(tensor)


@settings(
    derandomize=True,
    deadline=None,
    max_examples=200,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
)
@given(
    case=random_cases(),
    dtype=st.sampled_from(sorted(DTYPES)),
    layout=st.sampled_from([dense, transposed, offset, every_second]),
)
def test_random_case(case, dtype, layout):
    check_case(case, make_tensors(case, DTYPES[dtype]), layout)
