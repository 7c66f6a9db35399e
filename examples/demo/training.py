"""Training and inference as any MONAI user writes them: nothing here knows this package."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from data import CLASSES, make_volume
from monai.inferers import sliding_window_inference
from monai.losses import DiceCELoss
from monai.networks.nets import UNETR


@dataclass
class Settings:
    steps: int = 40
    size: int = 32  # of a training patch, in voxels a side
    volume: int = 48  # of the volume to segment
    feature_size: int = 16
    hidden_size: int = 96
    batch: int = 2
    learning_rate: float = 5e-3
    seed: int = 0


@dataclass
class Run:
    losses: list[float] = field(default_factory=list)
    prediction: torch.Tensor | None = None  # class numbers, [D, H, W], on the CPU
    training_seconds: float = 0.0
    inference_seconds: float = 0.0


def make_model(settings: Settings) -> UNETR:
    """The same weights for every device: they are drawn on the CPU."""
    torch.manual_seed(settings.seed)
    return UNETR(
        in_channels=1,
        out_channels=len(CLASSES),
        img_size=(settings.size,) * 3,
        feature_size=settings.feature_size,
        hidden_size=settings.hidden_size,
        mlp_dim=2 * settings.hidden_size,
        num_heads=4,
    )


def train_and_segment(
    settings: Settings, device: str, image: torch.Tensor, on_step: Callable[[str, int, float | None], None]
) -> Run:
    """Trains on random patches, then segments `image`, [1, D, H, W]. Reports each step to `on_step`."""
    run = Run()
    model = make_model(settings).to(device)
    loss_function = DiceCELoss(to_onehot_y=True, softmax=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=settings.learning_rate)
    generator = torch.Generator().manual_seed(settings.seed)

    started = time.monotonic()
    for step in range(settings.steps):
        patches = [make_volume((settings.size,) * 3, generator) for _ in range(settings.batch)]
        images, labels = (torch.stack(tensors).to(device) for tensors in zip(*patches))
        optimizer.zero_grad()
        loss = loss_function(model(images), labels)
        loss.backward()
        optimizer.step()
        run.losses.append(loss.item())
        on_step("training", step + 1, run.losses[-1])
    run.training_seconds = time.monotonic() - started

    started = time.monotonic()
    model.eval()
    with torch.inference_mode():
        scores = sliding_window_inference(image[None].to(device), (settings.size,) * 3, settings.batch, model)
        run.prediction = scores.argmax(dim=1)[0].cpu()
    run.inference_seconds = time.monotonic() - started
    on_step("inference", settings.steps, None)
    return run
