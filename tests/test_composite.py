"""Without the kernels: plain PyTorch operations in their place, as right, with all that PyTorch does above them."""

from __future__ import annotations

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from test_errors import BACKWARD_CALLS, BEYOND_32_BITS, CALLS, MIXED_DTYPES, TOO_LARGE, backward, forward, outcome
from torch import nn

import mps_conv_transpose3d
from cases import BY_NAME, NETWORKS, SWEEP, Case, cut_down
from mps_conv_transpose3d import _switch
from reference import (
    DTYPES,
    assert_accurate,
    assert_all_accurate,
    check_case,
    forward_and_backward,
    make_tensors,
    map_tensors,
)

SMALL = Case("small", (2, 4, 2, 3, 2), (4, 2, 3, 3, 3), stride=(2, 2, 2), padding=(1, 1, 1), groups=2)
ASYMMETRIC = [
    # Taps that miss the input altogether, and padding that reaches further than the kernel.
    Case("one_voxel_cut", (1, 2, 2, 1, 2), (2, 3, 1, 1, 2), True, (5, 5, 4), (2, 2, 1), (4, 4, 3)),
    Case("one_voxel_dilated", (1, 2, 1, 1, 2), (2, 3, 1, 2, 2), True, (7, 5, 4), (3, 2, 1), (6, 4, 3), (1, 3, 5)),
]


@pytest.fixture(autouse=True)
def composite(_switched_on: None) -> None:
    """It serves in every test here; conftest gives the kernels back."""
    _switch.serve("composite")
    assert _switch.serving() == "composite"


@pytest.mark.parametrize("case", [*SWEEP, *ASYMMETRIC], ids=str)
def test_sweep(dtype, case):
    check_case(case, make_tensors(case, dtype), lambda t: t.to("mps"))


@pytest.mark.parametrize("case", [cut_down(case) for case in NETWORKS], ids=str)
def test_networks(case):
    check_case(case, make_tensors(case, torch.float32), lambda t: t.to("mps"))


@pytest.mark.parametrize("case", [SMALL, BY_NAME["kernel_equals_stride"]], ids=str)
def test_neither_kernels_nor_native_run(dtype, case, record):
    tensors = map_tensors(lambda t: t.to("mps"), make_tensors(case, dtype))
    with record() as recording:
        forward_and_backward(case, tensors)
    assert not recording.ours
    assert not recording.native_convolutions


@pytest.mark.parametrize("name", ["UNETR", "UNet", "MedNeXt"])
def test_networks_train(name):
    """Kernel equal to stride, overlapping, and depthwise."""
    from test_programs import assert_like_cpu, step

    from programs import NETWORKS as PROGRAMS

    (network,) = (network for network in PROGRAMS if network.name == name)
    assert_like_cpu(step(network, "mps"), network)


@pytest.mark.parametrize("mask", [(True, False, False), (False, True, False), (False, False, True)], ids=str)
def test_only_what_is_asked_for(mask):
    t = map_tensors(lambda t: t.to("mps"), make_tensors(SMALL, torch.float32))
    gradients = torch.ops.aten.convolution_backward(
        t["grad_output"], t["input"], t["weight"], [4], [2] * 3, [1] * 3, [1] * 3, True, [0] * 3, 2, mask
    )
    assert [gradient is not None for gradient in gradients] == list(mask)


@pytest.mark.parametrize("name", CALLS)
def test_invalid_call(name):
    arguments = (*CALLS[name], (torch.float32,) * 3)
    assert outcome(lambda: forward("mps", *arguments)) == outcome(lambda: forward("cpu", *arguments))


# What the CPU says of bfloat16 depends on the processor.
@pytest.mark.parametrize("name", [name for name in MIXED_DTYPES if "bfloat16" not in name])
def test_mixed_dtypes(name):
    arguments = ((1, 4, 3, 3, 3), (4, 2, 3, 3, 3), {"bias": (2,)}, MIXED_DTYPES[name])
    assert outcome(lambda: forward("mps", *arguments)) == outcome(lambda: forward("cpu", *arguments))


@pytest.mark.parametrize("name", BACKWARD_CALLS)
def test_invalid_backward(name):
    expected = outcome(lambda: backward("cpu", *BACKWARD_CALLS[name]))
    assert outcome(lambda: backward("mps", *BACKWARD_CALLS[name])) == expected


def test_module_left_on_the_cpu():
    with pytest.raises(RuntimeError, match=r"Move the module first: module\.to"):
        nn.ConvTranspose3d(2, 3, 2)(torch.ones(1, 2, 2, 2, 2).to("mps"))


def on_devices(input: str, weight: str, bias: str, grad_output: str = "mps") -> None:
    x, w, b = torch.ones(1, 4, 3, 3, 3).to(input), torch.ones(4, 2, 3, 3, 3).to(weight), torch.ones(2).to(bias)
    F.conv_transpose3d(x, w, b)
    gy, zeros, ones = torch.ones(1, 2, 5, 5, 5).to(grad_output), [0] * 3, [1] * 3
    torch.ops.aten.convolution_backward(gy, x, w, [2], ones, zeros, ones, True, zeros, 1, [True] * 3)


REFUSED = {
    **{
        f"{name}, {dtype}": partial(forward, "mps", *call, (dtype,) * 3)
        for name, call in {**CALLS, **BEYOND_32_BITS, **{f"too large {n}": c for n, c in TOO_LARGE.items()}}.items()
        for dtype in DTYPES.values()
    },
    **{
        name: partial(forward, "mps", (1, 4, 3, 3, 3), (4, 2, 3, 3, 3), {"bias": (2,)}, dtypes)
        for name, dtypes in MIXED_DTYPES.items()
    },
    **{f"grad_output {name}": partial(backward, "mps", *call) for name, call in BACKWARD_CALLS.items()},
    "grad_output of another batch size": partial(backward, "mps", (2, 2, 5, 5, 5), torch.float32),
    "weight on the cpu": partial(on_devices, "mps", "cpu", "cpu"),
    "bias on the cpu": partial(on_devices, "mps", "mps", "cpu"),
    "input on the cpu": partial(on_devices, "cpu", "mps", "mps"),
    "grad_output on the cpu": partial(on_devices, "mps", "mps", "mps", "cpu"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_the_kernels_refuse_it_in_the_same_words(name):
    """csrc/arguments.cpp and _arguments.py, which serves where the other could not be built, are one set of checks."""
    by_composite = outcome(REFUSED[name])
    _switch.serve("kernels")
    assert outcome(REFUSED[name]) == by_composite


@pytest.mark.parametrize("other", ["conv3d", "conv_transpose2d", "conv_transpose1d", "complex"])
def test_what_is_not_ours_goes_on(other):
    """To PyTorch's own function, and not round in a circle."""
    kind = torch.complex64 if other == "complex" else torch.float32
    axes = {"conv_transpose2d": 2, "conv_transpose1d": 1}.get(other, 3)
    torch.manual_seed(0)
    x, w = torch.randn(1, 2, *[4] * axes, dtype=kind), torch.randn(2, 2, *[2] * axes, dtype=kind)
    function = getattr(F, "conv_transpose3d" if other == "complex" else other)
    on_cpu, on_mps = (
        (x.detach().to(device).requires_grad_(), w.detach().to(device).requires_grad_()) for device in ("cpu", "mps")
    )
    expected, actual = function(*on_cpu), function(*on_mps)
    assert torch.allclose(actual.cpu(), expected, atol=1e-5)
    expected.abs().sum().backward()
    actual.abs().sum().backward()
    for mine, cpus in zip(on_mps, on_cpu):
        assert torch.allclose(mine.grad.cpu(), cpus.grad, atol=1e-4)


# --- What PyTorch does above it ---


def tensors_of(case: Case, *to: object) -> list[torch.Tensor]:
    tensors = make_tensors(case, torch.float32)
    return [tensors[name].to(*to) for name in ("input", "weight", "bias")]


def test_double_backward():
    def gradients(*to: object) -> dict[str, torch.Tensor]:
        leaves = [tensor.requires_grad_() for tensor in tensors_of(SMALL, *to)]
        output = F.conv_transpose3d(*leaves, **SMALL.arguments)
        first = torch.autograd.grad(output.pow(2).sum(), leaves, create_graph=True)
        second = torch.autograd.grad(sum(gradient.pow(2).sum() for gradient in first), leaves)
        return {
            f"{order} {i}": g.detach()
            for order, grads in (("1st", first), ("2nd", second))
            for i, g in enumerate(grads)
        }

    assert_all_accurate(gradients("mps"), gradients(torch.float64), gradients("cpu"))


def test_functorch():
    x, w, b = tensors_of(SMALL, "mps")

    def call(x: torch.Tensor, w: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return F.conv_transpose3d(x, w, b, **SMALL.arguments)

    batched = torch.func.vmap(call, (0, None, None))(torch.stack([x, 2 * x]), w, b)
    assert torch.allclose(batched.cpu(), torch.stack([call(x, w, b), call(2 * x, w, b)]).cpu(), atol=1e-5)
    each = torch.func.vmap(torch.func.grad(lambda w, x: call(x, w, b).pow(2).sum()), (None, 0))(w, x[:, None])
    assert each.shape == (2, *w.shape)
    _, tangent = torch.func.jvp(lambda x: call(x, w, b), (x,), (x,))
    assert torch.allclose(tangent.cpu(), F.conv_transpose3d(x, w, **SMALL.arguments).cpu(), atol=1e-5)


def test_compile():
    layer = nn.ConvTranspose3d(4, 3, 3, stride=2).to("mps")
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
    x = torch.randn(2, 4, 3, 3, 3).to("mps").requires_grad_()
    compiled(x).sum().backward()
    gradient, x.grad = x.grad, None
    layer(x).sum().backward()
    assert torch.equal(gradient.cpu(), x.grad.cpu())


@pytest.mark.parametrize("transform", ["channels_last", "expanded", "sliced", "transposed"])
def test_memory_formats(transform):
    """Any strides in; those that FakeTensor predicts out."""
    x, w, _ = tensors_of(SMALL)
    x = {
        "channels_last": lambda: x.contiguous(memory_format=torch.channels_last_3d),
        "expanded": lambda: x[:1].expand(x.shape),
        "sliced": lambda: torch.cat([x, x], 1)[:, 2:6],
        "transposed": lambda: x.transpose(2, 4).contiguous().transpose(2, 4),
    }[transform]()

    def call(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        return F.conv_transpose3d(x, w, **SMALL.arguments)

    mine = x.to("mps"), w.to("mps")
    on_mps = call(*mine)
    assert_accurate(on_mps, call(x.double(), w.double()), call(x, w), "output")
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode() as mode:
        predicted = call(*(mode.from_tensor(tensor) for tensor in mine))
    assert on_mps.stride() == predicted.stride()


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16], ids=str)
def test_autocast(half):
    layer, x = nn.ConvTranspose3d(4, 3, 3, stride=2).to("mps"), torch.randn(2, 4, 3, 3, 3).to("mps")
    with torch.autocast("mps", half):
        output = layer(x)
        assert output.dtype == half
        output.float().sum().backward()  # under autocast, too
    assert layer.weight.grad.dtype == torch.float32
    expected = nn.functional.conv_transpose3d(*(t.detach().cpu() for t in (x, layer.weight, layer.bias)), stride=2)
    assert torch.allclose(output.detach().float().cpu(), expected, atol=0.05)


def test_autocast_leaves_the_backward_pass_in_float32():
    x, w, b = tensors_of(SMALL, "mps")
    leaves = [t.requires_grad_() for t in (x, w, b)]
    output = F.conv_transpose3d(*leaves, **SMALL.arguments)
    expected = torch.autograd.grad(output, leaves, torch.ones_like(output), retain_graph=True)
    with torch.autocast("mps", torch.float16):
        actual = torch.autograd.grad(output, leaves, torch.ones_like(output))
    assert all(torch.equal(a.cpu(), e.cpu()) for a, e in zip(actual, expected))


def test_context_manager_gives_the_composite_back():
    with mps_conv_transpose3d.enabled():
        assert _switch.serving() == "kernels"
    assert _switch.serving() == "composite"
    with mps_conv_transpose3d.enabled(False):
        assert _switch.serving() is None
    assert _switch.serving() == "composite"
