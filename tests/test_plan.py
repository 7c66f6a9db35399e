"""The planner by itself: no torch, no Metal."""

import math

import pytest

_plan = pytest.importorskip("mps_conv_transpose3d._plan", reason="the package was built without pybind11")

PASSES = list(_plan.Pass.__members__.values())
MAX_WORK = 1 << 29


def geometry(**fields: object) -> "_plan.Geometry":
    g = _plan.Geometry()
    for name, value in fields.items():
        setattr(g, name, value)
    return g


GEOMETRIES = {
    "smallest": geometry(),
    "nnunet_128": geometry(batch=2, in_channels=64, out_channels=32, input=[64] * 3, kernel=[2] * 3, stride=[2] * 3),
    "unetr_bottom": geometry(in_channels=768, out_channels=128, input=[6] * 3, kernel=[2] * 3, stride=[2] * 3),
    "overlapping": geometry(in_channels=16, out_channels=32, input=[32] * 3, kernel=[3] * 3, stride=[2] * 3, padding=[1] * 3),
    "depthwise": geometry(in_channels=8, out_channels=8, groups=8, input=[5, 6, 7], kernel=[3] * 3, stride=[2] * 3),
    "dilated": geometry(in_channels=3, out_channels=2, input=[4, 5, 1], kernel=[3, 1, 2], stride=[2, 3, 1], dilation=[3, 2, 4]),
}  # fmt: skip
geometries = pytest.mark.parametrize("g", GEOMETRIES.values(), ids=GEOMETRIES.keys())
passes = pytest.mark.parametrize("pass_", PASSES, ids=lambda p: p.name)


def elements(pass_: "_plan.Pass", g: "_plan.Geometry") -> int:
    """How many numbers a pass computes."""
    return {
        _plan.Pass.forward: g.batch * g.out_channels * math.prod(g.output),
        _plan.Pass.input_grad: g.batch * g.in_channels * math.prod(g.input),
        _plan.Pass.weight_grad: g.in_channels * g.out_channels // g.groups * math.prod(g.kernel),
        _plan.Pass.bias_grad: g.out_channels,
    }[pass_]


@geometries
@passes
def test_dispatches_cover_the_grid_once(pass_: "_plan.Pass", g: "_plan.Geometry") -> None:
    plan = _plan.make_plan(pass_, _plan.DataType.float32, g)
    assert [d.first for d in plan.dispatches] == [
        sum(d.threads[2] for d in plan.dispatches[:i]) for i in range(len(plan.dispatches))
    ]
    covered = sum(math.prod(d.threads) for d in plan.dispatches)
    sums = pass_ in (_plan.Pass.weight_grad, _plan.Pass.bias_grad)
    per_element = math.prod(plan.dispatches[0].threads_per_threadgroup) if sums else 1
    assert covered == elements(pass_, g) * per_element


@geometries
@passes
def test_threadgroups_suit_the_kernels(pass_: "_plan.Pass", g: "_plan.Geometry") -> None:
    for dispatch in _plan.make_plan(pass_, _plan.DataType.float16, g).dispatches:
        threads = math.prod(dispatch.threads_per_threadgroup)
        assert 1 <= threads <= 256
        if pass_ in (_plan.Pass.weight_grad, _plan.Pass.bias_grad):
            assert threads % 32 == 0
            assert all(n % t == 0 for n, t in zip(dispatch.threads, dispatch.threads_per_threadgroup))


def test_a_long_pass_is_cut() -> None:
    """One dispatch per output would keep the display's GPU for seconds: macOS kills that."""
    g = GEOMETRIES["nnunet_128"]
    dispatches = _plan.make_plan(_plan.Pass.forward, _plan.DataType.float32, g).dispatches
    work = g.batch * g.out_channels * math.prod(g.output) * g.in_channels
    assert len(dispatches) >= work / MAX_WORK
    for d in dispatches:
        assert math.prod(d.threads) * g.in_channels <= MAX_WORK


@passes
def test_nothing_to_compute(pass_: "_plan.Pass") -> None:
    plan = _plan.make_plan(pass_, _plan.DataType.float32, geometry(batch=0))
    whole = pass_ in (_plan.Pass.weight_grad, _plan.Pass.bias_grad)  # a sum over nothing is still a sum
    assert bool(plan.dispatches) == whole


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
        {"in_channels": 1 << 16, "out_channels": 1 << 15, "kernel": [2, 1, 1]},
        {"stride": [1 << 31, 1, 1], "input": [2, 1, 1]},
    ],
    ids=["plane", "batch", "weights", "stride"],
)
def test_what_32_bits_cannot_hold_is_refused(fields: "dict[str, object]") -> None:
    with pytest.raises(OverflowError):
        _plan.make_plan(_plan.Pass.forward, _plan.DataType.float32, geometry(**fields))


@passes
def test_explain_names_the_kernel(pass_: "_plan.Pass") -> None:
    text = _plan.explain(pass_, _plan.DataType.bfloat16, GEOMETRIES["dilated"])
    assert f"conv_transpose3d_{pass_.name}_bfloat" in text
