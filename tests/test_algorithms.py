"""Every kernel of the family, on shapes that it would pick and on shapes that it would not."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

import pytest
import torch
from conftest import Recording
from torch._subclasses.fake_tensor import FakeTensorMode

from cases import BY_NAME, DEPTHWISE_EDGES, SWEEP, TILE_EDGES, Case
from mps_conv_transpose3d import _planner
from reference import check_case, forward_and_backward, make_tensors, map_tensors

TABLE = _planner.ask(about="algorithms")["algorithms"]
FORWARD_ALGORITHMS = [row["name"] for row in TABLE if row["passes"] == ["forward"]]
SCALAR_ALGORITHMS = ["direct", "depthwise"]
ALGORITHMS = [row["name"] for row in TABLE if row["name"] != "depthwise"]
MATRIX_ALGORITHMS = [row["name"] for row in TABLE if row["name"] not in SCALAR_ALGORITHMS]
tile_edges = pytest.mark.parametrize("case", TILE_EDGES, ids=lambda case: case.name)


def to_mps(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.to("mps")


def to_channels_last(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.contiguous(memory_format=torch.channels_last_3d) if tensor.dim() == 5 else tensor


def every_second_column(tensor: torch.Tensor) -> torch.Tensor:
    """Of a tensor twice as wide: its positions do not follow each other at even distances."""
    wide = torch.full((*tensor.shape[:-1], 2 * tensor.shape[-1] + 1), float("nan"), dtype=tensor.dtype).to("mps")
    return wide[..., 1::2].copy_(tensor)


@tile_edges
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_tile_edges(case: Case, algorithm: str, dtype: torch.dtype) -> None:
    check_case(case, make_tensors(case, dtype), to_mps, algorithm not in FORWARD_ALGORITHMS, algorithm)


# A batch of no samples is PyTorch's own.
@pytest.mark.parametrize("case", [case for case in SWEEP if case.input[0] > 0], ids=lambda c: c.name)
@pytest.mark.parametrize("algorithm", MATRIX_ALGORITHMS)
def test_small_cases_on_matrix_kernels(case: Case, algorithm: str) -> None:
    check_case(case, make_tensors(case, torch.float32), to_mps, algorithm not in FORWARD_ALGORITHMS, algorithm)


@pytest.mark.parametrize("case", DEPTHWISE_EDGES, ids=lambda case: case.name)
@pytest.mark.parametrize("algorithm", SCALAR_ALGORITHMS)
def test_depthwise_edges(case: Case, algorithm: str, dtype: torch.dtype) -> None:
    check_case(case, make_tensors(case, dtype), to_mps, algorithm=algorithm)


@pytest.mark.parametrize("algorithm", SCALAR_ALGORITHMS)
def test_sums_of_terms_that_have_a_mean(algorithm: str) -> None:
    case = next(case for case in DEPTHWISE_EDGES if case.name == "depthwise_parts")
    tensors = make_tensors(case, torch.float32)
    for tensor in tensors.values():
        tensor += 1
    check_case(case, tensors, to_mps, algorithm=algorithm)


@pytest.mark.parametrize("algorithm", SCALAR_ALGORITHMS)
@pytest.mark.parametrize("layout", [to_channels_last, every_second_column], ids=lambda f: f.__name__)
def test_scalar_kernels_read_any_strides(layout: Callable[[torch.Tensor], torch.Tensor], algorithm: str) -> None:
    case = next(case for case in DEPTHWISE_EDGES if case.name == "depthwise_groups")
    check_case(case, make_tensors(case, torch.float32), lambda tensor: layout(tensor.to("mps")), algorithm=algorithm)


def test_what_runs_on_depthwise_kernels(record: type[Recording]) -> None:
    """A forward pass of another stride or padding does not, nor a bias gradient of outputs that no tap reaches."""
    for name, depthwise, fused in (
        ("depthwise_depth_4", {"forward", "input_grad", "weight_grad"}, True),
        ("depthwise_even_padding", {"input_grad", "weight_grad"}, True),
        ("depthwise_stride_four", {"input_grad", "weight_grad"}, False),
    ):
        case = next(case for case in DEPTHWISE_EDGES if case.name == name)
        with record() as recording:
            forward_and_backward(case, map_tensors(to_mps, make_tensors(case, torch.float32)))
        for pass_ in ("forward", "input_grad", "weight_grad"):
            assert (f"conv_transpose3d_{pass_}_depthwise_float" in recording.kernels) == (pass_ in depthwise), name
        assert ("conv_transpose3d_bias_grad_direct_float" in recording.kernels) != fused, name


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_preferred_algorithm_is_what_runs(algorithm: str, record: type[Recording]) -> None:
    name = "tiles_overlapping_64" if algorithm == "polyphase_gemm_k3s2" else "tiles_32x32x32"
    case = next(case for case in TILE_EDGES if case.name == name)
    tensors = map_tensors(to_mps, make_tensors(case, torch.float32))
    with record() as recording:
        forward_and_backward(case, tensors, algorithm=algorithm)
    passes = next(row["passes"] for row in TABLE if row["name"] == algorithm)
    for pass_ in passes:
        assert f"conv_transpose3d_{pass_}_{algorithm}_float" in recording.kernels
    assert any("gemm" in name for name in recording.kernels) == (algorithm != "direct")


# Of 72 channels and 75 positions tiles of up to 64 rows are cut into 48, 32 or 16, those of up to 32 into 24, 16 or 8.
HEIGHTS = Case("heights", (3, 72, 3, 5, 5), (72, 12, 2, 2, 2), stride=(2, 2, 2))


def cores_of_each_height(algorithm: str) -> list[int]:
    """Of GPUs between them all heights of this algorithm's tiles are planned for."""
    pass_ = "forward" if algorithm in FORWARD_ALGORITHMS else "input_grad"
    found: dict[int | None, int] = {}
    for cores in range(1, 101):
        plan = _planner.plans(HEIGHTS, cores=cores, algorithm=algorithm)[pass_]
        found.setdefault(plan.dispatches[0].tile_rows, cores)
    return list(found.values())


@pytest.mark.parametrize("algorithm", [row["name"] for row in TABLE if row["bm"]])
def test_tiles_of_every_height(algorithm: str, dtype: torch.dtype) -> None:
    every = cores_of_each_height(algorithm)
    assert len(every) > 1
    backward = algorithm not in FORWARD_ALGORITHMS
    for cores in every:
        check_case(HEIGHTS, make_tensors(HEIGHTS, dtype), to_mps, backward, algorithm, cores)


@pytest.mark.parametrize("cores", [1, 8, 38, 100])
@pytest.mark.parametrize("case", [BY_NAME["tiles_32x32x32"], BY_NAME["tiles_overlapping_65"]], ids=lambda c: c.name)
def test_what_is_planned_for_any_gpu(case: Case, cores: int, dtype: torch.dtype) -> None:
    """Splits that begin in one sample and end in another, fragments of one row, slices."""
    check_case(case, make_tensors(case, dtype), to_mps, cores=cores)


def test_no_such_algorithm() -> None:
    tensors = map_tensors(to_mps, make_tensors(BY_NAME["one_voxel"], torch.float32))
    with pytest.raises(RuntimeError, match="no algorithm is named fastest"):
        forward_and_backward(BY_NAME["one_voxel"], tensors, algorithm="fastest")
    with pytest.raises(RuntimeError, match="no GPU has 65536 cores"):
        forward_and_backward(BY_NAME["one_voxel"], tensors, cores=1 << 16)


def test_what_the_kernels_do_not_compute_is_refused() -> None:
    """The operators by algorithm have nobody to hand it on to."""
    ours = torch.ops.mps_conv_transpose3d
    x, w, gy = torch.ones(1, 2, 3, 3, 3), torch.ones(2, 3, 2, 2, 2), torch.ones(1, 3, 4, 4, 4)
    ones, mask = [1, 1, 1], [True] * 3
    for on in (torch.Tensor.double, torch.Tensor.cfloat):  # on the simulated device double is refused before
        with pytest.raises((RuntimeError, TypeError)):
            ours.forward(on(x).to("mps"), on(w).to("mps"), None, ones, [0], [0], 1, ones)
    with pytest.raises(RuntimeError, match="not a ConvTranspose3d that the kernels compute"):
        ours.forward(x[:0].to("mps"), w.to("mps"), None, ones, [0], [0], 1, ones)
    with pytest.raises(NotImplementedError, match="CPU"):
        ours.forward(x, w, None, ones, [0], [0], 1, ones)
    with pytest.raises(NotImplementedError, match="CPU"):
        ours.backward(gy, x, w, ones, [0], [0], 1, ones, mask)
    on_mps = x.to("mps"), w.to("mps")
    with FakeTensorMode() as mode, pytest.raises(RuntimeError, match="conv_transpose3d"):
        ours.forward(*map(mode.from_tensor, on_mps), None, ones, [0], [0], 1, ones)


@pytest.mark.parametrize("name", ["direct", "polyphase_gemm"])
def test_an_algorithm_for_a_whole_network(
    name: str, run_python: Callable[..., subprocess.CompletedProcess[str]], simulator: None
) -> None:
    program = """
import torch, mps_simulator, mps_conv_transpose3d
layer = torch.nn.ConvTranspose3d(16, 16, 2, 2).to("mps")
with mps_simulator.record() as recording:
    layer(torch.ones(1, 16, 4, 4, 4, device="mps")).sum().backward()
print(*sorted(dispatch.kernel for dispatch in recording))
"""
    kernels = run_python(program, MPS_CONV_TRANSPOSE3D_ALGORITHM=name).stdout.split()
    assert f"conv_transpose3d_forward_{name}_float" in kernels
    assert ("conv_transpose3d_weight_grad_direct_float" in kernels) == (name == "direct")


def test_an_algorithm_that_does_not_exist_is_refused_at_once(
    run_python: Callable[..., subprocess.CompletedProcess[str]], simulator: None
) -> None:
    program = "import mps_conv_transpose3d; mps_conv_transpose3d.enable()"
    done = run_python(program, MPS_CONV_TRANSPOSE3D_ALGORITHM="fastest")
    assert "no algorithm is named fastest" in done.stderr


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
@pytest.mark.parametrize("algorithm", MATRIX_ALGORITHMS)
def test_channels_last_is_read_in_place_by_matrix_kernels(algorithm: str, case: Case) -> None:
    backward = algorithm not in FORWARD_ALGORITHMS
    tensors = make_tensors(case, torch.float32)
    check_case(case, tensors, lambda tensor: to_channels_last(tensor.to("mps")), backward, algorithm)


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
