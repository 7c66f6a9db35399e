"""Every distinct call of 18 networks, cut down in size, forward and backward."""

import pytest
import torch
import torch.nn.functional as F

from cases import NETWORKS, cut_down
from reference import assert_all_accurate, check_case, forward_and_backward, make_tensors, map_tensors

CASES = [cut_down(case) for case in NETWORKS]
SKIP_CONNECTIONS = [case for case in CASES if case.input[0] == 2]


def as_channel_slice(grad_output: torch.Tensor) -> torch.Tensor:
    """The same values as a slice of channels, as torch.cat with a skip connection hands a gradient back."""
    channels = grad_output.shape[-4]
    whole = torch.full((*grad_output.shape[:-4], 2 * channels, *grad_output.shape[-3:]), float("nan"))
    whole = whole.to(grad_output).narrow(-4, channels, channels).copy_(grad_output)
    assert not whole.is_contiguous() or whole.storage_offset() > 0
    return whole


def test_the_list_is_whole():
    assert len(CASES) == 72
    assert sum(sum(case.calls.values()) for case in NETWORKS) == 89
    assert {case.kernel == case.stride for case in CASES} == {True, False}


@pytest.mark.parametrize("case", CASES, ids=str)
def test_network_call(dtype, case):
    """With grad_output dense and as a channel slice: the results are equal, and as near to float64 as the CPU's."""
    tensors = make_tensors(case, dtype)
    on_device = map_tensors(lambda t: t.to("mps"), tensors)
    exact = forward_and_backward(case, map_tensors(torch.Tensor.double, tensors))
    baseline = forward_and_backward(case, tensors)
    assert_all_accurate(forward_and_backward(case, on_device), exact, baseline)
    on_device["grad_output"] = as_channel_slice(on_device["grad_output"])
    assert_all_accurate(forward_and_backward(case, on_device), exact, baseline)


def backward_of_slice(case, tensors):
    leaves = [tensors[name].detach().requires_grad_() for name in ("input", "weight", "bias") if name in tensors]
    output = F.conv_transpose3d(*leaves, **case.arguments)
    return lambda: torch.autograd.grad(output, leaves, tensors["grad_output"])


@pytest.mark.parametrize("case", SKIP_CONNECTIONS[::6], ids=str)
def test_channel_slice_of_grad_output_is_read_in_place(dtype, case, record):
    tensors = map_tensors(lambda t: t.to("mps"), make_tensors(case, dtype))
    tensors["grad_output"] = as_channel_slice(tensors["grad_output"])
    backward = backward_of_slice(case, tensors)
    with record() as recording:
        backward()
    recording.assert_only("input_grad", "weight_grad", *(["bias_grad"] if case.bias else []))
    assert not recording.copies, f"copied: {recording.copies}"


def test_skip_connection_as_networks_write_it(dtype):
    """The output goes into torch.cat with a skip: its gradient is a channel slice that autograd makes by itself."""
    case = SKIP_CONNECTIONS[0]
    tensors = make_tensors(case, dtype)

    def on(*to: object) -> dict[str, torch.Tensor]:
        moved = {name: t.detach().to(*to).requires_grad_() for name, t in tensors.items() if name != "grad_output"}
        skip = tensors["grad_output"].to(*to)
        output = F.conv_transpose3d(moved["input"], moved["weight"], moved.get("bias"), **case.arguments)
        joined = torch.cat([skip, output], dim=1)
        joined.backward(torch.cat([skip, skip], dim=1))
        return {name: t.grad for name, t in moved.items()}

    assert_all_accurate(on("mps"), on(torch.float64), on("cpu"))


@pytest.mark.parametrize("case", [c for c in CASES if c.groups == 1][:2], ids=str)
def test_second_seed(dtype, case):
    check_case(case, make_tensors(case, dtype, seed=1), lambda t: t.to("mps"))
