"""The layer that people try first, as they would write it."""

import pytest
import torch
from torch import nn

from cases import SEED
from reference import assert_all_accurate


def train_once(layer: nn.Module, x: torch.Tensor, grad_output: torch.Tensor) -> dict[str, torch.Tensor]:
    x = x.detach().requires_grad_()
    y = layer(x)
    y.backward(grad_output)
    return {"output": y.detach(), "input": x.grad, "weight": layer.weight.grad, "bias": layer.bias.grad}


def layers(dtype: torch.dtype) -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    layer = nn.ConvTranspose3d(16, 32, kernel_size=3, stride=2, padding=1).to(dtype)
    x = torch.randn(SEED.input, dtype=torch.float64).to(dtype)
    return layer, x, torch.randn(SEED.output, dtype=torch.float64).to(dtype)


def on(device_or_dtype: object, layer: nn.Module) -> nn.Module:
    copy = nn.ConvTranspose3d(16, 32, kernel_size=3, stride=2, padding=1).to(layer.weight.dtype)
    copy.load_state_dict(layer.state_dict())
    return copy.to(device_or_dtype)


def test_layer_agrees_with_cpu(dtype):
    layer, x, g = layers(dtype)
    actual = train_once(on("mps", layer), x.to("mps"), g.to("mps"))
    exact = train_once(on(torch.float64, layer), x.double(), g.double())
    assert_all_accurate(actual, exact, train_once(on("cpu", layer), x, g))


def test_layer_runs_on_our_kernels_alone(dtype, record):
    layer, x, g = layers(dtype)
    layer, x, g = on("mps", layer), x.to("mps").requires_grad_(), g.to("mps")
    with record() as forward:
        y = layer(x)
    with record() as backward:
        y.backward(g)
    forward.assert_only("forward")
    backward.assert_only("input_grad", "weight_grad", "bias_grad")
    suffix = {torch.float32: "_float", torch.float16: "_half", torch.bfloat16: "_bfloat"}[dtype]
    assert all(kernel.endswith(suffix) for kernel in forward.kernels + backward.kernels)


def test_results_are_the_same_each_time(dtype):
    layer, x, g = layers(dtype)
    layer, x, g = on("mps", layer), x[..., :9, :10].to("mps"), g[..., :17, :19].to("mps")
    first = {name: tensor.cpu().clone() for name, tensor in train_once(layer, x, g).items()}
    layer.zero_grad()
    second = train_once(layer, x, g)
    for name in first:
        assert torch.equal(first[name], second[name].cpu()), name


def test_layer_learns():
    """Twenty steps of SGD towards a target bring the same loss as on the CPU, step by step."""

    def losses(device: str) -> list[float]:
        torch.manual_seed(0)
        model = nn.Sequential(nn.ConvTranspose3d(2, 3, 3, stride=2, padding=1), nn.ReLU(), nn.ConvTranspose3d(3, 1, 2))
        x, target = torch.randn(2, 2, 3, 4, 5), torch.randn(2, 1, 6, 8, 10)
        model, x, target = model.to(device), x.to(device), target.to(device)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        values = []
        for _ in range(20):
            optimizer.zero_grad()
            loss = (model(x) - target).square().mean()
            loss.backward()
            optimizer.step()
            values.append(loss.item())
        return values

    on_mps, on_cpu = losses("mps"), losses("cpu")
    assert on_mps == pytest.approx(on_cpu, rel=1e-5)
    assert on_mps[-1] < on_mps[0]
