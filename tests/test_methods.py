"""Every kernel of the family, on shapes that it would pick and on shapes that it would not."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import pytest
import torch
from conftest import Recording

from cases import BY_NAME, NARROW_EDGES, SWEEP, TILE_EDGES, Case
from mps_conv_transpose3d._explain import for_planner
from reference import check_case, forward_and_backward, make_tensors, map_tensors

FORWARD_METHODS = [
    "polyphase_gemm",
    "polyphase_gemm_k3s2",
    "tiled_gemm_bm64_bn128",
    "tiled_gemm_bm64_bn64",
    "tiled_gemm_bm32_bn64",
    "tiled_gemm_bm32_bn32",
]
GRADIENT_METHODS = ["gemm_bm64_bn64", "gemm_bm32_bn64", "gemm_bm32_bn32"]
METHODS = ["direct", *FORWARD_METHODS, *GRADIENT_METHODS]
SCALAR_METHODS = ["direct", "depthwise"]
tile_edges = pytest.mark.parametrize("case", TILE_EDGES, ids=lambda case: case.name)


@pytest.fixture
def method(request: pytest.FixtureRequest) -> Iterator[str]:
    torch.ops.mps_conv_transpose3d.force_method(request.param)
    yield request.param
    torch.ops.mps_conv_transpose3d.force_method(None)


@contextlib.contextmanager
def gpu_of(cores: int) -> Iterator[None]:
    torch.ops.mps_conv_transpose3d.force_cores(cores)
    try:
        yield
    finally:
        torch.ops.mps_conv_transpose3d.force_cores(None)


def to_mps(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.to("mps")


def to_channels_last(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.contiguous(memory_format=torch.channels_last_3d) if tensor.dim() == 5 else tensor


def every_second_column(tensor: torch.Tensor) -> torch.Tensor:
    """Of a tensor twice as wide: its positions do not follow each other at even distances."""
    wide = torch.full((*tensor.shape[:-1], 2 * tensor.shape[-1] + 1), float("nan"), dtype=tensor.dtype).to("mps")
    return wide[..., 1::2].copy_(tensor)


@tile_edges
@pytest.mark.parametrize("method", METHODS, indirect=True)
def test_tile_edges(case: Case, method: str, dtype: torch.dtype) -> None:
    check_case(case, make_tensors(case, dtype), to_mps, backward=method not in FORWARD_METHODS)


@pytest.mark.parametrize("case", SWEEP, ids=lambda c: c.name)
@pytest.mark.parametrize("method", METHODS[1:], indirect=True)
def test_small_cases_on_matrix_kernels(case: Case, method: str) -> None:
    check_case(case, make_tensors(case, torch.float32), to_mps, backward=method not in FORWARD_METHODS)


@pytest.mark.parametrize("case", NARROW_EDGES, ids=lambda case: case.name)
@pytest.mark.parametrize("method", SCALAR_METHODS, indirect=True)
def test_narrow_edges(case: Case, method: str, dtype: torch.dtype) -> None:
    check_case(case, make_tensors(case, dtype), to_mps)


@pytest.mark.parametrize("method", SCALAR_METHODS, indirect=True)
def test_sums_of_terms_that_have_a_mean(method: str) -> None:
    case = next(case for case in NARROW_EDGES if case.name == "narrow_parts")
    tensors = make_tensors(case, torch.float32)
    for tensor in tensors.values():
        tensor += 1
    check_case(case, tensors, to_mps)


@pytest.mark.parametrize("method", SCALAR_METHODS, indirect=True)
@pytest.mark.parametrize("layout", [to_channels_last, every_second_column], ids=lambda f: f.__name__)
def test_scalar_kernels_read_any_strides(layout: Callable[[torch.Tensor], torch.Tensor], method: str) -> None:
    case = next(case for case in NARROW_EDGES if case.name == "narrow_groups")
    check_case(case, make_tensors(case, torch.float32), lambda tensor: layout(tensor.to("mps")))


def test_what_runs_on_narrow_kernels(record: type[Recording]) -> None:
    """A forward pass of another stride or padding does not, nor a bias gradient of outputs that no tap reaches."""
    for name, narrow, fused in (
        ("narrow_depth_4", {"forward", "input_grad", "weight_grad"}, True),
        ("narrow_even_padding", {"input_grad", "weight_grad"}, True),
        ("narrow_stride_four", {"input_grad", "weight_grad"}, False),
    ):
        case = next(case for case in NARROW_EDGES if case.name == name)
        with record() as recording:
            forward_and_backward(case, map_tensors(to_mps, make_tensors(case, torch.float32)))
        for pass_ in ("forward", "input_grad", "weight_grad"):
            assert (f"conv_transpose3d_{pass_}_depthwise_float" in recording.kernels) == (pass_ in narrow), name
        assert ("conv_transpose3d_bias_grad_direct_float" in recording.kernels) != fused, name


@pytest.mark.parametrize("method", METHODS, indirect=True)
def test_forced_method_is_what_runs(method: str, record: type[Recording]) -> None:
    name = "tiles_overlapping_64" if method == "polyphase_gemm_k3s2" else "tiles_32x32x32"
    case = next(case for case in TILE_EDGES if case.name == name)
    tensors = map_tensors(to_mps, make_tensors(case, torch.float32))
    with record() as recording:
        forward_and_backward(case, tensors)
    passes = {"forward"} if method in FORWARD_METHODS else {"input_grad", "weight_grad"}
    for name in {"forward", *passes} if method == "direct" else passes:
        assert f"conv_transpose3d_{name}_{method}_float" in recording.kernels
    assert any("gemm" in name for name in recording.kernels) == (method != "direct")


# Of 72 channels and 75 positions tiles of up to 64 rows are cut into 48, 32 or 16, those of up to 32 into 24, 16 or 8.
HEIGHTS = Case("heights", (3, 72, 3, 5, 5), (72, 12, 2, 2, 2), stride=(2, 2, 2))


def cores_of_each_height(method: str) -> list[int]:
    """Of GPUs between them all heights of this method's tiles are planned for."""
    _plan = pytest.importorskip("mps_conv_transpose3d._plan", reason="the package was built without pybind11")
    pass_ = _plan.Pass.forward if method in FORWARD_METHODS else _plan.Pass.input_grad
    found = {}
    for cores in range(1, 101):
        plan = _plan.make_plan(
            pass_, _plan.DataType.float32, for_planner(HEIGHTS), _plan.Method.__members__[method], cores=cores
        )
        found.setdefault(plan.steps[0].tile_rows, cores)
    return list(found.values())


@pytest.mark.parametrize(
    "method",
    [method for method in METHODS[1:] if method not in ("polyphase_gemm", "polyphase_gemm_k3s2")],
    indirect=True,
)
def test_tiles_of_every_height(method: str, dtype: torch.dtype) -> None:
    every = cores_of_each_height(method)
    assert len(every) > 1
    for cores in every:
        with gpu_of(cores):
            check_case(HEIGHTS, make_tensors(HEIGHTS, dtype), to_mps, backward=method not in FORWARD_METHODS)


@pytest.mark.parametrize("cores", [1, 8, 38, 100])
@pytest.mark.parametrize("case", [BY_NAME["tiles_32x32x32"], BY_NAME["tiles_overlapping_65"]], ids=lambda c: c.name)
def test_what_is_planned_for_any_gpu(case: Case, cores: int, dtype: torch.dtype) -> None:
    """Splits that begin in one sample and end in another, fragments of one row, slices."""
    with gpu_of(cores):
        check_case(case, make_tensors(case, dtype), to_mps)


def test_no_such_method() -> None:
    with pytest.raises(RuntimeError, match="no method is named fastest"):
        torch.ops.mps_conv_transpose3d.force_method("fastest")


@tile_edges
def test_two_runs_agree_to_the_bit(case: Case) -> None:
    """No result depends on the order in which threads happen to run."""
    tensors = map_tensors(to_mps, make_tensors(case, torch.float32))
    first, second = (forward_and_backward(case, tensors) for _ in range(2))
    for name in first:
        assert torch.equal(first[name].cpu(), second[name].cpu()), name


def test_a_channel_slice_is_read_in_place_by_matrix_kernels(dtype: torch.dtype) -> None:
    """Batch and channel strides, and a storage offset, of input and of the gradient of the output."""
    case = next(case for case in TILE_EDGES if case.name == "tiles_32x32x32")
    tensors = make_tensors(case, dtype)

    def sliced(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.dim() != 5 or tensor.shape == case.weight:
            return tensor.to("mps")
        wide = torch.full((tensor.shape[0], 2 * tensor.shape[1] + 3, *tensor.shape[2:]), float("nan"), dtype=dtype)
        wide[:, 3 : 3 + tensor.shape[1]] = tensor
        return wide.to("mps")[:, 3 : 3 + tensor.shape[1]]

    check_case(case, tensors, sliced)


WHOLE_TILES = Case("whole_tiles", (1, 16, 4, 4, 4), (16, 16, 2, 2, 2), stride=(2, 2, 2))


@pytest.mark.parametrize("case", [BY_NAME["tiles_overlapping_64"], WHOLE_TILES], ids=lambda case: case.name)
@pytest.mark.parametrize("method", METHODS[1:], indirect=True)
def test_channels_last_is_read_in_place_by_matrix_kernels(method: str, case: Case) -> None:
    tensors = make_tensors(case, torch.float32)
    check_case(case, tensors, lambda tensor: to_channels_last(tensor.to("mps")), method not in FORWARD_METHODS)


def test_the_weight_gradient_sums_the_bias_gradient_too(record: type[Recording]) -> None:
    """Where taps tile the output, no other kernel reads the gradient of the output for the bias."""
    apart = Case("apart", (1, 16, 4, 4, 4), (16, 16, 1, 1, 1), stride=(2, 2, 2))
    for case, fused in ((BY_NAME["tiles_32x32x32"], True), (BY_NAME["tiles_overlapping_64"], True), (apart, False)):
        tensors = map_tensors(to_mps, make_tensors(case, torch.float32))
        with record() as recording:
            forward_and_backward(case, tensors)
        assert ("conv_transpose3d_bias_grad_direct_float" in recording.kernels) != fused
        assert ("conv_transpose3d_weight_grad_sum_splits_float" in recording.kernels) >= fused


def test_the_bias_gradient_of_a_large_volume() -> None:
    """Sums of many terms that have a mean: several short sums (of 256 positions) in each of several splits."""
    case = Case("volume", (1, 16, 24, 24, 24), (16, 64, 2, 2, 2), stride=(2, 2, 2))
    tensors = make_tensors(case, torch.float32)
    tensors["grad_output"] += 1
    check_case(case, tensors, to_mps)
