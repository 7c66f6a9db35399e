"""`make fuzz` itself: what goes wrong in a call is found, whatever way it goes wrong, and made small."""

from __future__ import annotations

import itertools
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from call_check import check
from calls import Call, Layout
from mps_conv_transpose3d import _composite, _fallback, _switch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tools"))

from fuzz import Ended, Failure, Hung, Maker, Wrong, smallest_failure

CALL = Call((1, 1, 1, 1, 1), (1, 1, 1, 1, 1))


def do(call: Call) -> str:
    """What `values` says: for a process of its own."""
    if call.values == "wrong":
        raise AssertionError("it is wrong")
    if call.values == "ends":
        os.abort()
    if call.values == "hangs":
        time.sleep(1000)
    if call.values == "is killed":
        os.kill(os.getpid(), signal.SIGKILL)
    return call.values


def test_whatever_happens_to_a_process_the_next_call_is_made() -> None:
    maker = Maker(do, 100)
    for values, error, words in (
        ("wrong", Wrong, "AssertionError: it is wrong"),
        ("ends", Ended, "(?s)the process ended with -6.*Fatal Python error: Aborted"),
        ("hangs", Hung, "did not return within 1 s"),
    ):
        assert maker.make(replace(CALL, values="right")) == "right"
        seconds, maker.seconds = maker.seconds, 1 if error is Hung else maker.seconds
        with pytest.raises(error, match=words):
            maker.make(replace(CALL, values=values))
        maker.seconds = seconds
    assert maker.make(replace(CALL, values="is killed")) is None, "from outside: no fault of the call"
    maker.end()


class Here:
    """A Maker that makes calls in this process, and passes its errors off as others."""

    def __init__(self, check: Callable[[Call], object], error: type[Exception] = Wrong) -> None:
        self.check, self.error, self.seconds = check, error, 100

    def make(self, call: Call) -> object:
        try:
            return self.check(call)
        except AssertionError as error:
            raise self.error(str(error)) from error


def first_failure(maker: Here) -> Failure:
    failures = (smallest_failure(seed, maker, lambda call, result: None) for seed in itertools.count())
    return next(filter(None, failures))


@pytest.mark.parametrize("error", [Ended, Hung])
def test_whatever_fails_is_made_small(error: type[Exception]) -> None:
    def fails(call: Call) -> None:
        if call.groups > 1 and call.dtype == "float16":
            raise AssertionError("groups in half precision")

    failure = first_failure(maker := Here(fails, error))
    assert (failure.call.groups, failure.call.dtype) == (2, "float16")
    assert failure.call.input == (1, 2, 1, 1, 1) and not failure.call.layouts
    assert failure.words == "groups in half precision"
    assert maker.seconds == 100, "less patience for smaller calls than one that hung ends with them"


def test_what_fails_now_and_then_is_reported() -> None:
    times = itertools.count()

    def fails_once(call: Call) -> None:
        if next(times) == 3:
            raise AssertionError("the fourth time")

    assert first_failure(Here(fails_once)).words == "the fourth time\n(not each time)"


# --- Faults of an operation ---


def test_a_wrong_result_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The gradient of the weight leaves out the last sample."""
    right = _composite.backward

    def wrong(grad_output, input, weight, mask, g):
        gradients = right(grad_output, input, weight, mask, g)
        if mask[1] and g.batch > 1:
            last = replace(g, batch=1)
            gradients[1].sub_(right(grad_output[-1:], input[-1:], weight, (False, True, False), last)[1])
        return gradients

    monkeypatch.setattr(_composite, "backward", wrong)
    _switch.serve("composite")
    failure = first_failure(Here(lambda call: check(call, "composite")))
    assert "weight gradient by composite: 1 of 1 elements are wrong" in failure.words
    assert (failure.call.input, failure.call.weight) == ((2, 1, 1, 1, 1), (1, 1, 1, 1, 1))


def test_a_write_beside_a_tensor_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    right = _composite.forward

    def wrong(input, weight, bias, g):
        weight.as_strided((1,), (1,), weight.storage_offset() - 1).zero_()
        return right(input, weight, bias, g)

    monkeypatch.setattr(_composite, "forward", wrong)
    _switch.serve("composite")
    with pytest.raises(AssertionError, match="weight, or what lies around it, has been written to"):
        check(replace(CALL, layouts={"weight": Layout(offset=1)}), "composite")


def test_strides_that_nobody_predicts_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_fallback, "_result_format", lambda *_: torch.channels_last_3d)
    _switch.serve("composite")
    with pytest.raises(AssertionError, match=r"output: strides \(32, 1, 16, 8, 4\), predicted \(32, 8, 4, 2, 1\)"):
        check(Call((2, 3, 2, 2, 2), (3, 4, 1, 1, 1)), "composite")


def test_a_result_in_an_operand_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_composite, "forward", lambda input, weight, bias, g: input)
    _switch.serve("composite")
    with pytest.raises(AssertionError, match="output is in an operand"):
        check(CALL, "composite")
