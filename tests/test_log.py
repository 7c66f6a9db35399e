"""MPS_CONV_TRANSPOSE3D_LOG=1: what every remote report needs."""

from conftest import bridge_of

PROGRAM = """
import torch
import mps_conv_transpose3d
layer = torch.nn.ConvTranspose3d(8, 16, 2, stride=2).to("mps")
for _ in range(2):
    layer(torch.ones(1, 8, 4, 4, 4, device="mps")).sum().backward()
layer.half()(torch.ones(1, 8, 4, 4, 4, device="mps").half())
torch.mps.synchronize()
"""
CALL = "mps_conv_transpose3d: input 1x8x4x4x4, weight 8x16x2x2x2, stride 2x2x2, padding 0x0x0, output_padding 0x0x0, "
CALL += "dilation 1x1x1, groups 1: "


def lines(run_python, **environment: str) -> list[str]:
    result = run_python(PROGRAM, **environment)
    assert result.returncode == 0, result.stderr
    return result.stderr.splitlines()


def test_silent_without_being_asked(run_python):
    assert lines(run_python) == []


def test_a_line_for_each_new_call_pass_and_choice(run_python):
    said = lines(run_python, MPS_CONV_TRANSPOSE3D_LOG="1")
    assert len(said) == len(set(said)) == 3
    assert all(line.startswith(CALL) and line.endswith("(the least time by the planner's model)") for line in said)
    passes = "forward_", "weight_grad_", "forward_"
    assert all(f"conv_transpose3d_{name}" in line for name, line in zip(passes, said))
    assert "_half" in said[2]


def test_what_serves_without_the_kernels_and_why(run_python, package):
    bridge_of(package).write_bytes(b"no library")
    environment = {"PYTHONPATH": str(package.parent), "PYTHONWARNINGS": "ignore"}
    said = lines(run_python, MPS_CONV_TRANSPOSE3D_LOG="1", **environment)
    assert [line.removeprefix(CALL).partition(" (")[0] for line in said] == [
        "forward in torch.float32 by PyTorch's own operator",
        "backward in torch.float32 by PyTorch's own operator",
        "forward in torch.float16 by plain operations",
    ]
    assert all("not the file that was installed" in line for line in said)
