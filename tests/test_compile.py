"""Graphs: traced, scripted, compiled, exported. They hold PyTorch's operators alone and need no package of ours."""

import pytest
import torch
from torch import nn

from cases import Case
from reference import assert_accurate, assert_all_accurate, make_tensors, map_tensors

CASE = Case("k3_s2", (2, 4, 3, 4, 5), (4, 6, 3, 3, 3), stride=(2, 2, 2), padding=(1, 1, 1), output_padding=(1, 1, 1))


def make_model(dtype: torch.dtype) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.ConvTranspose3d(4, 6, 3, 2, 1, 1), nn.ReLU(), nn.ConvTranspose3d(6, 2, 2, 2, groups=2)).to(
        dtype
    )


def expectations(dtype: torch.dtype, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Exact result and CPU's result of the same model."""
    model = make_model(dtype)
    baseline = model(x)
    return model.double()(x.double()), baseline


def test_traced_model_runs_our_kernel(dtype, record):
    x = torch.randn(CASE.input).to(dtype)
    exact, baseline = expectations(dtype, x)
    traced = torch.jit.trace(make_model(dtype).to("mps"), x.to("mps"))
    assert "aten::_convolution" in str(traced.inlined_graph)
    assert "mps_conv_transpose3d" not in str(traced.inlined_graph)
    with record() as recording:
        actual = traced(x.to("mps"))
    assert len(recording.ours) == 2 and not recording.native_convolutions
    assert_accurate(actual, exact, baseline)


def compiled_step(case: Case, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    @torch.compile(backend="aot_eager", fullgraph=True)
    def function(x, w, b):
        return torch.nn.functional.conv_transpose3d(x, w, b, **case.arguments)

    leaves = [tensors[name].detach().requires_grad_() for name in ("input", "weight", "bias")]
    output = function(*leaves)
    output.backward(tensors["grad_output"])
    return {"output": output, **{str(i): leaf.grad for i, leaf in enumerate(leaves)}}


def eager_step(case: Case, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    leaves = [tensors[name].detach().requires_grad_() for name in ("input", "weight", "bias")]
    output = torch.nn.functional.conv_transpose3d(*leaves, **case.arguments)
    output.backward(tensors["grad_output"])
    return {"output": output, **{str(i): leaf.grad for i, leaf in enumerate(leaves)}}


@pytest.mark.parametrize("channels_last", [False, True], ids=["contiguous", "channels_last"])
def test_compiled_function(dtype, channels_last):
    torch.compiler.reset()
    tensors = make_tensors(CASE, dtype)
    on_device = map_tensors(lambda t: t.to("mps"), tensors)
    if channels_last:
        on_device["input"] = on_device["input"].contiguous(memory_format=torch.channels_last_3d)
    actual = compiled_step(CASE, on_device)
    assert_all_accurate(actual, eager_step(CASE, map_tensors(torch.Tensor.double, tensors)), eager_step(CASE, tensors))


def test_compiled_graph_runs_our_kernel(dtype, record):
    torch.compiler.reset()
    tensors = map_tensors(lambda t: t.to("mps"), make_tensors(CASE, dtype))
    with record() as recording:
        compiled_step(CASE, tensors)
    recording.assert_only("forward", "input_grad", "weight_grad")


def test_compiled_with_changing_sizes():
    torch.compiler.reset()
    model = make_model(torch.float32)
    compiled = torch.compile(make_model(torch.float32).to("mps"), backend="aot_eager", fullgraph=True, dynamic=True)
    for size in (3, 5, 4):
        x = torch.randn(1, 4, size, 4, 5)
        assert_accurate(compiled(x.to("mps")), model.double()(x.double()), model.float()(x))


def test_exported_program():
    x = torch.randn(CASE.input)
    exact, baseline = expectations(torch.float32, x)
    program = torch.export.export(make_model(torch.float32).to("mps"), (x.to("mps"),))
    targets = {str(node.target) for node in program.graph.nodes if node.op == "call_function"}
    assert any(target.startswith("aten.conv") for target in targets)
    assert not any("mps_conv_transpose3d" in target for target in targets)
    assert_accurate(program.module()(x.to("mps")), exact, baseline)


def test_flops_are_counted():
    """FlopCounterMode knows the operators that we keep, so it counts on the device what it counts on the CPU."""
    from torch.utils.flop_counter import FlopCounterMode

    def count(device: str) -> int:
        tensors = map_tensors(lambda t: t.to(device), make_tensors(CASE, torch.float32))
        with FlopCounterMode(display=False) as counter:
            eager_step(CASE, tensors)
        return counter.get_total_flops()

    assert count("mps") == count("cpu") > 0
