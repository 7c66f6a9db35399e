"""What the bridge leaves on PyTorch's stream, and what it survives."""

from __future__ import annotations

import pytest
import torch

from cases import LONG
from reference import make_tensors

# Fills a tensor on the stream, as anybody's kernel would.
FILL = """
kernel void fill(device float* out [[buffer(0)]], constant float& value [[buffer(1)]],
                 uint i [[thread_position_in_grid]]) {
  out[i] = value;
}
kernel void copy(device float* out [[buffer(0)]], device const float* in [[buffer(1)]],
                 uint i [[thread_position_in_grid]]) {
  out[i] = in[i];
}
"""


def test_every_dispatch_stands_between_barriers(simulator):
    """PyTorch has tried an encoder whose dispatches nothing orders but barriers (pytorch pull request 189785)."""
    import mps_simulator

    layer = torch.nn.ConvTranspose3d(8, 16, 2, stride=2).to("mps")
    x = torch.randn(1, 8, 8, 8, 8, device="mps", requires_grad=True)
    with mps_simulator.record() as recording:
        layer(x).sum().backward()
    ours = [dispatch for dispatch in recording if dispatch.kernel.startswith("conv_transpose3d_")]
    assert len(ours) == 4, "forward, input gradient, and a weight gradient in two"
    assert all(dispatch.barriers_before and dispatch.barriers_after for dispatch in ours)


BETWEEN_OTHERS = f"""
import torch
import mps_conv_transpose3d
shader = torch.mps.compile_shader({FILL!r})
x, w = torch.empty(1, 8, 8, 8, 8, device="mps"), torch.full((8, 16, 2, 2, 2), 0.5, device="mps")
y = torch.empty(1, 16, 16, 16, 16, device="mps")
shader.fill(x, 1.0)
shader.copy(y, torch.nn.functional.conv_transpose3d(x, w, stride=2))
print(y.cpu().unique().tolist())
"""


@pytest.mark.parametrize("order", ["forward", "reverse"])
def test_an_encoder_that_orders_nothing(run_python, simulator, order):
    result = run_python(BETWEEN_OTHERS, MPS_SIMULATOR_DISPATCHES="concurrent", MPS_SIMULATOR_ORDER=order)
    assert result.stdout == "[4.0]\n", result.stderr


def test_a_long_pass_shares_no_command_buffer(simulator):
    """Before torch 2.15 nobody is told of a command buffer that macOS kills, nor of what else was in it (#193571)."""
    import mps_simulator

    shader = torch.mps.compile_shader(FILL)
    x, w = (make_tensors(LONG, torch.float32)[name].to("mps") for name in ("input", "weight"))
    other = torch.empty(4, device="mps")
    with mps_simulator.record() as recording:
        shader.fill(other, 1.0)
        torch.ops.mps_conv_transpose3d.forward(x, w, None, **LONG.arguments, algorithm="direct")
        shader.fill(other, 2.0)
    buffers = [dispatch.command_buffer for dispatch in recording]
    assert len(buffers) > 3, "slices of the pass between two others"
    assert len(set(buffers)) == len(buffers)


SURVIVE = """
import torch
import mps_conv_transpose3d
x, w = torch.ones(1, 2, 2, 2, 2, device="mps"), torch.ones(2, 3, 2, 2, 2, device="mps")
for _ in range(2):
    try:
        torch.nn.functional.conv_transpose3d(x, w, stride=2)
    except RuntimeError as error:
        print(type(error).__name__, str(error).splitlines()[0])
print("alive")
"""


@pytest.mark.parametrize(
    "call", ["setComputePipelineState", "setBuffer", "setBytes", "memoryBarrier", "dispatchThreads"]
)
def test_an_exception_of_metals_is_a_runtime_error(run_python, simulator, call):
    result = run_python(SURVIVE, MPS_SIMULATOR_RAISE=call)
    *errors, last = result.stdout.splitlines()
    assert (result.returncode, last) == (0, "alive"), result.stderr
    assert len(errors) == 2
    assert all(error.startswith("RuntimeError mps_conv_transpose3d: Metal raised NSInternalInc") for error in errors)
    assert all(call in error for error in errors), "Metal's reason is kept"


ON_MACOS_13 = """
import torch
import mps_conv_transpose3d
for name in ("float32", "float16"):
    layer = torch.nn.ConvTranspose3d(8, 16, 2, stride=2, device="mps", dtype=getattr(torch, name))
    x = torch.ones(1, 8, 4, 4, 4, device="mps", dtype=getattr(torch, name), requires_grad=True)
    layer(x).sum().backward()
    print(name, x.grad.isfinite().all().item())
"""


def test_macos_13_compiles_metal_3_0(run_python, simulator):
    """No version would mean the one of the SDK that Python was linked with, whatever that is."""
    result = run_python(ON_MACOS_13, MPS_SIMULATOR_MACOS="13.0")
    assert result.stdout == "float32 True\nfloat16 True\n", result.stderr
