"""PyTorch's own samples of the operation: OpInfo and ModuleInfo."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing._internal.common_methods_invocations import op_db
from torch.testing._internal.common_modules import module_db
from torch.utils._pytree import tree_map

from reference import assert_accurate, assert_all_accurate

[OP] = [op for op in op_db if op.name == "nn.functional.conv_transpose3d"]
SAMPLES = len(list(OP.sample_inputs("cpu", torch.float32)))
MODULES = {info.module_cls: info for info in module_db if info.module_cls.__name__.endswith("ConvTranspose3d")}


def convert(tree: object, *to: object) -> object:
    return tree_map(lambda x: x.detach().to(*to) if isinstance(x, torch.Tensor) else x, tree)


def make_grad_output(output: torch.Tensor, seed: int) -> torch.Tensor:
    """Random multiples of 1/8: every dtype holds the same values."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-16, 17, output.shape, generator=generator).div(8).to(output)


def run(input: torch.Tensor, args: tuple, kwargs: dict, seed: int) -> dict[str, torch.Tensor]:
    weight, bias = args
    leaves = [t.requires_grad_() for t in (input, weight, bias) if t is not None]
    output = F.conv_transpose3d(input, weight, bias, **kwargs)
    gradients = torch.autograd.grad(output, leaves, make_grad_output(output, seed))
    return {"output": output, **{f"gradient {i}": g for i, g in enumerate(gradients)}}


def test_there_are_samples():
    assert SAMPLES >= 10
    assert set(MODULES) == {nn.ConvTranspose3d, nn.LazyConvTranspose3d}


@pytest.mark.parametrize("index", range(SAMPLES))
def test_operator_sample(dtype, index):
    sample = list(OP.sample_inputs("cpu", dtype))[index]
    call = (sample.input, sample.args)

    def on(*to: object) -> dict[str, torch.Tensor]:
        input, args = convert(call, *to)
        return run(input, args, sample.kwargs, seed=index)

    assert_all_accurate(on("mps"), on(torch.float64), on("cpu"))


@pytest.mark.parametrize("index", range(2))
@pytest.mark.parametrize("module_class", list(MODULES), ids=lambda c: c.__name__)
def test_module_sample(dtype, module_class, index):
    info = MODULES[module_class]
    inputs = info.module_inputs_func(info, "cpu", dtype, requires_grad=False, training=True)
    assert len(inputs) == 2
    sample = inputs[index]
    constructor, forward = sample.constructor_input, sample.forward_input
    module = module_class(*constructor.args, **constructor.kwargs).to(dtype)
    module(*forward.args, **forward.kwargs)  # gives a lazy module its shapes

    def on(*to: object) -> dict[str, torch.Tensor]:
        twin = copy.deepcopy(module).to(*to)
        args = [x.requires_grad_() for x in convert(forward.args, *to)]
        output = twin(*args, **convert(forward.kwargs, *to))
        output.backward(make_grad_output(output, index))
        return {
            "output": output,
            **{f"gradient of input {i}": x.grad for i, x in enumerate(args)},
            **{f"gradient of {name}": parameter.grad for name, parameter in twin.named_parameters()},
        }

    assert_all_accurate(on("mps"), on(torch.float64), on("cpu"))


def test_lazy_module_takes_its_shape_on_the_device(dtype):
    module = nn.LazyConvTranspose3d(5, 3, device="mps", dtype=dtype)
    output = module(torch.randn(2, 4, 3, 4, 5).to("mps", dtype))
    assert module.weight.shape == (4, 5, 3, 3, 3) and module.weight.device.type == "mps"
    assert output.shape == (2, 5, 5, 6, 7)


@pytest.mark.parametrize("size", [(7, 7, 9), (8, 7, 9), (8, 8, 10)])
def test_output_size(dtype, size):
    module = nn.ConvTranspose3d(2, 3, 3, stride=2, padding=1).to(dtype)
    x = torch.randn(1, 2, 4, 4, 5).to(dtype)
    actual, exact, baseline = (
        copy.deepcopy(module).to(to)(x.to(to), output_size=size) for to in ("mps", torch.float64, "cpu")
    )
    assert actual.shape[-3:] == size
    assert_accurate(actual, exact, baseline)
