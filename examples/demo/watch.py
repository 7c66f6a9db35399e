"""Watches a program from outside: which ConvTranspose3d calls it makes, and which kernel each ran on."""

from __future__ import annotations

import contextlib
import importlib.util
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch.utils._python_dispatch import TorchDispatchMode

# The simulator can tell what ran on the device. A Mac cannot: there the shapes and counts are shown alone.
CAN_RECORD = importlib.util.find_spec("mps_simulator") is not None

FORWARD, BACKWARD = torch.ops.aten.convolution.default, torch.ops.aten.convolution_backward.default
# In inference mode this is what a mode sees; elsewhere autograd has made it a convolution before.
COMPOSITE = torch.ops.aten.conv_transpose3d.input


@contextlib.contextmanager
def what_ran(into: Counter[str]) -> Iterator[None]:
    """Adds the names of the kernels, and of the native convolutions, that run meanwhile."""
    if not CAN_RECORD:
        yield
        return
    import mps_simulator

    with mps_simulator.record() as dispatches:
        yield
    into.update(dispatch.kernel for dispatch in dispatches)
    into.update(name for name in dispatches.operators if "convolution" in name)


@dataclass(frozen=True)
class Call:
    """One shape of ConvTranspose3d."""

    input: tuple[int, ...]
    weight: tuple[int, ...]
    stride: tuple[int, ...]


@dataclass
class Seen:
    forward: int = 0
    backward: int = 0
    kernels: Counter[str] = field(default_factory=Counter)


class ConvTranspose3dWatcher(TorchDispatchMode):
    """While it is open, notes every ConvTranspose3d on device mps, in forward and backward."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: dict[Call, Seen] = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is COMPOSITE:
            with self:
                return func.decompose(*args, **(kwargs or {}))
        if func is FORWARD:
            (x, weight, _, stride, _, _, transposed), backward = args[:7], False
        elif func is BACKWARD:
            (_, x, weight, _, stride, _, _, transposed), backward = args[:8], True
        else:
            transposed = False
        if not transposed or x.dim() != 5 or x.device.type != "mps":
            return func(*args, **(kwargs or {}))
        seen = self.calls.setdefault(Call(tuple(x.shape), tuple(weight.shape), tuple(stride)), Seen())
        seen.forward += not backward
        seen.backward += backward
        with what_ran(seen.kernels):
            return func(*args, **(kwargs or {}))
