"""Operators without a kernel for `mps` run on the CPU in place: no copy, and every view, alias and flag survives."""

from __future__ import annotations

import threading

import pytest
import torch
from torch.nn import functional as F

import mps_simulator


def arange(*shape: int) -> torch.Tensor:
    n = torch.Size(shape).numel()
    return torch.arange(float(n)).reshape(shape).to("mps")


def test_in_place_operators_write_the_tensor_itself():
    x = arange(4)
    before = x.untyped_storage().data_ptr()
    with mps_simulator.record() as recording:
        y = x.relu_().sub_(1).clamp_(min=0)
    assert y is x and x.untyped_storage().data_ptr() == before
    assert x.tolist() == [0, 0, 1, 2]
    assert "aten::relu_" in recording.operators


def test_nothing_is_copied():
    x = torch.ones(1 << 20, device="mps")
    held = torch.mps.current_allocated_memory()
    for _ in range(3):
        x.relu_()
        torch.cumsum(x, 0, out=x)
    assert torch.mps.current_allocated_memory() == held
    y = torch.nn.functional.hardtanh(x)
    assert torch.mps.current_allocated_memory() == held + 4 * (1 << 20)
    del y
    assert torch.mps.current_allocated_memory() == held


def test_writing_through_views():
    x = arange(3, 4)
    x[1].relu_().neg_()
    torch.cumsum(x.t()[0], 0, out=x[:, 0])
    assert x.tolist() == [[0, 1, 2, 3], [-4, -5, -6, -7], [4, 9, 10, 11]]
    x.diagonal().fill_(100)
    x[:, 1:3].masked_fill_(x[:, 1:3] > 50, 7)
    assert x.tolist() == [[100, 1, 2, 3], [-4, 7, -6, -7], [4, 9, 7, 11]]


def test_views_that_an_operator_makes_share_storage():
    x = arange(4, 6)
    pieces = [
        *x.chunk(2, 1), *x.split(2), *x.unbind(), x.unfold(1, 3, 1), x.diagonal(), x.expand(2, 4, 6), x.T, x.squeeze(),
        x.view(torch.int32), x.narrow(0, 1, 2), x.detach(), x.as_strided((2,), (3,), 1), x.real,
        torch.view_as_complex(x.view(4, 3, 2)),
    ]  # fmt: skip
    for piece in pieces:
        assert piece.is_mps and piece.untyped_storage().data_ptr() == x.untyped_storage().data_ptr()
    pieces[0][0, 0] = 50
    assert x[0, 0].item() == 50


def test_out_of_the_right_size_is_written_in_place():
    x, out = arange(2, 3), torch.zeros(4, 3, device="mps")
    view = out[1:3]
    torch.cumsum(x, 1, out=view)
    assert out.tolist() == [[0, 0, 0], [0, 1, 3], [3, 7, 12], [0, 0, 0]]


def test_an_empty_out_is_resized():
    for make in (lambda out: torch.add(arange(5), 1, out=out), lambda out: torch.cumsum(arange(5), 0, out=out)):
        out = torch.empty(0, device="mps")
        alias = out.detach()
        result = make(out)
        assert result is out and out.shape == (5,) and out.untyped_storage().nbytes() == 20
        assert out.tolist() == make(torch.empty(5, device="mps")).tolist()
        # The storage is what has grown, so that another tensor on it sees the memory.
        assert alias.untyped_storage().data_ptr() == out.untyped_storage().data_ptr()
        out.mul_(2)
        assert out[1].item() in (2.0, 4.0)


def test_several_outs_are_resized():
    values, indices = torch.empty(0, device="mps"), torch.empty(0, dtype=torch.int64, device="mps")
    torch.sort(-arange(3), out=(values, indices))
    assert values.tolist() == [-2, -1, 0] and indices.tolist() == [2, 1, 0]


def test_an_out_that_shrinks_keeps_its_memory():
    out = torch.ones(8, device="mps")
    with pytest.warns(UserWarning, match="An output with one or more elements was resized"):
        torch.cumsum(arange(3), 0, out=out)
    assert out.tolist() == [0, 1, 3] and out.untyped_storage().nbytes() == 32


def test_a_failing_operator_leaves_its_arguments_alone():
    x, out = arange(2, 3), torch.empty(0, device="mps")
    with pytest.raises(RuntimeError, match="mat1 and mat2 shapes cannot be multiplied"):
        torch.mm(x, x, out=out)
    assert out.shape == (0,) and x.tolist() == [[0, 1, 2], [3, 4, 5]]


def test_results_on_new_memory_are_ordinary_tensors():
    x = arange(3, 4)
    for y in (x.nonzero(), torch.unique(x), x.masked_select(x > 3), torch.nn.functional.pad(x, (1, 1), "reflect")):
        assert y.is_mps and y.untyped_storage().resizable()
        copy = y.clone()
        y.resize_(100)[0] = 1
        assert y.shape == (100,) and copy.is_mps


def test_conj_and_neg_bits():
    z = torch.complex(arange(3), arange(3) + 1)
    assert z.conj().is_conj() and z.conj().imag.is_neg()
    reference = z.cpu()
    for f in (
        lambda t: t.conj() + 1,
        lambda t: t.conj().imag * 2,
        lambda t: t.conj()[1:],
        lambda t: t.conj().cumsum(0),
    ):
        assert torch.equal(f(z).cpu(), f(reference))
    # A view operator that is handed the bits as they are, and hands them on.
    for f in (lambda t: t.conj().unfold(0, 2, 1), lambda t: t.conj().imag.unfold(0, 2, 1)):
        assert f(z).is_conj() == f(reference).is_conj() and f(z).is_neg() == f(reference).is_neg()
        assert torch.equal(f(z).cpu(), f(reference))


def test_wrapped_numbers_do_not_promote():
    x = torch.ones(3, dtype=torch.float16, device="mps")
    assert (x * 2.5).dtype == torch.float16
    assert (x.int() * 2.5).dtype == torch.float32
    assert torch.where(x > 0, x, 0.5).dtype == torch.float16
    assert (x * torch.tensor(2.5, dtype=torch.float64)).dtype == torch.float16


def test_lists_and_optional_lists():
    x = arange(4, 3)
    assert torch.cat([x, x[:1]]).shape == (5, 3) and torch.stack([x, x]).shape == (2, 4, 3)
    index = torch.tensor([0, 2])
    for i in (index, index.to("mps")):
        assert x[i].tolist() == x[:, :][i].tolist() == [[0, 1, 2], [6, 7, 8]]
        assert x[:, i].shape == (4, 2)
    x[index] = 0.0
    x.index_put_((index, index), torch.ones(2, device="mps"), accumulate=True)
    assert x.tolist() == [[1, 0, 0], [3, 4, 5], [0, 0, 1], [9, 10, 11]]
    torch._foreach_add_([x, x[0]], 1)
    assert x[0].tolist() == [3, 2, 2]


@pytest.mark.parametrize(
    "call",
    [
        lambda m, c: m @ c,
        lambda m, c: m + c,
        lambda m, c: torch.cat([m, c]),
        lambda m, c: torch.where(c > 0, m, 0.0),
        lambda m, c: m.masked_fill(c > 0, 1.0),
        lambda m, c: F.embedding(c.long(), m),
        lambda m, c: m.index_put_((torch.tensor([0]),), c),
        lambda m, c: F.layer_norm(m, (3,), c[0]),
        lambda m, c: c.add_(m),
        lambda m, c: torch.cumsum(m, 0, out=c),
    ],
)
def test_mixed_devices_raise(call):
    with pytest.raises(RuntimeError, match="Expected all tensors to be on the same device"):
        call(torch.ones(3, 3, device="mps"), torch.ones(3, 3))


def test_a_scalar_on_the_cpu_may_stand_beside_mps():
    x, scalar = arange(3), torch.tensor(2.0)
    assert (x * scalar).tolist() == [0, 2, 4] and (scalar * x).is_mps
    assert torch.where(x > 1, x, scalar).tolist() == [2, 2, 2]


def test_float64_results_raise():
    x = arange(3)
    for call in (lambda: x.sum(dtype=torch.float64), lambda: x.double(), lambda: torch.softmax(x, 0, torch.float64)):
        with pytest.raises(TypeError, match="the MPS framework doesn't support float64"):
            call()


def test_sparse_tensors_are_refused():
    with pytest.raises(NotImplementedError):
        arange(3).to_sparse()
    with pytest.raises(NotImplementedError):
        torch.sparse_coo_tensor(torch.zeros(1, 1, dtype=torch.int64), torch.ones(1), (2,), device="mps")


def test_a_tensor_without_memory_is_refused():
    zero = torch._efficientzerotensor((3,), device="mps")
    assert (zero * arange(3)).tolist() == [0, 0, 0]
    with (
        pytest.raises(NotImplementedError, match="without memory"),
        torch._C._ExcludeDispatchKeyGuard(torch._C.DispatchKeySet(torch._C.DispatchKey.ZeroTensor)),
    ):
        torch.cumsum(zero, 0)


def test_random_operators_draw_from_the_generator_of_mps():
    def draw(**kwargs):
        p = torch.full((50,), 0.5, device="mps")
        return [
            torch.rand(50, device="mps", **kwargs), torch.bernoulli(p, **kwargs),
            torch.randperm(50, device="mps", **kwargs),
            torch.multinomial(p, 5, **kwargs), torch.empty(50, device="mps").exponential_(**kwargs),
        ]  # fmt: skip

    torch.mps.manual_seed(5)
    first, second = draw(), draw()
    torch.mps.manual_seed(5)
    assert all(map(torch.equal, first, draw())) and not torch.equal(first[0], second[0])
    state = torch.mps.get_rng_state()
    third = F.dropout(torch.ones(50, device="mps"))
    torch.mps.set_rng_state(state)
    assert torch.equal(third, F.dropout(torch.ones(50, device="mps")))

    generator = torch.Generator("mps").manual_seed(5)
    assert all(map(torch.equal, first, draw(generator=generator)))
    with pytest.raises(RuntimeError, match="Expected a 'mps' device type for generator but found 'cpu'"):
        torch.rand(3, device="mps", generator=torch.Generator())


def test_factories_that_are_operators_of_their_own():
    for make in (
        lambda d: torch.arange(5, device=d), lambda d: torch.linspace(0, 1, 7, device=d),
        lambda d: torch.eye(3, device=d), lambda d: torch.tril_indices(3, 3, device=d),
        lambda d: torch.full((2,), 7, device=d),
        lambda d: torch.hann_window(5, device=d), lambda d: torch.tensor([1, 2], device=d),
    ):  # fmt: skip
        assert make("mps").is_mps and torch.equal(make("mps").cpu(), make("cpu"))


def test_threads_run_operators_at_once():
    x = torch.randn(64, 64)
    expected = torch.softmax(x @ x, 1).cumsum(0)
    wrong = []

    def work():
        for _ in range(30):
            y = x.to("mps")
            if not torch.allclose(torch.softmax(y @ y, 1).cumsum(0).cpu(), expected):
                wrong.append(1)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_autograd_sees_each_operator_once():
    x = arange(2, 3).requires_grad_()
    y = torch.softmax(x[:, 1:].t(), 0).cumsum(1).pow(2).sum()
    (g,) = torch.autograd.grad(y, x, create_graph=True)
    (h,) = torch.autograd.grad(g.pow(2).sum(), x)
    c = x.detach().cpu().requires_grad_()
    (gc,) = torch.autograd.grad(torch.softmax(c[:, 1:].t(), 0).cumsum(1).pow(2).sum(), c, create_graph=True)
    (hc,) = torch.autograd.grad(gc.pow(2).sum(), c)
    torch.testing.assert_close(g.cpu(), gc)
    torch.testing.assert_close(h.cpu(), hc)
    y = x.clone()
    z = y.exp()
    y.relu_()
    z.exp_()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        z.sum().backward()


def test_inference_mode():
    with torch.inference_mode():
        x = arange(4)
        y = torch.softmax(x, 0)[1:].relu_()
        assert y.is_inference() and x[1:].is_inference()
        assert torch.ops.aten.relu_.default(y) is y
        y = torch.softmax(x, 0)[1:].relu_()
        assert torch.equal(y.cpu(), torch.softmax(x.cpu(), 0)[1:])
    z = arange(4)
    with torch.inference_mode():
        assert not z[1:].is_inference() and not z.unfold(0, 2, 1).is_inference()


def test_autocast_of_the_cpu_stays_out():
    x = torch.ones(4, 4, device="mps")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert (x @ x).dtype == torch.float32 and F.layer_norm(x, (4,)).dtype == torch.float32
    with torch.autocast("mps", dtype=torch.float16):
        assert (x @ x).dtype == torch.float16 and torch.softmax(x.half(), 1).dtype == torch.float32


def test_attention():
    q, k, v = (torch.randn(2, 4, 6, 8) for _ in range(3))
    mask = torch.rand(6, 6) > 0.3
    mask[:, 0] = True
    for kwargs in ({}, {"is_causal": True}, {"attn_mask": mask}, {"attn_mask": mask.float()}, {"scale": 0.1}):
        expected = F.scaled_dot_product_attention(q, k, v, **kwargs)
        moved = {key: value.to("mps") if isinstance(value, torch.Tensor) else value for key, value in kwargs.items()}
        a = q.to("mps").requires_grad_()
        actual = F.scaled_dot_product_attention(a, k.to("mps"), v.to("mps"), **moved)
        torch.testing.assert_close(actual.cpu(), expected)
        assert torch.autograd.grad(actual.sum(), a)[0].is_mps
    layer = torch.nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
    expected = layer(q[0])
    torch.testing.assert_close(layer.to("mps")(q[0].to("mps")).cpu(), expected)


def test_functorch():
    from torch.func import grad, jacrev, jvp, vmap

    w = torch.randn(3, 3)

    def f(x):
        return torch.softmax(x @ w.to(x.device), -1).cumsum(-1).pow(2).sum()

    def attention(x):
        return F.scaled_dot_product_attention(x[None], x[None], x[None]).sum()

    x = torch.randn(4, 5, 3)
    for transform in (
        lambda g, t: grad(g)(t[0]), lambda g, t: vmap(grad(g))(t), lambda g, t: jvp(g, (t[0],), (t[1],))[1],
        lambda g, t: jacrev(grad(g))(t[0]),
    ):  # fmt: skip
        for g in (f, attention):
            torch.testing.assert_close(transform(g, x.to("mps")).cpu(), transform(g, x))


def test_compile_export_and_trace():
    model = torch.nn.Sequential(
        torch.nn.Linear(6, 8), torch.nn.LayerNorm(8), torch.nn.GELU(), torch.nn.TransformerEncoderLayer(8, 2, 16, 0.0)
    )
    x = torch.randn(3, 4, 6)
    expected = model(x)
    model, x = model.to("mps"), x.to("mps")
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    out = compiled(x)
    torch.testing.assert_close(out.cpu(), expected)
    out.sum().backward()
    assert all(p.grad.is_mps for p in model.parameters())
    model.eval().requires_grad_(False)
    torch.testing.assert_close(torch.export.export(model, (x,)).module()(x), model(x))
    torch.testing.assert_close(torch.jit.trace(model, x)(x), model(x))


def test_flop_counter_and_profiler():
    from torch.profiler import profile
    from torch.utils.flop_counter import FlopCounterMode

    x = torch.ones(4, 5, device="mps")
    with FlopCounterMode(display=False) as flops:
        x @ x.T
    assert flops.get_total_flops() == 2 * 4 * 5 * 4
    with profile() as profiled:
        x.cumsum(0)
    assert "aten::cumsum" in {event.key for event in profiled.key_averages()}
