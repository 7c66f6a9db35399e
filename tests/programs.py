"""The networks that people train with ConvTranspose3d, at settings small enough for the tests."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from monai.networks import nets


@dataclass(frozen=True)
class Network:
    """`make` builds it; it takes images of `shape`, [N, 1, D, H, W]."""

    name: str
    make: Callable[[], nn.Module]
    shape: tuple[int, ...] = (1, 1, 32, 32, 32)
    slow: bool = False

    def __str__(self) -> str:
        return self.name

    def build(self) -> nn.Module:
        """In training mode, on the CPU, with the same weights each time, and without dropout, which is random."""
        torch.manual_seed(0)
        network = self.make().train()
        for module in network.modules():
            if isinstance(module, nn.modules.dropout._DropoutNd):
                module.p = 0.0
        return network

    def image(self) -> torch.Tensor:
        generator = torch.Generator().manual_seed(1)
        return torch.randn(self.shape, generator=generator)


FEATURES = (4, 4, 8, 8, 8, 4)
SMALL = 1, 1, 16, 16, 16

NETWORKS = [
    Network("UNet", lambda: nets.UNet(3, 1, 2, (4, 8, 16), (2, 2), num_res_units=1), SMALL),
    Network("AttentionUnet", lambda: nets.AttentionUnet(3, 1, 2, (4, 8, 16), (2, 2)), SMALL),
    Network("VNet", lambda: nets.VNet(3, 1, 2), slow=True),
    Network(
        "DynUNet",
        lambda: nets.DynUNet(
            *(3, 1, 2, (3, 3, 3), (1, 2, 2), (2, 2)), filters=(4, 8, 8), deep_supervision=True, trans_bias=True
        ),
        (2, 1, 16, 16, 16),
    ),
    Network("UNETR", lambda: nets.UNETR(1, 2, 32, 4, 48, 96, 4)),
    Network("SwinUNETR", lambda: nets.SwinUNETR(1, 2, feature_size=12), (1, 1, 64, 64, 32), slow=True),
    Network("BasicUNet", lambda: nets.BasicUNet(3, 1, 2, FEATURES)),
    Network("BasicUNetPlusPlus", lambda: nets.BasicUNetPlusPlus(3, 1, 2, FEATURES, deep_supervision=True), slow=True),
    Network("SegResNetDS", lambda: nets.SegResNetDS(3, 4, 1, 2, blocks_down=(1, 1, 1), dsdepth=2), SMALL),
    Network(
        "MedNeXt",
        lambda: nets.MedNeXt(
            *(3, 4, 1, 2, 2, 2, 2, 3), True, blocks_down=(1,) * 4, blocks_bottleneck=1, blocks_up=(1,) * 4
        ),
    ),
    Network("ViTAutoEnc", lambda: nets.ViTAutoEnc(1, 32, 16, hidden_size=48, mlp_dim=96, num_layers=2, num_heads=4)),
]


def outputs_of(network: nn.Module, image: torch.Tensor) -> list[torch.Tensor]:
    """All tensors that it returns: segmentation, and the other heads of deep supervision."""

    def flatten(value: object) -> list[torch.Tensor]:
        if isinstance(value, torch.Tensor):
            return [value]
        return [tensor for item in value for tensor in flatten(item)] if isinstance(value, (list, tuple)) else []

    return flatten(network(image))


def loss_of(outputs: list[torch.Tensor]) -> torch.Tensor:
    """Reaches every value of every output, each with a weight of its own."""
    total = 0
    for number, output in enumerate(outputs):
        generator = torch.Generator().manual_seed(number)
        weights = torch.randn(output.shape, generator=generator, dtype=torch.float64).to(output.dtype)
        total = total + (output * weights.to(output.device)).mean()
    return total
