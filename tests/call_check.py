"""What is right for a call of ConvTranspose3d (calls.py), and how a result may differ from it."""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch._subclasses import FakeTensorMode

import error_bound
from calls import (
    MOST_ELEMENTS,
    Call,
    Convolution,
    elements_of,
    hyper_parameters_of,
    is_legal,
    is_mixed,
    run,
    tensors_of,
)
from definition import conv_transpose3d_by_definition
from mps_conv_transpose3d import _planner
from mps_conv_transpose3d._arguments import Geometry
from reference import DTYPES, Tensors, largest, map_tensors, unit_in_last_place

INT32 = 2**31


@dataclass(frozen=True)
class Refusal:
    """An exception: its type and its first line."""

    kind: type[Exception]
    words: str

    @classmethod
    def of(cls, error: Exception) -> Refusal:
        return cls(type(error), str(error).split("\n", 1)[0])


def outcome(function: Callable[[], Tensors]) -> Tensors | Refusal:
    try:
        return function()
    except Exception as error:
        return Refusal.of(error)


def is_tame(call: Call) -> bool:
    """Whether the CPU, which keeps hyper-parameters and some products of them in 32 bits, may be asked."""
    g = call.geometry
    if g is None:
        return all(-INT32 <= value < INT32 for value in hyper_parameters_of(call))
    if _has_no_samples(call):
        return True
    axes = zip(g.input, g.kernel, g.stride, g.padding, g.output_padding, g.dilation)
    if not all(
        max(abs(s) * i, 2 * abs(p), abs(op), abs(d) * k, abs(s), abs(d)) < INT32 / 8 for i, k, s, p, op, d in axes
    ):
        return False
    return elements_of(g) <= MOST_ELEMENTS


@dataclass(frozen=True)
class Observation:
    """How one result of a legal call compares."""

    what: str
    algorithm: str
    dtype: str
    of_allowed: float  # the largest error of an element, over what it is allowed
    root_factor: float  # the largest of an element (error_bound.py)
    of_cpu: float  # the largest error over that of the CPU, which rounds a float32 result once
    beyond_cpu: bool  # whether it is over twice the CPU's and one unit in the last place of the largest value


def check(call: Call, backend: str = "kernels") -> list[Observation] | Refusal:
    """Makes a call on device `mps`. Raises AssertionError where it is not right; else tells how it went."""
    tensors = tensors_of(call, "mps")
    before = map_tensors(_storage_of, tensors)
    actual = outcome(lambda: run(call, tensors))
    torch.mps.synchronize()  # what went wrong on the device is raised here, if it was not before
    for name, tensor in tensors.items():
        assert torch.equal(_storage_of(tensor), before[name]), f"{name}, or what lies around it, has been written to"
    if not isinstance(actual, Refusal):
        _check_places(call, tensors, actual)
        actual = map_tensors(torch.Tensor.cpu, actual)
    if is_tame(call):
        return _check_against_cpu(call, actual, backend)
    return _check_large(call, actual, backend)


def _storage_of(tensor: torch.Tensor) -> torch.Tensor:
    """All bytes of it."""
    size = tensor.untyped_storage().nbytes() // tensor.element_size()
    return tensor.as_strided((size,), (1,), 0).cpu().view(torch.uint8)


def _check_places(call: Call, tensors: Tensors, results: Tensors) -> None:
    """They are where a compiled graph, which is made from the predicted strides, looks for them."""
    for name, result in results.items():
        assert result.device.type == "mps", f"{name} is on {result.device}"
        assert not any(_share_memory(result, tensor) for tensor in tensors.values()), f"{name} is in an operand"
    if _has_no_samples(call):
        return  # to PyTorch's own function, which does otherwise than is predicted of it
    with FakeTensorMode() as mode:
        predicted = run(replace(call, algorithm=None, cores=None), map_tensors(mode.from_tensor, tensors))
    for name, result in results.items():
        expected = predicted[name].stride()
        assert result.stride() == expected, f"{name}: strides {result.stride()}, predicted {expected}"


def _share_memory(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.numel() > 0 and a.untyped_storage().data_ptr() == b.untyped_storage().data_ptr()


def _check_against_cpu(call: Call, actual: Tensors | Refusal, backend: str) -> list[Observation] | Refusal:
    if _is_misread_by_cpu(call):
        assert isinstance(actual, Refusal), f"a gradient of another shape than the output's: {_brief(actual)}"
        return actual
    on_cpu = tensors_of(call, "cpu")
    # Of a bfloat16 or float16 result the CPU's is that of float32, rounded once. oneDNN has no words of its own for
    # what it refuses, and its backward pass in bfloat16 may end the process.
    in_float32 = on_cpu if is_mixed(call) else map_tensors(torch.Tensor.float, on_cpu)
    with without_onednn():
        baseline = outcome(lambda: run(call, in_float32))
    if isinstance(baseline, Refusal):
        assert isinstance(actual, Refusal), f"the CPU refuses it, {baseline}; here: {_brief(actual)}"
        assert _is_same_refusal(call, actual, baseline), f"the CPU refuses it, {baseline}; here: {actual}"
        return actual
    if isinstance(actual, Refusal):
        assert _may_refuse(call), f"the CPU computes it; here: {actual}"
        return actual
    return _compare(call, actual, baseline, F.conv_transpose3d, backend)


@contextlib.contextmanager
def without_onednn() -> Iterator[None]:
    """torch.backends.mkldnn.flags() warns of what else it sets."""
    before = torch._C._get_mkldnn_enabled()
    torch._C._set_mkldnn_enabled(False)
    try:
        yield
    finally:
        torch._C._set_mkldnn_enabled(before)


def _has_no_samples(call: Call) -> bool:
    return len(call.input) == 5 and call.input[0] == 0


def _is_same_refusal(call: Call, actual: Refusal, cpus: Refusal) -> bool:
    if actual.kind is not cpus.kind:
        return False
    if _has_no_samples(call) or (is_mixed(call) and "scalar type" in actual.words):
        # The CPU stumbles over a batch of no samples in some function inside; and it looks at dtypes last.
        return True
    # The CPU sees one group at a time, and prints its sizes; it does not look at the batch of grad_output.
    numbers = r"-?\d+"
    differ = call.groups > 1 or (call.grad_output is not None and call.grad_output[:1] != call.input[:1])
    return actual == cpus or (differ and re.sub(numbers, "", actual.words) == re.sub(numbers, "", cpus.words))


def _may_refuse(call: Call) -> bool:
    """The CPU does not look at what it need not compute with: of no samples, and for the bias's gradient alone."""
    return not is_legal(call) and (_has_no_samples(call) or call.wanted == ["bias"])


def _is_misread_by_cpu(call: Call) -> bool:
    """A gradient of the output with another batch, or with channels that are left over when groups divide them.

    Whatever else is wrong with a call the CPU sees first.
    """
    is_given = call.by_operator and call.wanted and call.grad_output and not _has_no_samples(call)
    if not is_given or not is_legal(replace(call, grad_output=None)):
        return False
    given, right = call.grad_output, call.output
    return (
        given != right
        and len(given) == len(right)
        and given[-4] // call.groups == right[-4] // call.groups
        and given[-3:] == right[-3:]
    )


def _check_large(call: Call, actual: Tensors | Refusal, backend: str) -> list[Observation] | Refusal:
    """Hyper-parameters that the CPU does not keep: they are refused, unless the call can be computed all the same."""
    if isinstance(actual, Refusal):
        assert actual.kind is RuntimeError, f"{actual}"
        assert not is_legal(call) or max(hyper_parameters_of(call)) >= INT32, f"it is legal, but: {actual}"
        return actual
    assert is_legal(call), f"it is illegal, but computed: {_brief(actual)}"
    in_float32 = map_tensors(torch.Tensor.float, tensors_of(call, "cpu"))
    baseline = run(call, in_float32, conv_transpose3d_by_definition)
    return _compare(call, actual, baseline, conv_transpose3d_by_definition, backend)


def _brief(actual: Tensors | Refusal) -> str:
    return (
        str(actual) if isinstance(actual, Refusal) else f"results of shapes {[tuple(t.shape) for t in actual.values()]}"
    )


PASSES = {
    "output": "forward",
    "input gradient": "input_grad",
    "weight gradient": "weight_grad",
    "bias gradient": "bias_grad",
}


def _compare(
    call: Call, actual: Tensors, baseline: Tensors, convolution: Convolution, backend: str
) -> list[Observation]:
    g = call.geometry
    assert g is not None
    on_cpu = map_tensors(torch.Tensor.double, tensors_of(call, "cpu"))
    exact, absolute, products = (
        run(call, map_tensors(function, on_cpu), convolution)
        for function in (torch.Tensor.clone, torch.Tensor.abs, torch.ones_like)
    )
    algorithms = algorithms_of(call, backend)
    assert actual.keys() == exact.keys()
    observations = []
    for what in actual:
        sums = error_bound.Sums(exact[what], absolute[what], products[what])
        observations.append(_observe(call, what, algorithms[PASSES[what]], actual[what], sums, baseline[what], g))
    return observations


def _observe(
    call: Call,
    what: str,
    algorithm: str,
    actual: torch.Tensor,
    sums: error_bound.Sums,
    baseline: torch.Tensor,
    g: Geometry,
) -> Observation:
    dtype, exact = baseline.dtype if is_mixed(call) else DTYPES[call.dtype], sums.exact
    assert actual.shape == exact.shape, f"{what}: shape {tuple(actual.shape)}, expected {tuple(exact.shape)}"
    assert actual.dtype == dtype, f"{what}: {actual.dtype}, expected {dtype}"
    if exact.numel() == 0:
        return Observation(what, algorithm, call.dtype, 0, 0, 0, False)
    # Beyond the largest number of the dtype a result is infinite.
    limit = 2.0 ** (math.frexp(torch.finfo(dtype).max)[1])
    error = (actual.double().clamp(-limit, limit) - exact.clamp(-limit, limit)).abs()
    if call.values == "integers":
        allowed = error_bound.half_unit(exact.abs(), dtype) if dtype != torch.float32 else torch.zeros_like(exact)
    else:
        allowed = error_bound.allowed_error(sums, dtype, error_bound.roundings(PASSES[what], algorithm, g))
    wrong = ~(error <= allowed)
    if wrong.any():
        where = tuple(wrong.nonzero()[0].tolist())
        raise AssertionError(
            f"{what} by {algorithm}: {int(wrong.sum())} of {wrong.numel()} elements are wrong, the first at {where}:"
            f" {actual[where].item():.9g}, exact {exact[where].item():.9g},"
            f" error {error[where].item():.3g}, allowed {allowed[where].item():.3g}"
        )
    rounded = baseline.to(dtype).double().clamp(-limit, limit)
    worst, cpus = largest(error), largest(rounded - exact.clamp(-limit, limit))
    return Observation(
        what,
        algorithm,
        call.dtype,
        of_allowed=largest(error / allowed.clamp(min=1e-300)),
        root_factor=largest(error_bound.root_factor(sums, dtype, error)),
        of_cpu=worst / cpus if cpus else (math.inf if worst else 1.0),
        beyond_cpu=worst > 2 * cpus + unit_in_last_place(largest(exact), dtype),
    )


def algorithms_that_can(call: Call) -> list[str]:
    """Compute a pass of it."""
    if _has_no_samples(call):
        return []
    try:
        return [
            name
            for name in torch.ops.mps_conv_transpose3d.algorithms()
            if any(plan.algorithm == name for plan in _planner.plans(call.case, call.dtype, 10, name).values())
        ]
    except OverflowError:
        return []


def algorithms_of(call: Call, backend: str) -> dict[str, str]:
    """The algorithm that computes each pass: as planned, for dense tensors."""
    if _has_no_samples(call):
        return dict.fromkeys(PASSES.values(), "native")
    if backend != "kernels":
        return dict.fromkeys(PASSES.values(), "composite")
    sums_bias = call.bias is not None and call.wants[1] and call.wants[2]
    case = replace(call.case, bias=sums_bias)
    try:
        plans = _planner.plans(case, call.dtype, call.cores, call.algorithm)
    except OverflowError:
        return dict.fromkeys(PASSES.values(), "composite")
    found = {name: str(plan.algorithm) for name, plan in plans.items()}
    if plans["weight_grad"].has_bias_grad:
        found["bias_grad"] = found["weight_grad"]
    return found
