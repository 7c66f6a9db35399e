"""What the simulator's checks cost: processor time of forward and backward, without them and with them.

python benchmarks/price_of_checks.py
"""

from __future__ import annotations

import os
import subprocess
import sys
import time

import torch
from torch import nn

CASES = {
    "matrix products": (nn.ConvTranspose3d(64, 32, 2, 2), (1, 64, 16, 16, 16), ""),
    "matrix products, overlapping": (nn.ConvTranspose3d(32, 16, 3, 2, 1), (1, 32, 10, 10, 10), ""),
    "direct": (nn.ConvTranspose3d(32, 16, 3, 2, 1), (1, 32, 10, 10, 10), "direct"),
    "depthwise": (nn.ConvTranspose3d(16, 16, 3, 2, 1, groups=16), (1, 16, 12, 12, 12), ""),
}
REPEATS = 5


def seconds(name: str) -> float:
    """The shortest of some runs, once the kernels are compiled."""
    layer, shape, _ = CASES[name]
    layer, x = layer.to("mps"), torch.randn(shape, device="mps", requires_grad=True)
    grad_output = torch.randn_like(layer(x))
    times = []
    for _ in range(REPEATS + 1):
        started = time.process_time()
        layer(x).backward(grad_output)
        torch.mps.synchronize()
        times.append(time.process_time() - started)
    return min(times[1:])


def measured(name: str, checks: str) -> float:
    environment = {**os.environ, "MPS_SIMULATOR_CHECKS": checks, "MPS_CONV_TRANSPOSE3D_ALGORITHM": CASES[name][2]}
    command = [sys.executable, __file__, "--here", name]
    return float(subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True).stdout)


def main() -> None:
    if sys.argv[1:2] == ["--here"]:
        print(seconds(sys.argv[2]))
        return
    print(f"{'processor time':30} {'without':>9} {'checked':>9}")
    for name in CASES:
        without, checked = (measured(name, checks) for checks in "01")
        print(f"{name:30} {without:7.3f} s {checked:7.3f} s   {checked / without:.1f} times")


if __name__ == "__main__":
    main()
