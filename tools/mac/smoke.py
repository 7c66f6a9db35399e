"""The installed package on this machine: it comes in with torch, goes on and off, survives damage, and computes.

    python tools/mac/smoke.py

On the GPU of a virtual machine PyTorch may find a device `mps` on which it cannot allocate: what needs one is then left
out, by name. Each check is a Python of its own, and prints nothing.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "mps_conv_transpose3d"

# What each check runs, and in which environment; DAMAGED stands for a folder with a damaged copy of the package.
CHECKS = {
    "torch loads the bridge": (
        """
import torch, mps_conv_transpose3d as m
assert m.is_enabled()
torch.ops.mps_conv_transpose3d.serving()
bridge = "torch_" + "_".join(torch.__version__.split(".")[:2]) + ".so"
assert [path for path in torch.ops.loaded_libraries if path.endswith("/_bridge/" + bridge)], torch.ops.loaded_libraries
""",
        {},
    ),
    "the plan of a call": (
        """
import torch, mps_conv_transpose3d
assert "conv_transpose3d_forward_" in torch.ops.mps_conv_transpose3d.plan("{}")
""",
        {},
    ),
    "a torch that no bridge is for": (
        """
import torch
torch.__version__ = "2.99.0.dev20300101"
import mps_conv_transpose3d as m
assert "but this is torch 2.99.0" in m.unavailable_reason(), m.unavailable_reason()
assert not torch.ops.loaded_libraries or "mps_conv_transpose3d" not in str(torch.ops.loaded_libraries)
assert torch.ones(2).sum() == 2
""",
        {"TORCH_DEVICE_BACKEND_AUTOLOAD": "0", "PYTHONWARNINGS": "error"},
    ),
    "`import torch` finds the package, from 2.5 on": (
        """
import sys, torch
assert "mps_conv_transpose3d" in sys.modules or torch.__version__.startswith("2.4.")
""",
        {},
    ),
    "off and on": (
        """
import torch, mps_conv_transpose3d as m
m.disable()
assert not m.is_enabled()
with m.enabled():
    assert m.is_enabled()
assert not m.is_enabled()
m.enable()
assert m.is_enabled()
with m.enabled(False):
    assert not m.is_enabled()
""",
        {},
    ),
    "switched off for a program": (
        """
import torch
has_kernel = torch._C._dispatch_has_kernel_for_dispatch_key
assert not has_kernel("aten::_convolution", "MPS")
import mps_conv_transpose3d as m
assert not m.is_enabled() and not has_kernel("aten::_convolution", "MPS")
""",
        {"MPS_CONV_TRANSPOSE3D": "0"},
    ),
    "a damaged bridge": (
        """
import torch, mps_conv_transpose3d as m
assert torch.ones(2).sum() == 2
assert "pip install --force-reinstall" in m.unavailable_reason(), m.unavailable_reason()
""",
        {"PYTHONPATH": "DAMAGED", "PYTHONWARNINGS": "error"},
    ),
}

# Ends with what PyTorch says where there is no device to compute on.
DEVICE = """
import sys, torch
if not torch.backends.mps.is_available():
    sys.exit("PyTorch finds no device mps")
try:
    torch.ones(1, device="mps").cpu()
except RuntimeError as error:
    sys.exit(str(error))
"""

COMPUTES = """
import copy
import torch
import mps_conv_transpose3d

def results(layer, x, device, dtype):
    layer, x = copy.deepcopy(layer).to(device, dtype), x.to(device, dtype).detach().requires_grad_()
    output = layer(x)
    output.float().square().sum().backward()
    return [tensor.detach().float().cpu() for tensor in (output, x.grad, layer.weight.grad, layer.bias.grad)]

torch.manual_seed(0)
for kernel, stride, dilation, groups in ((2, 2, 1, 1), (3, 2, 1, 1), (3, 1, 2, 2)):
    layer = torch.nn.ConvTranspose3d(4, 6, kernel, stride, dilation=dilation, groups=groups)
    x = torch.randn(2, 4, 3, 4, 5)
    expected = results(layer, x, "cpu", torch.float32)
    for dtype, allowed in ((torch.float32, 1e-5), (torch.float16, 1e-2), (torch.bfloat16, 5e-2)):
        for e, actual in zip(expected, results(layer, x, "mps", dtype)):
            error = ((actual - e).abs().max() / e.abs().max()).item()
            assert error < allowed, (kernel, dtype, error)
print(mps_conv_transpose3d.unavailable_reason() or "every kernel serves")
"""


def run(program: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", program]
    return subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, cwd=ROOT / "tools"
    )


def damaged(folder: str) -> str:
    spec = importlib.util.find_spec(PACKAGE)
    assert spec is not None and spec.submodule_search_locations is not None, f"{PACKAGE} is not installed"
    copy = Path(shutil.copytree(spec.submodule_search_locations[0], Path(folder) / PACKAGE))
    for bridge in (copy / "_bridge").iterdir():
        bridge.write_bytes(b"no library")
    return folder


def tell(name: str, result: subprocess.CompletedProcess[str]) -> bool:
    passed = result.returncode == 0
    print("ok" if passed else "no", name, flush=True)
    print(result.stdout if passed else result.stdout + result.stderr, end="", flush=True)
    return passed


def main() -> int:
    passed = True
    with tempfile.TemporaryDirectory() as folder:
        place = damaged(folder)
        for name, (program, environment) in CHECKS.items():
            environment = {key: place if value == "DAMAGED" else value for key, value in environment.items()}
            result = run(program, **environment)
            result.returncode = result.returncode or int(bool(result.stderr))
            passed &= tell(name, result)
    device = run(DEVICE)
    if device.returncode:
        print("left out, for want of a device: computing, invalid calls:", device.stderr.strip())
        return 0 if passed else 1
    passed &= tell("forward and backward as on the CPU", run(COMPUTES))
    command = [sys.executable, "-m", "pytest", "-q", "tests/test_errors.py"]
    passed &= tell("invalid calls", subprocess.run(command, cwd=ROOT, capture_output=True, text=True))
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
