"""PyTorch's own convolutions on `mps`: what they compute, and what they refuse."""

from __future__ import annotations

import pytest
import torch
from interpreter import run_python
from torch.nn import functional as F

import mps_simulator

FORWARD, BACKWARD = "aten::convolution_overrideable", "aten::convolution_backward_overrideable"
OLD_TRANSPOSED_3D = "ConvTranspose 3D is not supported on MPS"
HALF_TRANSPOSED_3D = "ConvTranspose 3D with BF16 or FP16 types is not supported on MPS"

CASES = {
    "conv1d": (F.conv1d, (2, 4, 9), (6, 2, 3), {"stride": 2, "padding": 1, "groups": 2}),
    "conv2d": (F.conv2d, (2, 4, 9, 8), (6, 4, 3, 2), {"dilation": (2, 1), "padding": (1, 0)}),
    "conv2d depthwise": (F.conv2d, (2, 4, 9, 8), (8, 1, 3, 3), {"groups": 4}),
    "conv3d": (F.conv3d, (1, 4, 5, 6, 7), (3, 4, 3, 3, 3), {"stride": (1, 2, 2), "padding": 1}),
    "conv_transpose1d": (F.conv_transpose1d, (2, 4, 9), (4, 3, 3), {"stride": 2, "output_padding": 1}),
    "conv_transpose2d": (F.conv_transpose2d, (2, 4, 5, 4), (4, 3, 2, 3), {"stride": 2, "groups": 2, "padding": 1}),
    "conv_transpose3d": (F.conv_transpose3d, (2, 4, 3, 4, 5), (4, 3, 2, 2, 2), {"stride": 2}),
    "conv_transpose3d general": (
        F.conv_transpose3d, (1, 4, 3, 4, 5), (4, 3, 3, 2, 3),
        {"stride": (2, 1, 3), "padding": (1, 0, 2), "output_padding": (1, 0, 2), "dilation": (1, 2, 1), "groups": 2},
    ),
}  # fmt: skip


def run(convolution, device, tensors, kwargs):
    x, w, b = (t.detach().to(device).requires_grad_() for t in tensors)
    y = convolution(x, w, b, **kwargs)
    g = torch.linspace(-1, 1, y.numel()).half().reshape(y.shape).to(y.dtype).to(device)
    return [y, *torch.autograd.grad(y, (x, w, b), g)]


def tensors_of(case, dtype):
    convolution, input_shape, weight_shape, kwargs = CASES[case]
    torch.manual_seed(0)
    out_channels = weight_shape[1] * kwargs.get("groups", 1) if "transpose" in case else weight_shape[0]
    return convolution, [torch.randn(s).to(dtype) for s in (input_shape, weight_shape, (out_channels,))], kwargs


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.complex64], ids=str)
@pytest.mark.parametrize("case", CASES)
def test_forward_and_backward_are_those_of_the_cpu(case, dtype):
    convolution, tensors, kwargs = tensors_of(case, dtype)
    if "transpose3d" in case and dtype in (torch.float16, torch.bfloat16):
        with pytest.raises(RuntimeError) as error:
            run(convolution, "mps", tensors, kwargs)
        assert str(error.value) == HALF_TRANSPOSED_3D
        return
    with mps_simulator.record() as recording:
        actual = run(convolution, "mps", tensors, kwargs)
    # The CPU rounds to float16 on the way, which mps does not.
    precise = torch.float32 if dtype == torch.float16 else dtype
    for ours, theirs in zip(actual, run(convolution, "cpu", [t.to(precise) for t in tensors], kwargs)):
        assert ours.is_mps and ours.dtype == dtype and ours.stride() == theirs.stride()
        torch.testing.assert_close(ours.cpu(), theirs.to(dtype))
    assert list(recording) == []
    assert FORWARD in recording.operators
    assert BACKWARD in recording.operators


def test_only_what_is_asked_for_is_computed():
    x, w = torch.ones(1, 2, 4, 4, device="mps", requires_grad=True), torch.ones(3, 2, 2, 2, device="mps")
    (g,) = torch.autograd.grad(F.conv2d(x, w).sum(), x)
    assert g[0, 0, 0, 0].item() == 3 and w.grad is None


@pytest.mark.parametrize("version", ["2.4", "2.7"])
def test_older_torch_has_no_transposed_convolution_in_3d(version):
    program = """
import torch
from torch.nn import functional as F
x, w = torch.ones(1, 2, 3, 3, 3, device="mps"), torch.ones(2, 2, 2, 2, 2, device="mps")
for dtype in (torch.float32, torch.float16, torch.bfloat16, torch.complex64):
    try:
        F.conv_transpose3d(x.to(dtype), w.to(dtype))
    except RuntimeError as error:
        assert str(error) == "ConvTranspose 3D is not supported on MPS", error
    else:
        raise SystemExit(f"{dtype} was accepted")
F.conv3d(x, w)
F.conv_transpose2d(x[:, :, 0], w[:, :, 0])
"""
    result = run_python(program, MPS_SIMULATOR_TORCH=version)
    assert result.returncode == 0, result.stdout + result.stderr


NATIVE_FROM_2_8 = """
import torch
from torch.nn import functional as F
torch.manual_seed(0)
x, w = torch.randn(1, 2, 3, 3, 3), torch.randn(2, 2, 2, 2, 2)
for dtype in (torch.float32, torch.complex64, torch.float16, torch.bfloat16):
    m, n = (t.to("mps", dtype).requires_grad_() for t in (x, w))
    try:
        y = F.conv_transpose3d(m, n)
    except RuntimeError as error:
        print(dtype, error)
        continue
    y.real.sum().backward()
    # From the same rounded numbers, and rounded once: 16 products of up to 8 are summed in float32.
    exact = F.conv_transpose3d(*(t.detach().cpu().to(torch.complex128) for t in (m, n)))
    expected = (exact if dtype.is_complex else exact.real).to(dtype)
    epsilon = torch.finfo(dtype).eps
    torch.testing.assert_close(y.detach().cpu(), expected, rtol=2 * epsilon, atol=128 * torch.finfo(torch.float32).eps)
    assert y.dtype == dtype and n.grad.dtype == dtype
"""


@pytest.mark.parametrize("version", ["2.8", "2.9", "2.10", "2.11", "2.12", "2.13", "2.14", "2.15"])
def test_float32_since_2_8_and_no_half_precision(version):
    result = run_python(NATIVE_FROM_2_8, MPS_SIMULATOR_TORCH=version)
    assert result.returncode == 0, result.stderr
    assert result.stdout == f"torch.float16 {HALF_TRANSPOSED_3D}\ntorch.bfloat16 {HALF_TRANSPOSED_3D}\n"


def test_half_precision_as_it_may_come():
    result = run_python(NATIVE_FROM_2_8, MPS_SIMULATOR_NATIVE_HALF="1")
    assert result.returncode == 0 and result.stdout == "", result.stdout + result.stderr


def test_devices_and_dtypes_must_agree():
    x, w = torch.ones(1, 2, 4, 4, 4, device="mps"), torch.ones(2, 2, 2, 2, 2, device="mps")
    words = r"Input type \(MPSFloatType\) and {} type \({}\) should be the same"
    for convolution in (F.conv3d, F.conv_transpose3d):
        with pytest.raises(RuntimeError, match=words.format("weight", "torch.FloatTensor")):
            convolution(x, w.cpu())
        with pytest.raises(RuntimeError, match=words.format("weight", "MPSHalfType")):
            convolution(x, w.half())
        with pytest.raises(RuntimeError, match=words.format("bias", "torch.FloatTensor")):
            convolution(x, w, torch.ones(2))
    words = "slow_conv2d_forward_mps: input.* and weight.* must be on the same device"
    with torch.backends.mkldnn.flags(enabled=False), pytest.raises(RuntimeError, match=words):
        F.conv2d(x[0].cpu(), torch.ones(2, 4, 2, 2, device="mps"))


def test_integers_are_refused():
    x, w = torch.ones(1, 2, 4, 4, device="mps").int(), torch.ones(2, 2, 2, 2, device="mps").int()
    with pytest.raises(RuntimeError, match="Convolution is supported only for Floating types"):
        F.conv2d(x, w)


def test_invalid_arguments_get_the_words_of_the_cpu():
    for x, w, kwargs in (
        (torch.ones(1, 3, 2, 2, 2), torch.ones(2, 2, 2, 2, 2), {}),
        (torch.ones(1, 2, 2, 2, 2), torch.ones(2, 2, 2, 2, 2), {"padding": 3}),
        (torch.ones(1, 2, 2, 2, 2), torch.ones(2, 2, 2, 2, 2), {"stride": 0}),
        (torch.ones(2, 2), torch.ones(2, 2, 2, 2, 2), {}),
    ):
        words = []
        for device in ("cpu", "mps"):
            with pytest.raises(RuntimeError) as error:
                F.conv_transpose3d(x.to(device), w.to(device), **kwargs)
            words.append(str(error.value))
        assert words[0] == words[1]


def test_an_output_padding_past_the_stride_is_accepted():
    x, w, b = torch.randn(1, 2, 3, 3, 3), torch.randn(2, 2, 3, 3, 3), torch.randn(2)
    with pytest.raises(RuntimeError, match="output padding must be smaller than either stride or dilation"):
        F.conv_transpose3d(x, w, b, output_padding=2)
    m = x.to("mps").requires_grad_()
    y = F.conv_transpose3d(m, w.to("mps"), b.to("mps"), padding=1, output_padding=2)
    # Past the reach of the kernel there is the bias alone.
    whole = F.conv_transpose3d(x, w)
    expected = F.pad(whole, [-1, 1] * 3) + b.reshape(1, 2, 1, 1, 1)
    torch.testing.assert_close(y.detach().cpu(), expected)
    (g,) = torch.autograd.grad(y.square().sum(), m)
    c = x.clone().requires_grad_()
    reference = F.pad(F.conv_transpose3d(c, w), [-1, 1] * 3) + b.reshape(1, 2, 1, 1, 1)
    torch.testing.assert_close(g.cpu(), torch.autograd.grad(reference.square().sum(), c)[0])


@pytest.mark.parametrize("case", ["conv2d", "conv3d", "conv_transpose2d", "conv_transpose3d"])
def test_channels_last(case):
    convolution, tensors, kwargs = tensors_of(case, torch.float32)
    layout = torch.channels_last if tensors[0].dim() == 4 else torch.channels_last_3d
    tensors = [t.contiguous(memory_format=layout) if t.dim() > 1 else t for t in tensors]
    actual, expected = run(convolution, "mps", tensors, kwargs), run(convolution, "cpu", tensors, kwargs)
    for ours, theirs in zip(actual, expected):
        torch.testing.assert_close(ours.cpu(), theirs)
    assert actual[0].is_contiguous(memory_format=layout)


def test_strided_inputs():
    whole = torch.randn(2, 6, 4, 4, 4)
    w = torch.randn(3, 2, 2, 2, 2)
    for view in (whole[:, 1:4], whole[:, ::2], whole.transpose(2, 4)[:, 3:], whole[:, :3, 1:]):
        moved = whole.to("mps").as_strided(view.shape, view.stride(), view.storage_offset())
        torch.testing.assert_close(F.conv_transpose3d(moved, w.to("mps")).cpu(), F.conv_transpose3d(view, w))


def test_no_elements():
    x, w = torch.ones(0, 2, 3, 3, 3, device="mps", requires_grad=True), torch.ones(2, 4, 2, 2, 2, device="mps")
    y = F.conv_transpose3d(x, w)
    assert y.shape == (0, 4, 4, 4, 4)
    y.sum().backward()
    assert x.grad.shape == x.shape


def test_autocast_forces_float32_in_3d_transposed():
    x, w = torch.ones(1, 2, 3, 3, 3, device="mps"), torch.ones(2, 2, 2, 2, 2, device="mps")
    with torch.autocast("mps", dtype=torch.float16):
        assert F.conv_transpose3d(x, w).dtype == torch.float32
        assert F.conv_transpose2d(x[:, :, 0], w[:, :, 0]).dtype == torch.float16
        assert F.conv3d(x, w).dtype == torch.float16


AUTOCAST = """
import warnings
import torch
from torch.nn import functional as F
warnings.simplefilter("error")
x, w = torch.ones(1, 2, 3, 3, 3, device="mps"), torch.ones(2, 2, 2, 2, 2, device="mps")
for dtype in (torch.float16, torch.bfloat16):
    try:
        with torch.autocast("mps", dtype=dtype):
            assert F.conv3d(x, w).dtype == dtype
            print(F.conv_transpose3d(x, w).dtype)
    except (RuntimeError, UserWarning) as error:
        print(error)
"""
NO_AUTOCAST = "User specified an unsupported autocast device_type 'mps'"
ONLY_FLOAT16 = (
    "In MPS autocast, but the target dtype is not supported. Disabling autocast.\n"
    "MPS Autocast only supports dtype of torch.float16 currently."
)


@pytest.mark.parametrize(
    ("version", "float16", "bfloat16"),
    [
        ("2.4", NO_AUTOCAST, NO_AUTOCAST),
        ("2.5", OLD_TRANSPOSED_3D, ONLY_FLOAT16),
        ("2.7", OLD_TRANSPOSED_3D, OLD_TRANSPOSED_3D),
        ("2.8", HALF_TRANSPOSED_3D, HALF_TRANSPOSED_3D),
        ("2.9", "torch.float32", "torch.float32"),
        ("2.15", "torch.float32", "torch.float32"),
    ],
)
def test_autocast_by_version(version, float16, bfloat16):
    result = run_python(AUTOCAST, MPS_SIMULATOR_TORCH=version)
    assert (result.stdout, result.stderr) == (f"{float16}\n{bfloat16}\n", "")


@pytest.mark.parametrize("version", ["2.5", "2.8", "2.9", "2.13"])
def test_an_extension_takes_over_autocast_and_gives_it_back(version):
    program = """
import torch
from torch.nn import functional as F
x, w = torch.ones(1, 2, 3, 3, 3, device="mps"), torch.ones(2, 2, 2, 2, 2, device="mps")
def dtype():
    with torch.autocast("mps", dtype=torch.float16):
        try:
            return F.conv_transpose3d(x, w).dtype
        except RuntimeError as error:
            return str(error)
before = dtype()
library = torch.library.Library("aten", "IMPL")
library.impl("conv_transpose3d.input", lambda *arguments: x.half(), "AutocastMPS")
assert dtype() == torch.float16
library._destroy()
assert dtype() == before, (before, dtype())
"""
    result = run_python(program, MPS_SIMULATOR_TORCH=version)
    assert result.returncode == 0, result.stderr


def test_derivatives_of_every_kind():
    from torch.autograd import forward_ad
    from torch.func import grad, jvp, vmap

    torch.manual_seed(0)
    x, w = torch.randn(2, 2, 3, 3, 3), torch.randn(2, 3, 2, 2, 2)

    def f(x, w):
        return F.conv_transpose3d(x, w, stride=2, padding=1).sin().sum()

    def forward(x, w):
        with forward_ad.dual_level():
            return forward_ad.unpack_dual(f(forward_ad.make_dual(x, x.cos()), w)).tangent

    def double(x, w):
        x = x.clone().requires_grad_()
        (g,) = torch.autograd.grad(f(x, w), x, create_graph=True)
        return torch.autograd.grad(g.square().sum(), x)[0]

    for derivative in (
        forward, double, lambda x, w: grad(f, (0, 1))(x, w), lambda x, w: jvp(f, (x, w), (x, w))[1],
        lambda x, w: vmap(grad(f), (0, None))(x.unsqueeze(1), w),
    ):  # fmt: skip
        actual, expected = derivative(x.to("mps"), w.to("mps")), derivative(x, w)
        torch.testing.assert_close(
            [t.cpu() for t in actual] if isinstance(actual, tuple) else actual.cpu(),
            list(expected) if isinstance(expected, tuple) else expected,
        )


def networks():
    from monai.networks.nets import UNETR, DynUNet

    yield (
        "UNETR",
        lambda: UNETR(
            in_channels=1,
            out_channels=2,
            img_size=(32, 32, 32),
            feature_size=4,
            hidden_size=48,
            mlp_dim=64,
            num_heads=4,
        ),
    )
    yield "DynUNet", lambda: DynUNet(3, 1, 2, [3] * 3, [1, 2, 2], [2, 2], filters=[4, 8, 8])


@pytest.mark.parametrize("make", [pytest.param(make, id=name) for name, make in networks()])
def test_networks_train_as_on_the_cpu(make):
    torch.manual_seed(0)
    model, x = make(), torch.randn(2, 1, 32, 32, 32)
    results = []
    for device in ("cpu", "mps"):
        model = model.to(device).train()
        model.zero_grad()
        y = model(x.to(device))
        y.square().mean().backward()
        results.append([y.detach().cpu()] + [p.grad.cpu().clone() for p in model.parameters() if p.grad is not None])
    for theirs, ours in zip(*results):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5)
