"""Tensors that are not dense in the usual order: read in place or copied, but never misread."""

import pytest
import torch
import torch.nn.functional as F
from torch._subclasses import FakeTensorMode

from cases import Case
from mps_conv_transpose3d import _switch
from reference import assert_all_accurate, forward_and_backward, make_tensors, map_tensors

CASES = [
    Case("k3_s2", (2, 4, 3, 4, 5), (4, 6, 3, 3, 3), stride=(2, 2, 2), padding=(1, 1, 1), output_padding=(1, 1, 1)),
    Case("k2_s2_groups", (2, 4, 3, 4, 5), (4, 3, 2, 2, 2), stride=(2, 2, 2), groups=2),
]


def dense(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.to("mps")


def channels_last(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.to("mps").contiguous(memory_format=torch.channels_last_3d) if tensor.dim() == 5 else tensor.to("mps")


def permuted(tensor: torch.Tensor) -> torch.Tensor:
    """All dimensions in memory the other way round."""
    order = tuple(reversed(range(tensor.dim())))
    return tensor.permute(order).contiguous().to("mps").permute(order)


def transposed(tensor: torch.Tensor) -> torch.Tensor:
    """First two dimensions exchanged in memory."""
    return tensor.transpose(0, 1).contiguous().to("mps").transpose(0, 1) if tensor.dim() > 1 else tensor.to("mps")


def inside(tensor: torch.Tensor) -> torch.Tensor:
    """The inner part of a tensor that is larger in every dimension, by other values all round."""
    whole = torch.full([size + 3 for size in tensor.shape], float("nan"), dtype=tensor.dtype).to("mps")
    return whole[tuple(slice(1, 1 + size) for size in tensor.shape)].copy_(tensor)


def stepped(tensor: torch.Tensor) -> torch.Tensor:
    """Every third element of the last dimension."""
    whole = torch.full((*tensor.shape[:-1], 3 * tensor.shape[-1]), float("nan"), dtype=tensor.dtype).to("mps")
    return whole[..., ::3].copy_(tensor)


def last_of_a_chunk(tensor: torch.Tensor) -> torch.Tensor:
    whole = torch.full((2 * tensor.shape[0], *tensor.shape[1:]), float("nan"), dtype=tensor.dtype).to("mps")
    return whole.chunk(2)[1].copy_(tensor)


LAYOUTS = [channels_last, permuted, transposed, inside, stepped, last_of_a_chunk]


@pytest.mark.parametrize("tensor", ["input", "weight", "bias", "grad_output"])
@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_layout(dtype, case, layout, tensor):
    tensors = make_tensors(case, dtype)
    on_device = map_tensors(lambda t: t.to("mps"), tensors)
    on_device[tensor] = layout(tensors[tensor])
    assert torch.equal(on_device[tensor].cpu(), tensors[tensor])
    exact = forward_and_backward(case, map_tensors(torch.Tensor.double, tensors))
    assert_all_accurate(forward_and_backward(case, on_device), exact, forward_and_backward(case, tensors))


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda f: f.__name__)
def test_all_tensors_in_one_layout(dtype, layout):
    case = CASES[1]
    tensors = make_tensors(case, dtype)
    exact = forward_and_backward(case, map_tensors(torch.Tensor.double, tensors))
    actual = forward_and_backward(case, map_tensors(layout, tensors))
    assert_all_accurate(actual, exact, forward_and_backward(case, tensors))


@pytest.mark.parametrize("dimension", range(5))
def test_expanded_tensors(dtype, dimension):
    """Stride 0: one value stands for a whole dimension."""
    case = CASES[0]
    tensors = make_tensors(case, dtype)
    for name in ("input", "weight", "grad_output"):
        tensors[name] = tensors[name].narrow(dimension, 0, 1).expand(tensors[name].shape)
    on_device = map_tensors(lambda t: t.to("mps"), tensors)
    for name in ("input", "weight", "grad_output"):
        on_device[name] = on_device[name].narrow(dimension, 0, 1).expand(tensors[name].shape)
        assert on_device[name].stride(dimension) == 0
    exact = forward_and_backward(case, map_tensors(torch.Tensor.double, tensors))
    assert_all_accurate(forward_and_backward(case, on_device), exact, forward_and_backward(case, tensors))


def test_gradient_of_a_sum(dtype):
    """`output.sum().backward()` hands in one number, expanded to the whole output."""
    tensors = make_tensors(CASES[0], dtype)

    def on(*to: object) -> dict[str, torch.Tensor]:
        leaves = [tensors[name].detach().to(*to).requires_grad_() for name in ("input", "weight", "bias")]
        F.conv_transpose3d(*leaves, **CASES[0].arguments).sum().backward()
        return {str(i): leaf.grad for i, leaf in enumerate(leaves)}

    assert_all_accurate(on("mps"), on(torch.float64), on("cpu"))


def test_grouped_slices_are_read_in_place(record):
    """Input and grad_output as slices along batch or channels cost no copy."""
    case = CASES[1]
    tensors = map_tensors(lambda t: t.to("mps"), make_tensors(case, torch.float32))
    for name in ("input", "grad_output"):
        tensors[name] = torch.cat([tensors[name]] * 3, dim=1)[:, tensors[name].shape[1] :][:, : tensors[name].shape[1]]
        assert not tensors[name].is_contiguous()
    with record() as recording:
        forward_and_backward(case, tensors)
    recording.assert_only("forward", "input_grad", "weight_grad", "bias_grad")
    assert not recording.copies, f"copied: {recording.copies}"


@pytest.mark.parametrize("axis", [2, 3, 4])
def test_the_stride_of_an_axis_of_one_element_does_not_matter(record, dtype, axis):
    size = [2, 8, 3, 4, 5]
    size[axis] = 1
    case = Case("flat", tuple(size), (8, 8, 2, 2, 2), stride=(2, 2, 2))
    tensors = make_tensors(case, dtype)
    on_device = map_tensors(dense, tensors)
    strides = list(on_device["input"].stride())
    strides[axis] = 2**33
    on_device["input"] = on_device["input"].as_strided(size, strides)
    exact = forward_and_backward(case, map_tensors(torch.Tensor.double, tensors))
    with record() as recording:
        actual = forward_and_backward(case, on_device)
    recording.assert_only("forward", "input_grad", "weight_grad", "bias_grad")
    assert_all_accurate(actual, exact, forward_and_backward(case, tensors))


FLAT = [
    Case("one_channel", (2, 1, 1, 2, 1), (1, 1, 1, 1, 1)),
    Case("one_voxel", (1, 4, 1, 1, 1), (4, 6, 2, 1, 3), stride=(2, 1, 3)),
]


@pytest.mark.parametrize("backend", ["kernels", "composite"])
@pytest.mark.parametrize("layout", [dense, channels_last, permuted, inside], ids=lambda f: f.__name__)
@pytest.mark.parametrize("case", [*CASES, *FLAT], ids=str)
def test_strides_are_those_that_fake_tensors_predict(dtype, case, layout, backend):
    """A compiled graph is made from the predicted strides: others would be read as other voxels."""
    _switch.serve(backend)
    tensors = map_tensors(layout, make_tensors(case, dtype))
    actual = forward_and_backward(case, tensors)
    with FakeTensorMode() as mode:
        fake = forward_and_backward(case, map_tensors(mode.from_tensor, tensors))
    assert {n: t.stride() for n, t in actual.items()} == {n: t.stride() for n, t in fake.items()}
    assert {n: t.dtype for n, t in actual.items()} == {n: t.dtype for n, t in fake.items()}
