"""Calls at random: a few of those that `make fuzz` makes, and those that were found by it."""

from __future__ import annotations

import pytest

from call_check import check
from calls import Call, Layout
from error_bound import ROOT_FACTOR
from mps_conv_transpose3d import _switch
from random_calls import for_calls_of

FOUND = [
    # Strides of axes of size 1.
    Call((1, 1, 1, 2, 1), (1, 1, 1, 1, 1)),
    # Of no samples the CPU looks at less.
    Call((0, 1, 1, 1, 1), (1, 1, 1, 1, 1), dtypes={"input": "float16"}),
    Call((0, 1, 1, 1, 1), (1, 1, 1, 1, 1), padding=1),
    Call((0, 1, 1, 1, 1), (1, 1, 3, 3, 3), output_padding=(0, 0, 1), dilation=(1, 2, 1)),
    Call((0, 1, 1, 1, 1), (1, 1, 1, 1, 1), grad_output=(0, 0, 1, 1, 1), by_operator=True),
    Call((0, 1, 1, 1, 1), (1, 1, 1, 1, 1), grad_output=(1, 1, 1, 1, 1), by_operator=True),
    Call((0, 1, 1, 1, 1), (1, 2, 1, 1, 1), layouts={"weight": Layout(order=(4, 3, 2, 1, 0))}),
    # It sees one group at a time.
    Call((1, 2, 1, 1, 1), (2, 1, 1, 1, 1), groups=2, grad_output=(1, 0, 1, 1, 1), by_operator=True),
    Call((1, 2, 1, 1, 1), (2, 1, 1, 1, 1), groups=2, grad_output=(1, 3, 1, 1, 1), by_operator=True),
    Call((1, 2, 1, 1, 1), (2, 0, 1, 1, 1), groups=2),
    # It does not look at a gradient's batch, nor at one that is not used, and at none but one for the bias alone.
    Call((1, 1, 1, 1, 1), (1, 1, 1, 1, 1), grad_output=(2, 1, 1, 1, 1), by_operator=True),
    Call((1, 1, 1, 1, 1), (1, 1, 1, 1, 1), grad_output=(2, 1, 1, 1, 2), by_operator=True),
    Call((1, 1, 1, 1, 1), (1, 1, 1, 1, 1), grad_output=(1, 1, 1, 1, 2), by_operator=True, wants=(False, False, False)),
    Call(
        (1, 1, 1, 1, 1),
        (1, 1, 1, 1, 1),
        (1,),
        dtypes={"grad_output": "float16"},
        by_operator=True,
        wants=(False, False, True),
    ),
    # It looks at dtypes last, and autograd casts a gradient.
    Call((1, 1, 1, 1, 1), (1, 1, 1, 1, 1), padding=1, dtypes={"input": "float16"}),
    # Hyper-parameters of any size, whose output is small.
    Call((1, 1, 1, 1, 1), (1, 1, 2, 2, 2), padding=(2**26, 0, 0), dilation=(2**27, 1, 1)),
    Call((1, 1, 1, 1, 1), (1, 1, 2, 2, 2), padding=(2**30, 0, 0), dilation=(2**31, 1, 1)),
    Call((1, 1, 1, 1, 1), (1, 1, 3, 3, 3), bias=(2,), stride=2**30, padding=1),
]


@pytest.fixture(autouse=True, params=["kernels", "composite"])
def backend(request: pytest.FixtureRequest, _switched_on: None) -> str:
    _switch.serve(request.param)
    return request.param


@pytest.mark.parametrize("call", FOUND, ids=repr)
def test_what_was_found(call: Call, backend: str) -> None:
    check(call, backend)


@pytest.mark.parametrize("seed", range(25))
def test_random_calls(seed: int, backend: str) -> None:
    def hold(call: Call) -> None:
        seen = check(call, backend)
        for result in seen if isinstance(seen, list) else ():
            assert result.root_factor <= ROOT_FACTOR, f"{result.what} errs by more than has been measured"

    for_calls_of(seed, hold)
