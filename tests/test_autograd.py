"""What PyTorch builds on an operator: double backward, forward mode, functorch, frozen tensors, threads."""

import threading

import pytest
import torch
import torch.nn.functional as F
from torch.autograd import forward_ad

from cases import Case
from reference import assert_all_accurate, make_tensors, map_tensors

CASE = Case("k3_s2", (2, 2, 2, 3, 2), (2, 3, 3, 2, 3), stride=(2, 2, 2), padding=(1, 0, 1), output_padding=(1, 0, 0))
GROUPED = Case("groups", (2, 4, 2, 2, 3), (4, 2, 2, 2, 2), stride=(2, 2, 2), dilation=(1, 2, 1), groups=2)
both_cases = pytest.mark.parametrize("case", [CASE, GROUPED], ids=str)


def conv(case: Case, input: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    return F.conv_transpose3d(input, weight, bias, **case.arguments)


def compare(function, tensors: dict[str, torch.Tensor]) -> None:
    """Holds `function(tensors) -> tensors` on the device against float64 and the same dtype on the CPU."""
    actual, exact, baseline = (function(map_tensors(lambda t, to=to: t.detach().to(to), tensors)) for to in TARGETS)
    assert all(t.device.type == "mps" for t in actual.values())
    assert_all_accurate(actual, exact, baseline)


TARGETS = ("mps", torch.float64, "cpu")


@both_cases
def test_double_backward(dtype, case):
    """Gradients of a function of the gradients: of a gradient penalty, say."""
    tensors = make_tensors(case, dtype)
    directions = make_tensors(case, dtype, seed=1)

    def function(t):
        leaves = {name: t[name].requires_grad_() for name in ("input", "weight", "bias", "grad_output")}
        output = conv(case, t["input"], t["weight"], t["bias"])
        first = torch.autograd.grad(output, [t["input"], t["weight"]], t["grad_output"], create_graph=True)
        at = [directions[name].to(t["input"]) for name in ("input", "weight")]
        second = torch.autograd.grad(first, list(leaves.values()), at, allow_unused=True)
        return {name: g for name, g in zip(leaves, second) if g is not None}

    compare(function, tensors)


def test_third_derivative_exists():
    case = GROUPED  # with an output_padding PyTorch itself has none
    tensors = map_tensors(lambda t: t.to("mps"), make_tensors(case, torch.float32))
    x, w = tensors["input"].requires_grad_(), tensors["weight"].requires_grad_()
    y = conv(case, x, w, tensors["bias"])
    (g,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
    (gg,) = torch.autograd.grad(g.square().sum(), w, create_graph=True)
    gg.square().sum().backward()
    assert x.grad.isfinite().all() and x.grad.abs().max() > 0


@both_cases
def test_gradient_matches_finite_differences(case):
    """Independent of any other implementation: the operator is linear in each argument, so a difference is exact."""
    tensors = map_tensors(lambda t: t.to("mps"), make_tensors(case, torch.float32))
    steps = map_tensors(lambda t: t.to("mps"), make_tensors(case, torch.float32, seed=1))
    names = ("input", "weight", "bias")
    leaves = [tensors[name].requires_grad_() for name in names]
    gradients = torch.autograd.grad(conv(case, *leaves), leaves, tensors["grad_output"])
    for i, name in enumerate(names):
        moved = [leaf.detach() for leaf in leaves]
        moved[i] = moved[i] + steps[name]
        change = conv(case, *moved) - conv(case, *(leaf.detach() for leaf in leaves))
        expected = (change * tensors["grad_output"]).sum().item()
        assert (gradients[i] * steps[name]).sum().item() == pytest.approx(expected, rel=1e-3, abs=1e-3), name


@pytest.mark.parametrize(
    ("frozen", "operations"),
    [
        ({"input"}, {"forward", "weight_grad", "bias_grad"}),
        ({"weight", "bias"}, {"forward", "input_grad"}),
        ({"weight"}, {"forward", "input_grad", "bias_grad"}),
        ({"bias"}, {"forward", "input_grad", "weight_grad"}),
        ({"input", "weight"}, {"forward", "bias_grad"}),
    ],
)
def test_frozen_tensors_cost_nothing(dtype, frozen, operations, record):
    tensors = map_tensors(lambda t: t.to("mps"), make_tensors(CASE, dtype))
    leaves = {name: tensors[name].requires_grad_(name not in frozen) for name in ("input", "weight", "bias")}
    with record() as recording:
        conv(CASE, **leaves).backward(tensors["grad_output"])
    recording.assert_only(*operations)
    assert {name for name, leaf in leaves.items() if leaf.grad is None} == frozen


@pytest.mark.parametrize("frozen", ["input", "weight", "bias"])
def test_gradients_beside_a_frozen_tensor(dtype, frozen):
    def function(t):
        leaves = {name: t[name].requires_grad_(name != frozen) for name in ("input", "weight", "bias")}
        conv(CASE, **leaves).backward(t["grad_output"])
        return {name: leaf.grad for name, leaf in leaves.items() if name != frozen}

    compare(function, make_tensors(CASE, dtype))


@both_cases
def test_forward_mode(dtype, case):
    tensors = make_tensors(case, dtype)
    tangents = make_tensors(case, dtype, seed=1)

    def function(t):
        with forward_ad.dual_level():
            duals = [forward_ad.make_dual(t[n], tangents[n].to(t[n])) for n in ("input", "weight", "bias")]
            primal, tangent = forward_ad.unpack_dual(conv(case, *duals))
            return {"primal": primal, "tangent": tangent}

    compare(function, tensors)


@both_cases
def test_func_jvp(case):
    tangents = make_tensors(case, torch.float32, seed=1)

    def function(t):
        names = ("input", "weight", "bias")
        primals = tuple(t[n] for n in names)
        primal, tangent = torch.func.jvp(lambda *p: conv(case, *p), primals, tuple(tangents[n].to(t[n]) for n in names))
        return {"primal": primal, "tangent": tangent}

    compare(function, make_tensors(case, torch.float32))


@both_cases
def test_func_grad(dtype, case):
    def function(t):
        def loss(x, w, b):
            return (conv(case, x, w, b) * t["grad_output"]).sum()

        gradients = torch.func.grad(loss, argnums=(0, 1, 2))(t["input"], t["weight"], t["bias"])
        return dict(zip(("input", "weight", "bias"), gradients))

    compare(function, make_tensors(case, dtype))


@both_cases
@pytest.mark.parametrize("in_dims", [(0, None, None), (None, 0, None), (0, 0, 0), (1, None, 0)])
def test_vmap(case, in_dims):
    def function(t):
        arguments = [
            t[n] if dim is None else torch.stack([t[n], -t[n], 2 * t[n]], dim)
            for n, dim in zip(("input", "weight", "bias"), in_dims)
        ]
        return {"output": torch.func.vmap(lambda *p: conv(case, *p), in_dims)(*arguments)}

    compare(function, make_tensors(case, torch.float32))


def test_vmap_runs_our_kernel(record):
    t = map_tensors(lambda t: t.to("mps"), make_tensors(CASE, torch.float16))
    with record() as recording:
        torch.func.vmap(lambda x: conv(CASE, x, t["weight"], t["bias"]))(torch.stack([t["input"]] * 3))
    assert "conv_transpose3d_forward_direct_half" in recording.ours
    assert not recording.native_convolutions


@both_cases
def test_per_sample_gradients(case):
    """vmap over grad, as differential privacy needs it."""

    def function(t):
        def loss(w, b, x, g):
            return (conv(case, x, w, b) * g).sum()

        per_sample = torch.func.vmap(torch.func.grad(loss, argnums=(0, 1)), (None, None, 0, 0))
        weight, bias = per_sample(t["weight"], t["bias"], t["input"], t["grad_output"])
        return {"weight": weight, "bias": bias}

    compare(function, make_tensors(case, torch.float32))


def test_threads():
    """Several threads at once, each with its own tensors: as where one thread predicts while another copies."""
    expected, failures = {}, []
    for seed in range(4):
        tensors = make_tensors(CASE, torch.float32, seed)
        expected[seed] = conv(CASE, *(tensors[name].to("mps") for name in ("input", "weight", "bias"))).cpu()

    def work(seed: int) -> None:
        try:
            tensors = make_tensors(CASE, torch.float32, seed)
            for _ in range(10):
                t = map_tensors(lambda t: t.to("mps").requires_grad_(), tensors)
                output = conv(CASE, t["input"], t["weight"], t["bias"])
                output.backward(t["grad_output"].detach())
                assert torch.equal(output.detach().cpu(), expected[seed])
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in expected]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
