"""Invalid calls: the exception and the words of PyTorch's CPU operator, before anything reaches the device."""

import re
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mps_conv_transpose3d import _switch

CALLS = {
    "input of rank 2": ((3, 3), (4, 2, 3, 3, 3), {}),
    "input of rank 3": ((4, 3, 3), (4, 2, 3, 3, 3), {}),
    "input of rank 6": ((1, 1, 4, 3, 3, 3), (4, 2, 3, 3, 3), {}),
    "weight of rank 3": ((1, 4, 3, 3, 3), (4, 2, 3), {}),
    "weight of rank 4": ((1, 4, 3, 3, 3), (4, 2, 3, 3), {}),
    "weight of rank 6": ((1, 4, 3, 3, 3), (1, 4, 2, 3, 3, 3), {}),
    "channels differ": ((1, 3, 3, 3, 3), (4, 2, 3, 3, 3), {}),
    "channels differ, unbatched": ((3, 3, 3, 3), (4, 2, 3, 3, 3), {}),
    "groups do not divide channels": ((1, 4, 3, 3, 3), (4, 2, 3, 3, 3), {"groups": 3}),
    "more groups than channels": ((1, 4, 3, 3, 3), (4, 2, 3, 3, 3), {"groups": 8}),
    "groups zero": ((1, 4, 3, 3, 3), (4, 2, 3, 3, 3), {"groups": 0}),
    "groups negative": ((1, 4, 3, 3, 3), (4, 2, 3, 3, 3), {"groups": -2}),
    "stride zero": ((1, 4, 3, 3, 3), (4, 2, 3, 3, 3), {"stride": 0}),
    "stride zero on one axis": ((1, 4, 3, 3, 3), (4, 2, 3, 3, 3), {"stride": (1, 0, 1)}),
    "stride negative": ((1, 4, 3, 3, 3), (4, 2, 3, 3, 3), {"stride": -1}),
    "stride for two axes": ((1, 4, 3, 3, 3), (4, 2, 3, 3, 3), {"stride": (1, 1)}),
    "stride for four axes": ((1, 4, 3, 3, 3), (4, 2, 3, 3, 3), {"stride": (1, 1, 1, 1)}),
    "dilation zero": ((1, 4, 3, 3, 3), (4, 2, 3, 3, 3), {"dilation": 0}),
    "dilation zero on one axis": ((1, 4, 3, 3, 3), (4, 2, 3, 3, 3), {"dilation": (1, 1, 0)}),
    "dilation negative": ((1, 4, 3, 3, 3), (4, 2, 3, 3, 3), {"dilation": -1}),
    "padding negative": ((1, 4, 3, 3, 3), (4, 2, 3, 3, 3), {"padding": -1}),
    "padding for two axes": ((1, 4, 3, 3, 3), (4, 2, 3, 3, 3), {"padding": (1, 1)}),
    "output_padding negative": ((1, 4, 3, 3, 3), (4, 2, 3, 3, 3), {"output_padding": -1}),
    "output_padding equals stride": ((1, 4, 3, 3, 3), (4, 2, 3, 3, 3), {"stride": 2, "output_padding": 2}),
    "output_padding without stride": ((1, 4, 3, 3, 3), (4, 2, 3, 3, 3), {"output_padding": 1}),
    "output_padding too large on one axis": (
        (1, 4, 3, 3, 3),
        (4, 2, 3, 3, 3),
        {"stride": 2, "output_padding": (1, 1, 2)},
    ),
    "output_padding for two axes": ((1, 4, 3, 3, 3), (4, 2, 3, 3, 3), {"stride": 2, "output_padding": (0, 1)}),
    "output empty": ((1, 4, 3, 3, 3), (4, 2, 3, 3, 3), {"padding": 3}),
    "output negative": ((1, 4, 3, 3, 3), (4, 2, 3, 3, 3), {"padding": 4}),
    "output empty on one axis": ((1, 4, 3, 3, 3), (4, 2, 3, 3, 1), {"padding": (0, 0, 2)}),
    "input without voxels": ((1, 4, 0, 3, 3), (4, 2, 3, 3, 3), {}),
    "input without channels": ((1, 0, 3, 3, 3), (4, 2, 3, 3, 3), {}),
    "weight without output channels": ((1, 4, 3, 3, 3), (4, 0, 3, 3, 3), {}),
    "weight without taps": ((1, 4, 3, 3, 3), (4, 2, 3, 3, 0), {}),
    "neither channels in input nor in weight": ((1, 0, 3, 3, 3), (0, 2, 3, 3, 3), {}),
    "bias too short": ((1, 4, 3, 3, 3), (4, 2, 3, 3, 3), {"bias": (1,)}),
    "bias for one group": ((1, 4, 3, 3, 3), (4, 2, 3, 3, 3), {"bias": (2,), "groups": 2}),
    "bias of rank 2": ((1, 4, 3, 3, 3), (4, 2, 3, 3, 3), {"bias": (2, 1)}),
    "bias of rank 0": ((1, 4, 3, 3, 3), (4, 2, 3, 3, 3), {"bias": ()}),
}
# CPU PyTorch keeps hyper-parameters in 32 bits, and computes with what is left of them.
BEYOND_32_BITS = {
    "stride": ((1, 4, 8, 2, 2), (4, 2, 2, 2, 2), {"stride": (2**40, 1, 1)}),
    "stride whose multiple wraps round": (
        (1, 4, 8, 2, 2),
        (4, 2, 2, 2, 2),
        {"stride": (2**61, 1, 1), "output_padding": (2**61 - 1, 0, 0), "dilation": (8, 1, 1)},
    ),
    "stride with the sign bit": ((1, 4, 8, 2, 2), (4, 2, 2, 2, 2), {"stride": (1, 2**31, 1)}),
    "dilation": ((1, 4, 3, 3, 3), (4, 2, 3, 3, 3), {"dilation": (1, 1, 2**62)}),
    "padding whose double wraps round": ((1, 4, 3, 3, 3), (4, 2, 3, 3, 3), {"padding": (0, 2**62, 0)}),
    "output_padding and a small stride": ((1, 4, 3, 3, 3), (4, 2, 3, 3, 3), {"output_padding": 2**32 + 1}),
}
TOO_LARGE = {
    "stride": ((1, 4, 8, 2, 2), (4, 2, 2, 2, 2), {"stride": (2**40 + 3, 1, 1)}),
    "stride of 64 bits": ((1, 4, 8, 2, 2), (4, 2, 2, 2, 2), {"stride": 2**63 - 2**32 + 5}),
    "dilation": ((1, 4, 8, 2, 2), (4, 2, 2, 2, 2), {"dilation": (1, 2**32 + 1, 1)}),
    "padding": ((1, 4, 8, 2, 2), (4, 2, 2, 2, 2), {"padding": (1, 2**40, 1)}),
    "padding of 63 bits": ((1, 4, 8, 2, 2), (4, 2, 2, 2, 2), {"padding": 2**62 - 1}),
    "output_padding": ((1, 4, 8, 2, 2), (4, 2, 2, 2, 2), {"output_padding": (0, 0, 2**40)}),
    "output_padding of 64 bits": ((1, 4, 8, 2, 2), (4, 2, 1, 1, 1), {"output_padding": 2**63 - 1, "dilation": 2**40}),
}
FLOAT, HALF, BFLOAT = torch.float32, torch.float16, torch.bfloat16
MIXED_DTYPES = {
    "weight in half": (FLOAT, HALF, FLOAT),
    "input in half": (HALF, FLOAT, FLOAT),
    "bias in half": (FLOAT, FLOAT, HALF),
    "bias in float": (HALF, HALF, FLOAT),
    "weight in bfloat16": (HALF, BFLOAT, HALF),
    "weight in integers": (FLOAT, torch.int32, FLOAT),
}


def outcome(call: Callable[[], object]) -> tuple[type[BaseException], str]:
    with pytest.raises(Exception) as raised:
        call()
    return raised.type, str(raised.value).split("\nException raised from")[0]


def assert_still_usable() -> None:
    layer = nn.ConvTranspose3d(2, 3, 2).to("mps")
    assert layer(torch.ones(1, 2, 2, 2, 2).to("mps")).sum().item() != 0


def forward(device: str, input: tuple, weight: tuple, kwargs: dict, dtypes: tuple = (FLOAT, FLOAT, FLOAT)) -> object:
    kwargs = dict(kwargs)
    bias = kwargs.pop("bias", None)
    x, w, b = (
        None if shape is None else torch.ones(shape).to(dtype).to(device)
        for shape, dtype in zip((input, weight, bias), dtypes)
    )
    return F.conv_transpose3d(x, w, b, **kwargs)


@pytest.mark.parametrize("name", CALLS)
def test_invalid_call_raises_before_anything_is_encoded(name, dtype, record):
    # In float32: for bfloat16 the CPU asks another library, which has no words of its own.
    expected = outcome(lambda: forward("cpu", *CALLS[name]))
    with record() as recording:
        assert outcome(lambda: forward("mps", *CALLS[name], (dtype,) * 3)) == expected
    assert recording.kernels == []
    assert not recording.native_convolutions
    assert_still_usable()


@pytest.mark.parametrize("name", BEYOND_32_BITS)
def test_hyper_parameters_beyond_32_bits(name, dtype, record):
    """What the CPU refuses, in its words, though these show the low 32 bits."""
    expected = outcome(lambda: forward("cpu", *BEYOND_32_BITS[name]))
    with record() as recording:
        assert outcome(lambda: forward("mps", *BEYOND_32_BITS[name], (dtype,) * 3)) == expected
    assert recording.kernels == []
    assert not recording.native_convolutions


@pytest.mark.parametrize("name", TOO_LARGE)
def test_too_large_hyper_parameters(name, dtype, record):
    """The CPU computes something else, or asks for more memory than there is."""
    with record() as recording:
        raised, words = outcome(lambda: forward("mps", *TOO_LARGE[name], (dtype,) * 3))
    assert raised is RuntimeError and f"{name.split()[0]} " in words and "too large" in words
    assert recording.kernels == []
    assert not recording.native_convolutions


# What the CPU does not look at where there are no samples.
NO_SAMPLES = {
    "output_padding equals stride": ((0, 4, 3, 3, 3), (4, 2, 3, 3, 3), {"stride": 2, "output_padding": 2}),
    "weight without taps": ((0, 4, 3, 3, 3), (4, 2, 3, 3, 0), {}),
    "weight without output channels": ((0, 4, 3, 3, 3), (4, 0, 3, 3, 3), {}),
    "a valid call": ((0, 4, 3, 3, 3), (4, 2, 3, 3, 3), {"bias": (2,), "stride": 2}),
    "channels_last": ((0, 4, 3, 3, 3), (4, 2, 3, 3, 3), {"stride": 2}),
}


@pytest.mark.parametrize("backend", ["kernels", "composite"])
@pytest.mark.parametrize("name", NO_SAMPLES)
def test_no_samples(name, dtype, backend):
    """An empty result and gradients of zeros, with the CPU's shapes and strides; or its error."""
    _switch.serve(backend)
    input, weight, kwargs = NO_SAMPLES[name]
    kwargs = dict(kwargs)
    bias = kwargs.pop("bias", None)

    def run(device: str) -> object:
        leaves = [torch.ones(shape, dtype=dtype).to(device) for shape in (input, weight, bias) if shape is not None]
        if name == "channels_last":
            leaves = [leaf.contiguous(memory_format=torch.channels_last_3d) for leaf in leaves]
        leaves = [leaf.requires_grad_() for leaf in leaves]
        try:
            output = F.conv_transpose3d(*leaves, **kwargs)
        except Exception as error:
            return type(error), str(error)
        gradients = torch.autograd.grad(output, leaves, torch.ones_like(output))
        return [(t.shape, t.stride(), t.dtype, t.float().sum().item()) for t in (output, *gradients)]

    assert run("mps") == run("cpu")


@pytest.mark.parametrize("name", MIXED_DTYPES)
def test_mixed_dtypes(name):
    arguments = ((1, 4, 3, 3, 3), (4, 2, 3, 3, 3), {"bias": (2,)}, MIXED_DTYPES[name])
    assert outcome(lambda: forward("mps", *arguments)) == outcome(lambda: forward("cpu", *arguments))
    assert_still_usable()


BACKWARD_CALLS = {
    "too small": ((1, 2, 5, 5, 4), FLOAT),
    "too large": ((1, 2, 5, 6, 5), FLOAT),
    "other channels": ((1, 1, 5, 5, 5), FLOAT),
    "other rank": ((2, 5, 5, 5), FLOAT),
    "other dtype": ((1, 2, 5, 5, 5), HALF),
}


def backward(device: str, shape: tuple, dtype: torch.dtype) -> object:
    x, w = torch.ones(1, 4, 3, 3, 3).to(device), torch.ones(4, 2, 3, 3, 3).to(device)
    g = torch.ones(shape).to(dtype).to(device)
    zeros, ones = [0] * 3, [1] * 3
    return torch.ops.aten.convolution_backward(g, x, w, [2], ones, zeros, ones, True, zeros, 1, [True] * 3)


@pytest.mark.parametrize("name", BACKWARD_CALLS)
def test_invalid_backward_raises_before_anything_is_encoded(name, record):
    """A grad_output that does not fit would be read out of its bounds."""
    expected = outcome(lambda: backward("cpu", *BACKWARD_CALLS[name]))
    with record() as recording:
        assert outcome(lambda: backward("mps", *BACKWARD_CALLS[name])) == expected
    assert recording.kernels == []
    assert_still_usable()


def test_backward_of_another_batch_size():
    """CPU PyTorch reads past such a grad_output; here it is refused."""
    with pytest.raises(RuntimeError, match=r"grad_output|dimension"):
        backward("mps", (2, 2, 5, 5, 5), FLOAT)
    assert_still_usable()


@pytest.mark.parametrize("dtype", [FLOAT, HALF], ids=str)
def test_module_left_on_the_cpu(dtype):
    """The commonest mistake: the message says what to do."""
    layer = nn.ConvTranspose3d(16, 32, kernel_size=3, stride=2, padding=1).to(dtype)
    with pytest.raises(RuntimeError, match=re.escape('.to("mps")')) as raised:
        layer(torch.randn(1, 16, 4, 4, 4).to("mps", dtype))
    assert "module" in str(raised.value)
    assert_still_usable()


def test_input_left_on_the_cpu():
    layer = nn.ConvTranspose3d(2, 3, 2).to("mps")
    with pytest.raises(RuntimeError, match=re.escape('input.to("mps")')):
        layer(torch.randn(1, 2, 2, 2, 2))
    assert_still_usable()


def test_bias_left_on_the_cpu():
    x, w = torch.ones(1, 2, 2, 2, 2).to("mps"), torch.ones(2, 3, 2, 2, 2).to("mps")
    with pytest.raises(RuntimeError, match=re.escape('.to("mps")')):
        F.conv_transpose3d(x, w, torch.ones(3))
    assert_still_usable()


def test_output_size_out_of_range():
    layer = nn.ConvTranspose3d(2, 3, 3, stride=2)
    on_cpu = outcome(lambda: layer(torch.ones(1, 2, 3, 3, 3), output_size=(20, 20, 20)))
    layer = layer.to("mps")
    assert outcome(lambda: layer(torch.ones(1, 2, 3, 3, 3).to("mps"), output_size=(20, 20, 20))) == on_cpu
