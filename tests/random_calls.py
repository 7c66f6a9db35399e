"""Calls of ConvTranspose3d for hypothesis: legal ones, and those that one or two changes make illegal or extreme."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

from hypothesis import HealthCheck, assume, given, settings
from hypothesis import seed as with_seed
from hypothesis import strategies as st

from call_check import algorithms_that_can
from calls import HYPER_PARAMETERS, VALUES, Call, Layout, Shape, is_computable

# Numbers of channels on both sides of the edges of tiles and fragments.
EDGES = (1, 2, 3, 5, 6, 7, 8, 9, 12, 15, 16, 17, 24, 31, 32, 33, 48, 63, 64, 65, 96, 127, 128, 130)
CORES = (1, 2, 8, 10, 20, 38, 40, 76, 100, 65535)
# Products of a pass at most.
WORK = (50_000, 50_000, 300_000)
MOST_OUTPUTS = 20_000
# What an int32 or an int64 has no room for, or only just, alone or once it is doubled or multiplied.
LARGE = (2**15, 2**16 + 1, 2**30, 2**31 - 1, 2**31, 2**31 + 1, 2**32 + 1, 2**40, 2**61, 2**62 - 1, 2**62, 2**63 - 1)

KINDS = ("any", "tiles", "k3s2", "k3s2", "k3", "channels", "positions")


# As many as hypothesis generates before it begins to repeat parts of earlier ones.
CALLS_OF_A_SEED = 10


def for_calls_of(seed: int, function: Callable[[Call], object]) -> None:
    """Calls `function` with calls, the same ones for the same seed.

    Where it raises, smaller calls are tried, and what it raises of the smallest one, the last, is raised.
    """

    @with_seed(seed)
    @settings(
        max_examples=CALLS_OF_A_SEED,
        database=None,
        deadline=None,
        print_blob=False,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
    @given(call=calls())
    def run(call: Call) -> None:
        function(call)

    run()


def calls() -> st.SearchStrategy[Call]:
    return (legal_calls() | legal_calls() | legal_calls() | changed_calls()).filter(is_computable)


@st.composite
def legal_calls(draw: st.DrawFn) -> Call:
    """Of each kind that there are kernels for as many as of any other."""
    kind, work = draw(st.sampled_from(KINDS)), draw(st.sampled_from(WORK))
    groups = draw(st.sampled_from((1, 1, 1, 2, 3)))
    batch = draw(st.sampled_from(((1,), (), (2,), (1,), (2,), (3,), (9,), (0,))))
    kernel = (3, 3, 3) if kind in ("k3s2", "k3") else draw(triples(1, 6 if kind == "any" else 3))
    left = work // (math.prod(kernel) * groups * max(math.prod(batch), 1))
    most_channels = {"k3": 6, "positions": 12}.get(kind, 130)
    least = draw(st.sampled_from((1, 8)))  # enough for a matrix product
    in_channels = draw(channels(least, min(round(max(left, 1) ** 0.7), most_channels)))
    left //= in_channels
    out_channels = draw(channels(least, min(left, most_channels)))
    left //= out_channels
    size = draw(volumes(left, 40 if kind == "positions" else 10))

    stride, dilation, output_padding, padding = (1, 1, 1), (1, 1, 1), (0, 0, 0), (0, 0, 0)
    if kind == "tiles":
        stride = kernel
    elif kind == "k3s2":
        stride, padding = (2, 2, 2), (1, 1, 1)
    else:
        stride = draw(triples(1, 4))
        dilation = draw(st.just(dilation) | triples(1, 4))
    if kind != "tiles" and draw(st.booleans()):
        output_padding = draw(each(lambda s, d: st.integers(0, max(s, d) - 1), stride, dilation))
    uncut = [
        (i - 1) * s + d * (k - 1) + op + 1 for i, s, d, k, op in zip(size, stride, dilation, kernel, output_padding)
    ]
    if kind not in ("tiles", "k3s2") and draw(st.booleans()):
        padding = draw(each(lambda n: st.integers(0, min((n - 1) // 2, 6)), uncut))
    output = [n - 2 * p for n, p in zip(uncut, padding)]
    assume(min(output) > 0)
    assume(math.prod((*output, *batch, groups, out_channels)) <= MOST_OUTPUTS)
    has_bias = draw(st.booleans())
    call = Call(
        input=(*batch, in_channels * groups, *size),
        weight=(in_channels * groups, out_channels, *kernel),
        bias=(out_channels * groups,) if has_bias else None,
        stride=draw(short(stride)),
        padding=draw(short(padding)),
        output_padding=draw(short(output_padding)),
        dilation=draw(short(dilation)),
        groups=groups,
        dtype=draw(st.sampled_from(("float32", "float16", "bfloat16"))),
        wants=draw(st.just((True, True, True)) | st.tuples(*[st.booleans()] * 3)),
        by_operator=draw(st.booleans()),
        layouts=draw(layouts(4 + len(batch))),
        values=draw(st.sampled_from(sorted(VALUES))),
        seed=draw(st.integers(0, 2**16)),
        cores=draw(st.none() | st.sampled_from(CORES)),
    )
    return replace(call, algorithm=draw(st.sampled_from([None, *algorithms_that_can(call)])))


def triples(low: int, high: int) -> st.SearchStrategy[Shape]:
    return st.integers(low, high).map(lambda n: (n,) * 3) | st.tuples(*[st.integers(low, high)] * 3)


def each(strategy: object, *triples: Sequence[int]) -> st.SearchStrategy[Shape]:
    return st.tuples(*[strategy(*values) for values in zip(*triples)])


def channels(least: int, most: int) -> st.SearchStrategy[int]:
    """Fewer than `least` where `most` is less."""
    most = max(most, 1)
    least = min(least, most)
    return st.sampled_from([n for n in EDGES if least <= n <= most] or [most]) | st.integers(least, most)


@st.composite
def volumes(draw: st.DrawFn, most: int, longest: int) -> Shape:
    """Of up to `most` positions, any axis the longest."""
    size, left = [1, 1, 1], max(most, 1)
    for axis in draw(st.permutations(range(3))):
        size[axis] = draw(st.integers(1, min(left, longest)))
        left //= size[axis]
    return tuple(size)


def short(triple: Shape) -> st.SearchStrategy[int | Shape]:
    """The ways to write it: one number stands for three of the same."""
    if len(set(triple)) > 1:
        return st.just(triple)
    return st.sampled_from((triple[0], triple[:1], triple))


# --- How tensors lie in memory ---


def layouts(rank: int) -> st.SearchStrategy[dict[str, Layout]]:
    """Of each tensor that does not lie as usual."""
    some = st.fixed_dictionaries(
        {},
        optional={"input": layout(rank), "weight": layout(5), "bias": layout(1), "grad_output": layout(rank)},
    )
    return st.just({}) | some


@st.composite
def layout(draw: st.DrawFn, rank: int) -> Layout:
    orders = [tuple(range(rank)), tuple(reversed(range(rank)))]
    if rank > 1:
        orders.append((1, 0, *range(2, rank)))  # transposed
        orders.append((*range(rank - 2), rank - 1, rank - 2))
    if rank > 3:
        orders.append((*range(rank - 4), *range(rank - 3, rank), rank - 4))  # channels last
    return Layout(
        order=draw(st.sampled_from(orders)),
        steps=draw(st.just(()) | of_each(st.sampled_from((1, 1, 2, 3)), rank)),
        margins=draw(st.just(()) | of_each(st.sampled_from((0, 0, 1, 4)), rank)),
        expanded=draw(st.just(()) | of_each(st.sampled_from((False, False, False, True)), rank)),
        offset=draw(st.sampled_from((0, 1, 2, 7))),
    )


def of_each(strategy: st.SearchStrategy, rank: int) -> st.SearchStrategy[tuple]:
    return st.tuples(*[strategy] * rank)


# --- Changes ---


@st.composite
def changed_calls(draw: st.DrawFn) -> Call:
    """A legal call with one or two changes, which may still be legal."""
    call = draw(legal_calls())
    for _ in range(draw(st.integers(1, 2))):
        call = draw(st.sampled_from(CHANGES))(draw, call)
    return call


def numbers() -> st.SearchStrategy[int]:
    large = st.sampled_from(LARGE) | st.integers(0, 62).map(lambda n: 2**n)
    return st.integers(-2, 9) | large | large.map(lambda n: -n)


def change_hyper_parameter(draw: st.DrawFn, call: Call) -> Call:
    name = draw(st.sampled_from(HYPER_PARAMETERS))
    value = getattr(call, name)
    values = list(value) if isinstance(value, tuple) else [value] * draw(st.sampled_from((1, 3)))
    values[draw(st.integers(0, len(values) - 1))] = draw(numbers())
    return replace(call, **{name: tuple(values)})


def change_length(draw: st.DrawFn, call: Call) -> Call:
    """Of a list of hyper-parameters."""
    name = draw(st.sampled_from(HYPER_PARAMETERS))
    value = getattr(call, name)
    return replace(call, **{name: ((value,) if isinstance(value, int) else value[:1]) * draw(st.integers(2, 5))})


def change_groups(draw: st.DrawFn, call: Call) -> Call:
    return replace(call, groups=draw(numbers()))


def change_size(draw: st.DrawFn, call: Call) -> Call:
    name = draw(st.sampled_from([name for name in ("input", "weight", "bias") if getattr(call, name)]))
    shape = list(getattr(call, name))
    at = draw(st.integers(0, len(shape) - 1))
    shape[at] = draw(st.integers(0, 4) | st.just(shape[at] + 1))
    return replace(call, **{name: tuple(shape)})


def change_rank(draw: st.DrawFn, call: Call) -> Call:
    name = draw(st.sampled_from([name for name in ("input", "weight", "bias") if getattr(call, name) is not None]))
    shape = getattr(call, name)
    longer = (*shape[: len(shape) // 2], 1, *shape[len(shape) // 2 :])
    return replace(call, **{name: draw(st.sampled_from((shape[1:], shape[:-1], (1, *shape), (*shape, 1), longer)))})


def change_bias(draw: st.DrawFn, call: Call) -> Call:
    return replace(call, bias=draw(st.sampled_from((None, (), (1,), call.weight[1:2], call.weight[:1]))))


def change_dtype(draw: st.DrawFn, call: Call) -> Call:
    """The CPU's words about bfloat16 depend on the processor. Autograd casts a gradient of another dtype by itself."""
    name = draw(st.sampled_from(("input", "weight", "bias", "grad_output")))
    other = {"float32": "float16", "float16": "float32"}.get(call.dtype)
    if other is None:
        return call
    return replace(call, dtypes={name: other}, by_operator=call.by_operator or name == "grad_output")


def change_grad_output(draw: st.DrawFn, call: Call) -> Call:
    """Of what is asked of the operator: autograd sees to that itself."""
    shape = list(call.output or ())
    if not shape or min(shape) < 0:
        return call
    at = draw(st.integers(0, len(shape) - 1))
    shape[at] = draw(st.sampled_from((0, 1, shape[at] + 1, max(shape[at] - 1, 0), 2 * shape[at])))
    other = draw(st.sampled_from((tuple(shape), tuple(shape), tuple(shape[1:]), (1, *shape))))
    return replace(call, grad_output=other, by_operator=True)


def cut_by_padding(draw: st.DrawFn, call: Call) -> Call:
    """A stride or dilation of any size, of whose output the padding leaves little."""
    g = call.geometry
    if g is None:
        return call
    axis, far = draw(st.integers(0, 2)), 2 ** draw(st.integers(4, 40))
    changed = {name: list(getattr(g, name)) for name in HYPER_PARAMETERS}
    name = draw(st.sampled_from(("stride", "dilation")))
    changed[name][axis] = far + draw(st.integers(-1, 1))
    uncut = (g.input[axis] - 1) * changed["stride"][axis] + (g.kernel[axis] - 1) * changed["dilation"][axis] + 1
    changed["padding"][axis] = max((uncut - draw(st.integers(1, 5))) // 2, 0)
    return replace(call, **{name: tuple(values) for name, values in changed.items()})


CHANGES = (
    change_hyper_parameter,
    change_hyper_parameter,
    change_length,
    change_groups,
    change_size,
    change_rank,
    change_bias,
    change_dtype,
    change_grad_output,
    change_grad_output,
    cut_by_padding,
)
