"""Stride, padding, output padding, dilation, groups, kernel size, sizes: one property at a time, then at random."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from cases import LONG, SWEEP, Case
from mps_conv_transpose3d import _switch
from reference import DTYPES, check_case, forward_and_backward, make_tensors, map_tensors


@pytest.mark.parametrize("case", SWEEP, ids=str)
def test_argument(dtype, case):
    check_case(case, make_tensors(case, dtype), dense)


def test_long_pass_runs_in_slices(record):
    """macOS ends work that keeps the display's GPU for seconds, so there is a bound for one dispatch."""
    tensors = make_tensors(LONG, torch.float32)
    with record() as recording:
        check_case(LONG, tensors, dense, algorithm="direct")
    assert recording.kernels.count("conv_transpose3d_forward_direct_float") > 1


LARGE = 2**40
WITHOUT_EFFECT = [
    Case("dilation_of_one_tap", (2, 4, 3, 2, 3), (4, 3, 1, 2, 1), dilation=(LARGE, 1, 2**62)),
    Case("stride_of_one_input", (2, 4, 1, 2, 1), (4, 3, 2, 3, 2), stride=(LARGE, 2, 2**62), padding=(0, 1, 0)),
    Case("both", (1, 8, 1, 1, 1), (8, 16, 1, 2, 1), stride=(LARGE,) * 3, dilation=(LARGE, 3, LARGE)),
    Case(
        "under_output_padding",
        (1, 2, 1, 2, 2),
        (2, 3, 1, 1, 2),
        stride=(LARGE, 1, 2),
        padding=(1, 0, 0),
        output_padding=(3, 2, 1),
        dilation=(1, LARGE, 1),
    ),
]


def with_small_hyper_parameters(case: Case) -> Case:
    """The same call as CPU PyTorch computes it."""
    small = {name: tuple(min(v, 7) for v in getattr(case, name)) for name in ("stride", "dilation")}
    return replace(case, **small)


@pytest.mark.parametrize("backend", ["kernels", "composite"])
@pytest.mark.parametrize("case", WITHOUT_EFFECT, ids=str)
def test_large_hyper_parameters_without_effect(dtype, case, backend):
    """Held against the same call with small ones: the CPU, which keeps 32 bits of them, has no answer of its own."""
    small = with_small_hyper_parameters(case)
    tensors = make_tensors(small, dtype)
    _switch.serve(backend)
    actual = forward_and_backward(case, map_tensors(lambda t: t.to("mps"), tensors))
    expected = forward_and_backward(small, map_tensors(lambda t: t.to("mps"), tensors))
    assert all(torch.equal(actual[name].cpu(), expected[name].cpu()) for name in expected)
    check_case(small, tensors, dense)


@pytest.mark.parametrize("backend", ["kernels", "composite"])
def test_a_stride_and_a_dilation_whose_product_is_past_32_bits(dtype, backend):
    """Outputs of which hardly any is reached: all are the bias, and nobody loops over the stride."""
    case = Case("sparse", (1, 2, 2, 1, 1), (2, 1, 2, 1, 1), stride=(2**17, 1, 1), dilation=(2**17 + 1, 1, 1))
    _switch.serve(backend)
    check_case(case, make_tensors(case, dtype), dense)


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
