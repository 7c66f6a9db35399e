"""Writes what `doctor --network` knows of a network: the operators it dispatches, the memory of a step, and how much of
its arithmetic is ConvTranspose3d's.

    python tools/networks.py        # rewrites python/mps_conv_transpose3d/networks.json

Operators are read off a small run on the CPU: one training step, one validation step, one prediction. Memory is read
off the shapes of a full-size step on fake tensors: parameters, gradients, optimizer state, all that is alive at once.
What an operator needs inside itself is not in it. Arithmetic is that of convolutions and matrix products, as PyTorch's
FlopCounterMode counts it.
"""

from __future__ import annotations

import json
import math
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar
from unittest.mock import patch

import torch
from recorder import Operators
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

RESULT = Path(__file__).resolve().parents[1] / "python" / "mps_conv_transpose3d" / "networks.json"
CLASSES = 3


class Program(ABC):
    """A network and how its users train it, at full size or small."""

    title: str
    calls: str  # its name in network_shapes.json
    batch: int
    size: int
    autocast = False  # whether its users train it in mixed precision on mps

    def __init__(self, small: bool) -> None:
        self.small = small
        if small:
            self.size = 32
        self.network = self.make()

    @abstractmethod
    def make(self) -> nn.Module: ...

    @abstractmethod
    def train(self, image: torch.Tensor, label: torch.Tensor, autocast: bool) -> None:
        """One step of the optimizer. image: [N, 1, S, S, S]; label: class numbers, float32, of the same shape."""

    @abstractmethod
    def predict(self, image: torch.Tensor) -> None:
        """Inference on one batch."""

    def data(self) -> tuple[torch.Tensor, torch.Tensor]:
        shape = (self.batch, 1, *(self.size,) * 3)
        return torch.randn(shape), torch.randint(CLASSES, shape).float()


class NnUNet(Program):
    title = "nnU-Net 3d_fullres (PlainConvUNet), patch 128 x 128 x 128, batch 2"
    calls = "nnU-Net PlainConvUNet 3d_fullres 128^3 b2"
    batch, size = 2, 128

    def make(self) -> nn.Module:
        from dynamic_network_architectures.architectures.unet import PlainConvUNet

        features = [4, 8, 8, 8] if self.small else [32, 64, 128, 256, 320, 320]
        stages = len(features)
        return PlainConvUNet(
            1,
            stages,
            features,
            nn.Conv3d,
            3,
            [1] + [2] * (stages - 1),
            2,
            CLASSES,
            2,
            conv_bias=True,
            norm_op=nn.InstanceNorm3d,
            norm_op_kwargs={"eps": 1e-5, "affine": True},
            nonlin=nn.LeakyReLU,
            nonlin_kwargs={"inplace": True},
            deep_supervision=True,
        )

    def loss(self, outputs: list[torch.Tensor], label: torch.Tensor) -> torch.Tensor:
        from nnunetv2.training.loss.compound_losses import DC_and_CE_loss
        from nnunetv2.training.loss.deep_supervision import DeepSupervisionWrapper
        from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss

        dice = {"batch_dice": False, "smooth": 1e-5, "do_bg": False, "ddp": False}
        loss = DC_and_CE_loss(dice, {}, dice_class=MemoryEfficientSoftDiceLoss)
        weights = [1 / 2**i for i in range(len(outputs) - 1)] + [0]
        # Its data loader gives a label for each resolution.
        labels = [label[:, :, :: 2**i, :: 2**i, :: 2**i] for i in range(len(outputs))]
        return DeepSupervisionWrapper(loss, [w / sum(weights) for w in weights])(outputs, labels)

    def train(self, image: torch.Tensor, label: torch.Tensor, autocast: bool) -> None:
        optimizer = torch.optim.SGD(self.network.parameters(), lr=1e-2, weight_decay=3e-5, momentum=0.99, nesterov=True)
        optimizer.zero_grad(set_to_none=True)
        self.loss(self.network(image), label).backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 12)
        optimizer.step()

    def predict(self, image: torch.Tensor) -> None:
        from nnunetv2.training.loss.dice import get_tp_fp_fn_tn

        label = torch.zeros_like(image)
        with torch.no_grad():
            output = self.network.eval()(image)[0]
            one_hot = torch.zeros(output.shape, device=output.device, dtype=torch.float16)
            one_hot.scatter_(1, output.argmax(1)[:, None], 1)
            get_tp_fp_fn_tn(one_hot, label, axes=[0, 2, 3, 4])
        with torch.inference_mode():  # with mirroring and the weights of the sliding window
            prediction = torch.flip(self.network(torch.flip(image, (2, 3)))[0], (2, 3))
            prediction /= 2
            prediction *= torch.ones(image.shape[2:])


class Unetr(Program):
    title = "MONAI UNETR, patch 96 x 96 x 96, batch 2"
    calls = "MONAI UNETR 96^3 fs16"
    batch, size = 2, 96
    autocast = True

    def make(self) -> nn.Module:
        from monai.networks.nets import UNETR

        if self.small:
            return UNETR(1, CLASSES, self.size, 4, 48, 96, 4)
        return UNETR(1, CLASSES, self.size, 16, 768, 3072, 12)

    def train(self, image: torch.Tensor, label: torch.Tensor, autocast: bool) -> None:
        from monai.losses import DiceCELoss

        loss_function = DiceCELoss(to_onehot_y=True, softmax=True)
        optimizer = torch.optim.AdamW(self.network.parameters(), lr=1e-4)
        scaler = torch.amp.GradScaler("cpu", enabled=autocast)
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.float16) if autocast else nullcontext():
            loss = loss_function(self.network(image), label)
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()

    def predict(self, image: torch.Tensor) -> None:
        from monai.inferers import sliding_window_inference

        with torch.inference_mode():
            scores = sliding_window_inference(image, (self.size,) * 3, 2, self.network.eval(), mode="gaussian")
            torch.softmax(scores, 1).argmax(1)


class Memory(TorchDispatchMode):
    """The largest sum of the storages that are alive at once."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known: set[int] = set()

    def add(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        if id(storage) in self._known:
            return
        self._known.add(id(storage))
        self.now += storage.nbytes()
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._release, id(storage), storage.nbytes())

    def _release(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.now -= size

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor):
                self.add(leaf)
        return result


class Arithmetic(TorchDispatchMode):
    """Products that are summed: of all operators that FlopCounterMode counts, and of transposed convolutions alone."""

    # Where the argument `transposed` stands.
    TRANSPOSED: ClassVar = {torch.ops.aten.convolution: 6, torch.ops.aten.convolution_backward: 7}

    def __init__(self) -> None:
        super().__init__()
        self.all = self.transposed = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        packet = func.overloadpacket
        if packet in flop_registry:
            count = flop_registry[packet](*args, **(kwargs or {}), out_val=result)
            self.all += count
            self.transposed += count if packet in self.TRANSPOSED and args[self.TRANSPOSED[packet]] else 0
        return result


def operators(kind: type[Program]) -> list[str]:
    """By their names in native_functions.yaml."""
    with Operators() as seen:
        for autocast in {False, kind.autocast}:
            program = kind(small=True)
            image, label = program.data()
            program.train(image, label, autocast)
            program.predict(image)
    strange = [name for name in seen.names if "mkldnn" in name or "cpu" in name]
    assert not strange, f"the CPU's own: {strange}"
    return sorted(seen.names)


def train_on_fakes(kind: type[Program]) -> None:
    program = kind(small=False)
    image, label = program.data()
    with patch("torch.arange", _numbers):
        program.train(image, label, autocast=False)


def predict_on_fakes(kind: type[Program]) -> None:
    program = kind(small=False)
    image, _ = program.data()
    with torch.inference_mode():
        program.network.eval()(image)


def peak_bytes(kind: type[Program], run: Callable[[type[Program]], None]) -> int:
    """Of one full-size step or prediction."""
    with FakeTensorMode(), Memory() as memory:
        run(kind)
    return memory.peak


def share_of_conv_transpose3d(kind: type[Program]) -> float:
    """In the arithmetic of one full-size step."""
    with FakeTensorMode(), Arithmetic() as arithmetic:
        train_on_fakes(kind)
    return arithmetic.transposed / arithmetic.all


def _numbers(*arguments: int, **_: Any) -> Any:
    """torch.arange as MONAI's losses use it, whose `tolist()` a fake tensor does not have."""
    return SimpleNamespace(tolist=lambda: list(range(*arguments)))


def describe(kind: type[Program]) -> dict[str, Any]:
    """What goes into the file."""
    return {
        "title": kind.title,
        "calls": kind.calls,
        "training_bytes": peak_bytes(kind, train_on_fakes),
        "inference_bytes": peak_bytes(kind, predict_on_fakes),
        "conv_transpose3d_share": round(share_of_conv_transpose3d(kind), 4),
        "operators": operators(kind),
    }


if __name__ == "__main__":
    networks = {"nnunet": describe(NnUNet), "unetr": describe(Unetr)}
    RESULT.write_text(json.dumps(networks, indent=1) + "\n")
    for name, facts in networks.items():
        mib = math.ceil(facts["training_bytes"] / 2**20)
        share = facts["conv_transpose3d_share"]
        print(f"{name}: {len(facts['operators'])} operators, {mib} MiB in training, ConvTranspose3d {share:.1%}")
