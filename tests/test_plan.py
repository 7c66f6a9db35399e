"""The planner by itself: no torch, no Metal."""

from __future__ import annotations

import json
import math
import re
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

_plan = pytest.importorskip("mps_conv_transpose3d._plan", reason="the package was built without pybind11")


def ask(**question: object) -> Any:
    return json.loads(_plan.answer(json.dumps(question)), object_hook=lambda fields: SimpleNamespace(**fields))


TABLE = ask(about="algorithms")
PASSES = ["forward", "input_grad", "weight_grad", "bias_grad"]
SUMS = ("weight_grad", "bias_grad")
TILES = {row.name: (row.bm, row.bn) for row in TABLE.algorithms if row.bm}
TILED_ALGORITHMS = [name for name in TILES if name.startswith("tiled_")]
POLYPHASE_ALGORITHMS = ["polyphase_gemm", "polyphase_gemm_k3s2"]
MATRIX_ALGORITHMS = [*TILES, *POLYPHASE_ALGORITHMS]
MAX_WORK = 1 << 29


class Geometry(SimpleNamespace):
    """The fields of a question, and the output's size."""

    @property
    def output(self) -> list[int]:
        axes = zip(self.input, self.stride, self.padding, self.dilation, self.kernel, self.output_padding)
        return [(i - 1) * s - 2 * p + d * (k - 1) + op + 1 for i, s, p, d, k, op in axes]


def geometry(**fields: object) -> Geometry:
    defaults: dict[str, object] = dict.fromkeys(("batch", "in_channels", "out_channels", "groups"), 1)
    defaults.update((name, [1] * 3) for name in ("input", "kernel", "stride", "dilation"))
    defaults.update((name, [0] * 3) for name in ("padding", "output_padding"))
    return Geometry(**{**defaults, **fields})


def plan_of(pass_: str, g: Geometry, algorithm: str | None = None, **question: object) -> Any:
    """`question`: dtype, has_bias, cores."""
    if algorithm is not None:
        question["algorithm"] = algorithm
    return getattr(ask(**vars(g), **question).passes, pass_)


GEOMETRIES = {
    "smallest": geometry(),
    "nnunet_128": geometry(batch=2, in_channels=64, out_channels=32, input=[64] * 3, kernel=[2] * 3, stride=[2] * 3),
    "unetr_bottom": geometry(in_channels=768, out_channels=128, input=[6] * 3, kernel=[2] * 3, stride=[2] * 3),
    "overlapping": geometry(
        in_channels=16, out_channels=32, input=[32] * 3, kernel=[3] * 3, stride=[2] * 3, padding=[1] * 3
    ),
    "overlapping_even": geometry(
        in_channels=32,
        out_channels=16,
        input=[6] * 3,
        kernel=[3] * 3,
        stride=[2] * 3,
        padding=[1] * 3,
        output_padding=[1] * 3,
    ),
    "depthwise": geometry(in_channels=8, out_channels=8, groups=8, input=[5, 6, 7], kernel=[3] * 3, stride=[2] * 3),
    "depthwise_same": geometry(
        in_channels=8, out_channels=8, groups=8, input=[5, 6, 7], kernel=[3] * 3, stride=[2] * 3, padding=[1] * 3
    ),
    "dilated": geometry(
        in_channels=3, out_channels=2, input=[4, 5, 1], kernel=[3, 1, 2], stride=[2, 3, 1], dilation=[3, 2, 4]
    ),
}
geometries = pytest.mark.parametrize("g", GEOMETRIES.values(), ids=GEOMETRIES.keys())
passes = pytest.mark.parametrize("pass_", PASSES)


def product(pass_: str, g: Geometry, algorithm: str) -> tuple[int, int]:
    """Rows and columns of a pass as a matrix product."""
    channels, outputs = g.in_channels // g.groups, g.out_channels // g.groups
    quotients = math.prod(math.ceil(o / s) for o, s in zip(g.output, g.stride))
    return {
        "forward": (math.prod(g.input), outputs * math.prod(g.kernel))
        if algorithm in TILED_ALGORITHMS
        else (quotients, math.ceil(outputs / 8) * 8 * math.prod(g.stride)),
        "input_grad": (channels, math.prod(g.input)),
        "weight_grad": (channels, outputs * math.prod(g.kernel)),
    }[pass_]


def needs_total(g: Geometry) -> bool:
    several_taps = any(k > s // math.gcd(s, d) for k, s, d in zip(g.kernel, g.stride, g.dilation))
    return several_taps or g.in_channels // g.groups > 512


def is_non_overlapping(g: Geometry) -> bool:
    return all(o == i * s for o, i, s in zip(g.output, g.input, g.stride)) and list(g.kernel) == list(g.stride)


def elements(pass_: str, g: Geometry) -> int:
    """How many numbers a pass computes."""
    return {
        "forward": g.batch * g.out_channels * math.prod(g.output),
        "input_grad": g.batch * g.in_channels * math.prod(g.input),
        "weight_grad": g.in_channels * g.out_channels // g.groups * math.prod(g.kernel),
        "bias_grad": g.out_channels,
    }[pass_]


def dispatches(pass_: str, g: Geometry, algorithm: str | None = None) -> list[Any]:
    return plan_of(pass_, g, algorithm, dtype="float16").dispatches


def tiles(channels: int) -> int:
    return math.ceil(channels / 16)


@geometries
@passes
def test_direct_grid_covers_the_elements(pass_: str, g: Geometry) -> None:
    """A thread for 16 channels at each position; a threadgroup for each part of each sum."""
    planned = dispatches(pass_, g, "direct")
    threads, per_threadgroup = math.prod(planned[0].threads), math.prod(planned[0].threads_per_threadgroup)
    if pass_ == "forward":
        assert threads == g.batch * math.prod(g.output) * g.groups * tiles(g.out_channels // g.groups)
    elif pass_ == "input_grad":
        assert threads == g.batch * math.prod(g.input) * g.groups * tiles(g.in_channels // g.groups)
    else:
        plan = plan_of(pass_, g, "direct")
        assert threads == plan.partial_sums * per_threadgroup
    assert len(planned) == (2 if pass_ in SUMS else 1)


def test_depthwise_grid_covers_the_elements() -> None:
    g = GEOMETRIES["depthwise_same"]
    for pass_, sizes in (("forward", [(s + 1) // 2 for s in g.output]), ("input_grad", g.input)):
        (dispatch,) = dispatches(pass_, g)
        assert dispatch.algorithm == "depthwise"
        assert dispatch.threads == [sizes[2], sizes[1], g.in_channels * math.ceil(sizes[0] / 4)]
    plan = plan_of("weight_grad", g, has_bias=True)
    assert [dispatch.algorithm for dispatch in plan.dispatches] == ["depthwise", None]
    assert "_sum_parts_" in plan.dispatches[1].kernel
    assert plan.has_bias_grad and plan.dispatches[1].threads == [8 * 27 + 8, 1, 1]


@pytest.mark.parametrize("channels", [2, 16, 25, 500])
@pytest.mark.parametrize("cores", [8, 10, 38])
def test_large_sums_are_cut_into_parts(channels: int, cores: int) -> None:
    """Whole rounds, nearly, of the 6 threadgroups that a core has room for; and no more parts than dispatches need."""
    g = geometry(in_channels=channels, out_channels=channels, groups=channels, input=[64] * 3, kernel=[3] * 3)
    g.padding, g.stride = [1] * 3, [2] * 3
    for pass_ in SUMS:
        for batch in (1, 1000):
            g.batch = batch
            plan = plan_of(pass_, g, cores=cores)
            threadgroups = math.prod(plan.dispatches[0].threads) // math.prod(
                plan.dispatches[0].threads_per_threadgroup
            )
            if pass_ == "weight_grad":
                dispatches = math.ceil(math.prod(g.kernel) * batch * math.prod(g.input) * channels / (1 << 32))
            else:
                dispatches = math.ceil(batch * math.prod(g.output) * channels / MAX_WORK)
            assert plan.partial_sums <= max(114, dispatches) * plan.dispatches[1].threads[0]
            assert threadgroups > 0.85 * 6 * cores * math.ceil(threadgroups / (6 * cores))


@geometries
@passes
@pytest.mark.parametrize("algorithm", [None, *MATRIX_ALGORITHMS], ids=str)
def test_threadgroups_suit_the_kernels(pass_: str, g: Geometry, algorithm: str | None) -> None:
    for dispatch in dispatches(pass_, g, algorithm):
        threads = math.prod(dispatch.threads_per_threadgroup)
        assert 1 <= threads <= 256
        assert 1 <= dispatch.z_per_dispatch <= dispatch.threads[2]
        if dispatch.algorithm in TILES:
            assert threads == 128
        if "gemm" in dispatch.kernel or pass_ in SUMS:
            assert threads % 32 == 0


def stated_threads() -> dict[str, int]:
    """What each kernel's source states as its most threads, by the name of its template."""
    metal = Path(__file__).parents[1] / "metal"
    kernel = re.compile(r"\[\[kernel(?:, max_total_threads_per_threadgroup\(k(\w+)\))?\]\] void (\w+)\(")
    values = {"Threads": TABLE.threads, "GemmThreads": TABLE.gemm_threads}
    found = [match for path in metal.glob("*.metal") for match in kernel.finditer(path.read_text())]
    return {name: values.get(constant, 0) for constant, name in (match.groups() for match in found)}


def template_of(kernel: str) -> str:
    """The template that a kernel is an instance of."""
    return re.sub(r"(_bm\d+_bn\d+|_k3s2)?_(float|half|bfloat)$", "", kernel)


def test_kernels_state_the_most_threads_that_a_plan_asks_for() -> None:
    """Never 32, of which Apple's compiler makes wrong code beside simdgroup matrices."""
    asked: dict[str, int] = defaultdict(int)
    for g in GEOMETRIES.values():
        for pass_ in PASSES:
            for algorithm in (None, *(row.name for row in TABLE.algorithms)):
                for cores in (1, 10, 38):
                    plan = plan_of(pass_, g, algorithm, has_bias=True, cores=cores)
                    for dispatch in plan.dispatches:
                        name = template_of(dispatch.kernel)
                        asked[name] = max(asked[name], math.prod(dispatch.threads_per_threadgroup))
    assert asked == stated_threads()
    assert 32 not in asked.values()


@geometries
@pytest.mark.parametrize("pass_", PASSES[:3])
@pytest.mark.parametrize("algorithm", TILES)
def test_tiles_cover_the_product(pass_: str, g: Geometry, algorithm: str) -> None:
    exact = algorithm != "tiled_gemm_bm64_bn128" or not needs_total(g)
    able = algorithm not in TILED_ALGORITHMS or is_non_overlapping(g)
    if (algorithm in TILED_ALGORITHMS) != (pass_ == "forward") or not exact or not able:
        assert dispatches(pass_, g, algorithm)[0].algorithm != algorithm
        return
    first = dispatches(pass_, g, algorithm)[0]
    assert first.algorithm == algorithm
    m, n = TILES[algorithm]
    rows, columns = product(pass_, g, algorithm)
    tiles = first.threads[0] // 128 * first.threads[1]
    assert first.threads[0] % 128 == 0
    assert 0 < first.tile_rows <= m and first.tile_rows % (m // 4) == 0
    assert tiles == math.ceil(rows / first.tile_rows) * math.ceil(columns / n)


@geometries
def test_partial_sums_are_bounded(g: Geometry) -> None:
    plan = plan_of("weight_grad", g)
    one = elements("weight_grad", g)
    assert plan.partial_sums % one == 0
    assert plan.partial_sums * 4 <= 8 << 20
    assert (len(plan.dispatches) == 2) == (plan.partial_sums > 0)


@geometries
def test_bias_gradient_costs_no_pass_of_its_own_where_each_output_is_read_once(g: Geometry) -> None:
    plan = plan_of("weight_grad", g, has_bias=True)
    algorithm = plan.dispatches[0].algorithm
    some_taps_tile = all(
        o == i * s and k >= pad + s and (d == 1 or k == 1)
        for o, i, s, k, pad, d in zip(g.output, g.input, g.stride, g.kernel, g.padding, g.dilation)
    )
    assert plan.has_bias_grad == (algorithm == "depthwise" or (some_taps_tile and algorithm in MATRIX_ALGORITHMS))
    assert plan.has_bias_grad <= ("_sum_" in plan.dispatches[-1].kernel)
    assert len(plan.dispatches) <= 2 and not any("bias_grad" in dispatch.kernel for dispatch in plan.dispatches)
    if algorithm in MATRIX_ALGORITHMS:
        assert ("_sum_splits_" in plan.dispatches[-1].kernel) == (plan.partial_sums > 0)
    assert plan.partial_sums * 4 <= 8 << 20
    if g is GEOMETRIES["overlapping_even"]:
        assert plan.has_bias_grad


def test_a_long_pass_is_cut() -> None:
    """One dispatch per output would keep the display's GPU for seconds: macOS kills that."""
    g = GEOMETRIES["nnunet_128"]
    (dispatch,) = dispatches("forward", g, "direct")
    assert dispatch.threads[0] * dispatch.threads[1] * dispatch.z_per_dispatch * g.in_channels <= MAX_WORK
    assert dispatch.z_per_dispatch < dispatch.threads[2]


def test_networks_layers_run_on_matrix_kernels() -> None:
    for name in ("nnunet_128", "unetr_bottom", "overlapping"):
        for pass_ in PASSES[:3]:
            assert dispatches(pass_, GEOMETRIES[name])[0].algorithm in MATRIX_ALGORITHMS


def test_a_question_that_makes_no_sense_is_refused() -> None:
    for question, words in (
        ({"batch": 0}, "no such channels"),
        ({"stride": [0, 1, 1]}, "begin at 1"),
        ({"cores": 0}, "no GPU"),
        ({"algorithm": "fastest"}, "no algorithm fastest"),
        ({"dtype": "float64"}, "no dtype float64"),
        ({"about": "the weather"}, "nothing is known about the weather"),
        ({"colour": 1}, "no field colour"),
        ({"input": [1, 1]}, "expected"),
        ({"padding": [1, 1, 1]}, "no output"),
    ):
        with pytest.raises(ValueError, match=words):
            ask(**question)


@pytest.mark.parametrize("batch", [1, 2, 3, 7, 64, 1000])
@pytest.mark.parametrize("channels", [16, 64, 768])
def test_partial_sums_do_not_grow_with_the_batch(batch: int, channels: int) -> None:
    g = geometry(
        batch=batch, in_channels=channels, out_channels=channels, input=[6] * 3, kernel=[2] * 3, stride=[2] * 3
    )
    plan = plan_of("weight_grad", g)
    assert plan.partial_sums * 4 <= 8 << 20
    if channels == 768:  # one alone would take 19 MB
        assert len(plan.dispatches) == 1


@pytest.mark.parametrize(
    ("name", "cores"),
    [
        ("Apple M1", 8),
        ("Apple M1 (simulated)", 8),
        ("Apple M1 Pro", 16),
        ("Apple M1 Ultra", 64),
        ("Apple M2", 10),
        ("Apple M2 Max", 40),
        ("Apple M11 Pro", 20),
        ("Apple A18 Pro GPU", 10),
        ("Apple Paravirtual device", 10),
        ("", 10),
    ],
)
def test_cores_by_name(name: str, cores: int) -> None:
    assert ask(device=name).cores == cores


def test_a_small_grid_is_cut_finer_on_a_large_device() -> None:
    for pass_, size in (("forward", 4), ("input_grad", 8)):
        g = geometry(in_channels=256, out_channels=128, input=[size] * 3, kernel=[2] * 3, stride=[2] * 3)
        tiles = {}
        for cores in (8, 64):
            dispatch = plan_of(pass_, g, cores=cores).dispatches[0]
            tiles[cores] = math.prod(dispatch.threads) // 128
        assert tiles[8] < tiles[64]


@pytest.mark.parametrize("cores", [8, 10, 38, 80])
@pytest.mark.parametrize("batch", [1, 2, 3, 7])
@pytest.mark.parametrize("channels", [32, 64, 256])
def test_splits_share_all_positions_of_all_samples(channels: int, batch: int, cores: int) -> None:
    """None goes without, and the last is the only one that may be shorter."""
    g = geometry(batch=batch, in_channels=channels, out_channels=channels, input=[9, 10, 11], kernel=[2] * 3)
    g.stride = [2] * 3
    plan = plan_of("weight_grad", g, cores=cores)
    splits, length, k_per_sample = plan.dispatches[0].split_k
    assert k_per_sample == 990
    assert (splits - 1) * length < batch * k_per_sample <= splits * length
    assert plan.dispatches[0].threads[2] == splits


def test_lower_tiles_where_they_fall_more_evenly_on_the_cores() -> None:
    """320 rows: 5 tiles of 64, or more that are lower."""
    g = geometry(batch=2, in_channels=320, out_channels=320, input=[4] * 3, kernel=[2] * 3, stride=[2] * 3)
    heights = set()
    for cores in range(8, 81):
        (dispatch,) = plan_of("input_grad", g, cores=cores).dispatches
        heights.add((dispatch.algorithm, dispatch.tile_rows))
    assert len(heights) > 3


def test_output_size_is_pytorchs() -> None:
    g = geometry(input=[3, 4, 5], kernel=[3, 2, 1], stride=[2, 3, 4], padding=[1, 0, 0], output_padding=[1, 2, 0])
    g.dilation = [2, 1, 3]
    expected = [
        (i - 1) * s - 2 * p + d * (k - 1) + op + 1
        for i, s, p, d, k, op in zip(g.input, g.stride, g.padding, g.dilation, g.kernel, g.output_padding)
    ]
    assert list(g.output) == expected


@pytest.mark.parametrize(
    "fields",
    [
        {"input": [1 << 11] * 3},
        {"batch": 1 << 31},
        {"batch": 1 << 13, "input": [64] * 3},
        {"in_channels": 1 << 16, "out_channels": 1 << 15, "kernel": [2, 1, 1]},
        {"stride": [1 << 31, 1, 1], "input": [2, 1, 1]},
    ],
    ids=["plane", "batch", "positions", "weights", "stride"],
)
def test_what_32_bits_cannot_hold_is_refused(fields: dict[str, object]) -> None:
    assert "32 bits" in ask(**vars(geometry(**fields))).too_large


@passes
def test_explain_names_the_kernel(pass_: str) -> None:
    text = plan_of(pass_, GEOMETRIES["dilated"], dtype="bfloat16").text
    assert f"conv_transpose3d_{pass_}_direct_bfloat" in text


@pytest.mark.parametrize(
    "fields",
    [
        {"out_channels": 2**24},
        {"in_channels": 2**23},
        {"kernel": [512, 512, 512], "input": [1, 1, 32]},
        {"in_channels": 2**14, "out_channels": 2**13},
    ],
    ids=str,
)
def test_what_a_grid_cannot_hold_is_refused(fields: dict[str, object]) -> None:
    """Metal counts the threads of a grid in 32 bits: past them a part of the result would stay unwritten."""
    assert "32 bits" in ask(**vars(geometry(**fields))).too_large


@pytest.mark.parametrize("algorithm", ["direct", "depthwise"])
def test_a_long_sum_is_cut(algorithm: str) -> None:
    """A dispatch of seconds is killed, and until torch 2.15 nobody is told: depthwise at 128^3, four samples."""
    g = geometry(
        batch=4, in_channels=1024, out_channels=1024, groups=1024, input=[128] * 3, kernel=[3] * 3, stride=[2] * 3
    )
    plan = plan_of("weight_grad", g, algorithm)
    dispatch = plan.dispatches[0]
    work = math.prod(g.kernel) * g.batch * math.prod(g.input) * g.in_channels
    z = dispatch.threads[2] // dispatch.threads_per_threadgroup[2]
    assert work / z * dispatch.z_per_dispatch <= {"direct": MAX_WORK, "depthwise": 1 << 32}[algorithm] * 1.01
