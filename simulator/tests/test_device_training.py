"""Training on the simulated device goes as on the CPU."""

from __future__ import annotations

import copy
import threading
import warnings

import pytest
import torch
from torch import nn


class Volumes(torch.utils.data.Dataset):
    """Items are functions of their index, made on a device that the worker has."""

    def __init__(self, device: str) -> None:
        self.device = device

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> torch.Tensor:
        made = torch.full((3,), float(index), device=self.device) + 1
        return made.cpu()


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv3d(1, 4, 3, padding=1),
        nn.InstanceNorm3d(4, affine=True),
        nn.LeakyReLU(),
        nn.MaxPool3d(2),
        nn.Conv3d(4, 6, 2, stride=2),
        nn.BatchNorm3d(6),
        nn.GELU(),
        nn.Flatten(),
        nn.Linear(48, 5),
    )


def losses(device: str, make_optimizer) -> list[float]:
    model = network().to(device)
    optimizer = make_optimizer(model.parameters())
    generator = torch.Generator().manual_seed(1)
    result = []
    for _ in range(4):
        x = torch.randn(3, 1, 8, 8, 8, generator=generator).to(device)
        target = torch.randint(5, (3,), generator=generator).to(device)
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), target)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        result.append(loss.item())
    return result


@pytest.mark.parametrize(
    "make_optimizer",
    [
        lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.9, nesterov=True),
        lambda parameters: torch.optim.Adam(parameters, lr=1e-2),
        lambda parameters: torch.optim.AdamW(parameters, lr=1e-2, weight_decay=0.1),
    ],
)
def test_losses_are_those_of_the_cpu(make_optimizer):
    on_mps = losses("mps", make_optimizer)
    assert on_mps == pytest.approx(losses("cpu", make_optimizer), rel=1e-4)
    assert on_mps[-1] != on_mps[0]


def test_gradients_agree_and_accumulate():
    weight = torch.randn(4, 3, device="mps", requires_grad=True)
    twin = weight.detach().cpu().requires_grad_()
    for w in (weight, twin):
        for _ in range(2):
            (w.sin() @ torch.ones(3, 2, device=w.device)).pow(2).sum().backward()
    torch.testing.assert_close(weight.grad.cpu(), twin.grad)
    (second,) = torch.autograd.grad(
        torch.autograd.grad(weight.pow(3).sum(), weight, create_graph=True)[0].sum(), weight
    )
    torch.testing.assert_close(second, 6 * weight.detach())


def test_autocast_and_grad_scaler():
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 1)).to("mps")
    before = copy.deepcopy(model.state_dict())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("mps", init_scale=64.0)
    with torch.autocast("mps", dtype=torch.float16):
        out = model(torch.ones(4, 8, device="mps"))
        assert out.dtype == torch.float16
        loss = out.float().pow(2).mean()
    scaler.scale(loss).backward()
    scaler.step(optimizer)
    scaler.update()
    assert any(not torch.equal(before[name], value) for name, value in model.state_dict().items())
    with torch.autocast("mps", dtype=torch.bfloat16):
        assert model(torch.ones(4, 8, device="mps")).dtype == torch.bfloat16


def test_inference_mode_and_deepcopy():
    model = network().to("mps").eval()
    x = torch.randn(2, 1, 8, 8, 8, device="mps")
    with torch.inference_mode():
        torch.testing.assert_close(copy.deepcopy(model)(x), model(x))
        torch.testing.assert_close(model(x).cpu(), copy.deepcopy(model).cpu()(x.cpu()), rtol=1e-4, atol=1e-5)


def test_threads_compute_at_once():
    results: dict[int, float] = {}

    def work(index: int) -> None:
        x = torch.full((64, 64), float(index), device="mps")
        for _ in range(20):
            x = (x @ torch.eye(64, device="mps")).relu()
        results[index] = x.mean().item()

    threads = [threading.Thread(target=work, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {0: 0.0, 1: 1.0, 2: 2.0, 3: 3.0}


@pytest.mark.parametrize(("start", "device"), [("fork", "cpu"), ("spawn", "cpu"), ("spawn", "mps")])
def test_dataloader_workers(start, device):
    torch.ones(1, device="mps").add_(1).item()  # the parent's device is in use
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of fork in a process with threads
        loader = torch.utils.data.DataLoader(
            Volumes(device), batch_size=2, num_workers=2, multiprocessing_context=start
        )
        values = torch.cat([batch[:, 0] for batch in loader])
    assert values.tolist() == list(range(1, 9))
