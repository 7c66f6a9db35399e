"""Autocast on device mps: computed in the autocast dtype, where PyTorch itself falls back to float32."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from cases import Case
from reference import assert_all_accurate, make_tensors

HALF = [torch.float16, torch.bfloat16]
CASE = Case("k3_s2", (2, 4, 3, 4, 5), (4, 6, 3, 3, 3), stride=(2, 2, 2), padding=(1, 1, 1))
in_half = pytest.mark.parametrize("half", HALF, ids=str)


def autocast_step(case: Case, tensors: dict[str, torch.Tensor], half: torch.dtype) -> dict[str, torch.Tensor]:
    leaves = [tensors[name].requires_grad_() for name in ("input", "weight", "bias")]
    with torch.autocast("mps", half):
        output = F.conv_transpose3d(*leaves, **case.arguments)
    output.backward(tensors["grad_output"].to(output.dtype))
    return {"output": output, **{str(i): leaf.grad for i, leaf in enumerate(leaves)}}


@in_half
def test_autocast_gives_its_dtype_and_float32_gradients(half):
    # Values that half precision holds, so that the cast to it changes nothing.
    tensors = {name: t.float() for name, t in make_tensors(CASE, half).items()}
    actual = autocast_step(CASE, {name: t.to("mps") for name, t in tensors.items()}, half)
    assert actual["output"].dtype == half
    assert actual["0"].dtype == actual["1"].dtype == actual["2"].dtype == torch.float32

    def plain(dtype: torch.dtype) -> dict[str, torch.Tensor]:
        leaves = [tensors[name].detach().to(dtype).requires_grad_() for name in ("input", "weight", "bias")]
        output = F.conv_transpose3d(*leaves, **CASE.arguments)
        output.backward(tensors["grad_output"].to(dtype))
        return {"output": output, **{str(i): leaf.grad for i, leaf in enumerate(leaves)}}

    assert_all_accurate({n: t.to(half) for n, t in actual.items()}, plain(torch.float64), plain(half))


@in_half
def test_autocast_runs_our_kernel_in_its_dtype(half, record):
    layer = nn.ConvTranspose3d(2, 3, 2, stride=2, device="mps")
    x = torch.randn(1, 2, 2, 2, 2).to("mps")
    with record() as recording, torch.autocast("mps", half):
        layer(x)
    recording.assert_only("forward")
    assert recording.kernels[0].endswith("_half" if half == torch.float16 else "_bfloat")


@in_half
def test_autocast_backward_stays_on_our_kernels(half, record):
    tensors = {name: t.float().to("mps") for name, t in make_tensors(CASE, half).items()}
    with record() as recording:
        autocast_step(CASE, tensors, half)
    recording.assert_only("forward", "input_grad", "weight_grad")
    assert all(kernel.endswith("_half" if half == torch.float16 else "_bfloat") for kernel in recording.kernels)


def test_autocast_switched_off_inside(dtype):
    layer = nn.ConvTranspose3d(2, 3, 2, stride=2, device="mps", dtype=dtype)
    with torch.autocast("mps", torch.float16), torch.autocast("mps", enabled=False):
        assert layer(torch.randn(1, 2, 2, 2, 2).to("mps", dtype)).dtype == dtype


@in_half
def test_training_with_gradient_scaler(half):
    """As mixed-precision training is written: the loss falls, and the scaler never has to skip a step."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.ConvTranspose3d(2, 4, 2, stride=2), nn.ReLU(), nn.Conv3d(4, 1, 1)).to("mps")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3)
    scaler = torch.amp.GradScaler("mps", init_scale=256.0)
    x, target = torch.randn(2, 2, 3, 3, 3).to("mps"), torch.randn(2, 1, 6, 6, 6).to("mps")
    losses = []
    for _ in range(10):
        optimizer.zero_grad()
        with torch.autocast("mps", half):
            loss = F.mse_loss(model(x).float(), target)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        losses.append(loss.item())
    assert losses == sorted(losses, reverse=True) and losses[-1] < 0.97 * losses[0]
    assert scaler.get_scale() == 256.0
