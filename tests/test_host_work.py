"""What a call costs the host: after the first of a shape, no allocation of ours, hence no string and no map entry."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

# For each dtype and memory layout three calls of the same shapes: how often our code allocated in each.
PROGRAM = """
import ctypes, json, os
import torch

counter = ctypes.CDLL(os.environ["LD_PRELOAD"])
counter.stop_counting.restype = ctypes.c_long

def call(x, w, b, gy):
    stride, zero, one = [2, 2, 2], [0, 0, 0], [1, 1, 1]
    counter.start_counting()
    torch.ops.aten._convolution(x, w, b, stride, zero, one, True, zero, 1, False, False, False, False)
    torch.ops.aten.convolution_backward(gy, x, w, [w.shape[1]], stride, zero, one, True, zero, 1, [True] * 3)
    return counter.stop_counting()

def tensors(layout, kernel):
    x, w = torch.rand(2, 16, 2, 4, 4), torch.rand(16, 16, kernel, kernel, kernel)
    gy = torch.rand(2, 32, *(2 * (n - 1) + kernel for n in x.shape[2:]))
    x, w, b, gy = (t.to("mps", torch.float16) for t in (x, w, torch.rand(16), gy))
    if layout == "channels_last":
        x = x.to(memory_format=torch.channels_last_3d)
    return x, w, b, gy[:, 16:]

counts = {}
for kernel in (2, 3):
    for layout in ("contiguous", "channels_last"):
        arguments = tensors(layout, kernel)
        counts[f"{layout} {kernel}"] = [call(*arguments) for _ in range(3)]
torch.mps.synchronize()
print(json.dumps(counts))
"""


@pytest.fixture(scope="module")
def counter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    library = tmp_path_factory.mktemp("allocations") / "liballocations.so"
    source = Path(__file__).with_name("allocations.cpp")
    compiler = os.environ.get("CXX", "c++")
    subprocess.run([compiler, "-std=c++17", "-O2", "-fPIC", "-shared", source, "-o", library], check=True)
    return library


def test_only_the_first_call_allocates(
    counter: Path, run_python: Callable[..., subprocess.CompletedProcess[str]], simulator: None
) -> None:
    result = run_python(PROGRAM, LD_PRELOAD=str(counter))
    assert result.returncode == 0, result.stderr
    counts = json.loads(result.stdout)
    assert counts["contiguous 2"][0] > 0, "kernels have names, so to compile them allocates: the counter saw nothing"
    assert {name: later for name, (_, *later) in counts.items() if any(later)} == {}
