"""Synthetic volumes: an organ, which is an ellipsoid, with a lesion inside, in noise."""

from __future__ import annotations

import torch

CLASSES = ("background", "organ", "lesion")
Shape = tuple[int, int, int]


def ellipsoid(shape: Shape, center: torch.Tensor, radii: torch.Tensor) -> torch.Tensor:
    axes = torch.meshgrid(*(torch.arange(size, dtype=torch.float32) for size in shape), indexing="ij")
    return sum(((axis - c) / r) ** 2 for axis, c, r in zip(axes, center, radii)) < 1


def make_volume(shape: Shape, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """An image [1, D, H, W] in float32 and its label [1, D, H, W] of class numbers."""

    def between(low: float, high: float) -> torch.Tensor:
        return low + (high - low) * torch.rand(3, generator=generator)

    size = torch.tensor(shape, dtype=torch.float32)
    center, radii = size * between(0.4, 0.6), size * between(0.22, 0.36)
    organ = ellipsoid(shape, center, radii)
    lesion = organ & ellipsoid(shape, center + 0.35 * radii * between(-1, 1), radii / 2)
    image = 0.5 * organ + lesion + 0.15 * torch.randn(shape, generator=generator)
    return image[None], (organ.long() + lesion.long())[None]


def dice(prediction: torch.Tensor, label: torch.Tensor, number: int) -> float:
    """Overlap of one class: 1 is perfect, 0 is none."""
    p, q = prediction == number, label == number
    return 2 * (p & q).sum().item() / max(1, p.sum().item() + q.sum().item())
