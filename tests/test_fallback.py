"""Without the kernels: PyTorch's own operator serves what it computes, plain operations the rest, and nobody is slower.

Each test is a Python of its own: what PyTorch computes is found out once in a process.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from reference import DTYPES

# Prints for each dtype whether it was PyTorch's own operator that ran forward and backward, or "refused".
WHO_RUNS = """
import sys
import torch
import mps_conv_transpose3d
import mps_simulator

for name in ("float32", "float16", "bfloat16"):
    torch.manual_seed(0)
    layer = torch.nn.ConvTranspose3d(2, 3, 3, stride=2, padding=1, output_padding=1).to(getattr(torch, name))
    x = torch.randn(2, 2, 3, 3, 3).to(getattr(torch, name))
    x = torch.cat([x, x], 1)[:, 1:3].detach().requires_grad_()  # a slice, as gradients of skips are
    on_cpu = layer.float()(x.float())
    on_cpu.square().sum().backward()
    expected = [on_cpu, x.grad, *(p.grad for p in layer.parameters())]
    mine = torch.nn.ConvTranspose3d(2, 3, 3, stride=2, padding=1, output_padding=1)
    mine.load_state_dict(layer.state_dict())
    mine, y = mine.to("mps", getattr(torch, name)), x.detach().to("mps").requires_grad_()
    mine(y), torch.mps.synchronize()  # what PyTorch computes is tried out
    with mps_simulator.record() as recording:
        output = mine(y)
        output.float().square().sum().backward()
    native = [operator for operator in recording.operators if "convolution" in operator]
    ours = [dispatch.kernel for dispatch in recording if dispatch.kernel.startswith("conv_transpose3d_")]
    actual = [output, y.grad, *(p.grad for p in mine.parameters())]
    for a, e in zip(actual, expected):
        assert torch.allclose(a.float().cpu(), e.float(), rtol=0.05, atol=0.5 if name == "bfloat16" else 0.1), name
    print(name, "native" if native else "composite", "kernels" if ours else "")
"""


def no_bridge(package: Path) -> dict[str, str]:
    shutil.rmtree(package / "_bridge")
    (package / "build.json").write_text(json.dumps({"missing": ["a compiler"], "bridges": []}))
    return {"PYTHONPATH": str(package.parent)}


def no_matrices(package: Path) -> dict[str, str]:
    """A virtual machine's GPU: Metal reduces and multiplies matrices in SIMD-groups from the family Apple7 on."""
    return {"MPS_SIMULATOR_GPU_FAMILY": "5"}


WITHOUT_KERNELS = [no_bridge, no_matrices]
Run = Callable[..., "subprocess.CompletedProcess[str]"]


def who_runs(run_python: Run, **environment: str) -> tuple[dict[str, str], str]:
    result = run_python(WHO_RUNS, PYTHONWARNINGS="always::RuntimeWarning", **environment)
    assert result.returncode == 0, result.stderr
    rows = (line.split() for line in result.stdout.splitlines())
    return {dtype: " ".join(who) for dtype, *who in rows}, result.stderr


@pytest.mark.parametrize("without", WITHOUT_KERNELS)
def test_native_serves_what_it_computes(run_python, simulator, package, without):
    ran, said = who_runs(run_python, **without(package))
    assert ran == {"float32": "native", "float16": "composite", "bfloat16": "composite"}
    assert said.count("RuntimeWarning: mps_conv_transpose3d") == 1
    assert "MPS_CONV_TRANSPOSE3D=0" in said


@pytest.mark.parametrize("without", WITHOUT_KERNELS)
def test_composite_serves_all_of_an_older_torch(run_python, simulator, package, without):
    ran, _ = who_runs(run_python, MPS_SIMULATOR_TORCH="2.7", **without(package))
    assert ran == dict.fromkeys(DTYPES, "composite")


def test_native_serves_half_where_it_computes_it(run_python, simulator, package):
    """As PyTorch may come to (pytorch pull request 183755)."""
    ran, _ = who_runs(run_python, MPS_SIMULATOR_NATIVE_HALF="1", **no_bridge(package))
    assert ran == dict.fromkeys(DTYPES, "native")


AUTOCAST = """
import torch
import mps_conv_transpose3d
layer, x = torch.nn.ConvTranspose3d(2, 3, 2, stride=2).to("mps"), torch.ones(1, 2, 2, 2, 2, device="mps")
with torch.autocast("mps", torch.float16):
    print(layer(x).dtype)
"""


@pytest.mark.parametrize("without", WITHOUT_KERNELS)
@pytest.mark.parametrize(("played", "dtype"), [("2.13", "float32"), ("2.8", "float16"), ("2.7", "float16")])
def test_autocast_without_the_kernels(run_python, simulator, package, without, played, dtype):
    """PyTorch's float32 from 2.9 on, which its own operator computes; before, what nobody else does in half."""
    result = run_python(AUTOCAST, MPS_SIMULATOR_TORCH=played, **without(package))
    assert result.stdout == f"torch.{dtype}\n", result.stderr
