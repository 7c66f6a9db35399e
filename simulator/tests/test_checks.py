"""The checks of running kernels: each fault beside a kernel like it that has none."""

from __future__ import annotations

import os

import pytest
import torch
from interpreter import run_python

import mps_simulator

pytestmark = pytest.mark.skipif(os.environ.get("MPS_SIMULATOR_CHECKS") == "0", reason="the checks are switched off")

# Name: (body, body with a fault, what the finding says). `a`, `k` and `e` have 64 floats, `b` and `c` 32; nobody has
# written to `e`. There are 64 threads, `i`, in one threadgroup: two simdgroups.
KERNELS = {
    "read past the end": (
        "a[i] = b[i % 32];",
        "a[i] = b[i];",
        r"thread \(32, 0, 0\), program_source:6: a read of 4 bytes at offset 128 of the buffer at index 1, "
        "which has 128 bytes and is declared const",
    ),
    "write past the end": (
        "a[i] = 1;",
        "a[i + 1] = 1;",
        r"thread \(63, 0, 0\), program_source:6: a write of 4 bytes at offset 256 of the buffer at index 0",
    ),
    "read before the start": (
        "a[i] = b[i % 32];",
        "a[i] = b[int(i) - 1];",
        r"thread \(0, 0, 0\), program_source:6: a read of 4 bytes at offset -4 of the buffer at index 1",
    ),
    "write to const": (
        "if (i < 32) c[i] = 1;",
        "((device float*)k)[i] = 1;",
        r"program_source:6: a write of 4 bytes at offset 0 of the buffer at index 3, "
        "which has 256 bytes and is declared const",
    ),
    "misaligned": (
        "if (i < 16) a[i] = (*(device const float4*)(b + i % 4 * 4)).x;",
        "if (i < 16) a[i] = (*(device const float4*)(b + 1 + i % 4 * 4)).x;",
        r"thread \(0, 0, 0\), program_source:6: an access at offset 4 of the buffer at index 1.* 16 bytes of alignment",
    ),
    "misaligned write of a vector": (
        "if (i < 16) *(device float4*)(a + 4 * i) = float4(1);",
        "if (i < 15) *(device float4*)(a + 1 + 4 * i) = float4(1);",
        r"thread \(0, 0, 0\), program_source:6: an access at offset 4 of the buffer at index 0.* bytes of alignment",
    ),
    "write of a vector at half its alignment": (
        "if (i < 16) *(device float4*)(a + 4 * i) = float4(1);",
        "if (i < 15) *(device float4*)(a + 2 + 4 * i) = float4(1);",
        r"thread \(0, 0, 0\), program_source:6: a vector is read or written at .* no multiple of its alignment",
    ),
    "unsigned index below 0": (
        "if (i > 31) a[i] = b[i - 32];",
        "if (i > 30) a[i] = b[i - 32];",
        r"thread \(31, 0, 0\), program_source:6: a read of 4 bytes at offset -4 \(an unsigned index fell below 0, so "
        r"that it became 17179869180\) of the buffer at index 1, which has 128 bytes",
    ),
    "unsigned index of a vector below 0": (
        "if (i == 32) ((device float4*)a)[i / 32 - 1] = 0;",
        "if (i == 31) ((device float4*)a)[i / 32 - 1] = 0;",
        r"thread \(31, 0, 0\), program_source:6: a write of 16 bytes at offset -16 \(an unsigned index .*"
        "of the buffer at index 0",
    ),
    "outside threadgroup memory": (
        "threadgroup float t[64]; t[i] = i; a[i] = t[i];",
        "threadgroup float t[64]; t[i + 1] = i; a[i] = t[i + 1];",
        r"thread \(63, 0, 0\), program_source:6: a write of 4 bytes at offset 256 of a threadgroup variable, "
        "which has 256 bytes",
    ),
    "before threadgroup memory": (
        "threadgroup float t[64]; t[i] = i; a[i] = t[i];",
        "threadgroup float t[64]; t[int(i) - 1] = i; a[i] = t[i];",
        r"thread \(0, 0, 0\), program_source:6: a write of 4 bytes at offset -4 of a threadgroup variable",
    ),
    "from one variable into the next": (
        "threadgroup float t[64], u[64]; t[i] = i; u[i] = t[i]; a[i] = u[i];",
        "threadgroup float t[64], u[64]; t[i] = i; u[i] = t[i]; a[i] = t[i < 63 ? i : 64];",
        r"thread \(63, 0, 0\), program_source:6: a read of 4 bytes at offset 256 of a threadgroup variable",
    ),
    "unwritten threadgroup memory": (
        "threadgroup float t[64]; t[i] = i; a[i] = t[i];",
        "threadgroup float t[64]; if (i > 0) t[i] = i; a[i] = t[i];",
        r"thread \(0, 0, 0\), program_source:6: a read of 4 bytes at offset 0 of a threadgroup variable.*nobody",
    ),
    "no barrier": (
        "threadgroup float t[64]; t[i] = i; threadgroup_barrier(mem_flags::mem_threadgroup); a[i] = t[63 - i];",
        "threadgroup float t[64]; t[i] = i; t[63 - i] = 1; a[i] = t[i];",
        r"thread \(32, 0, 0\), program_source:6: a write of 4 bytes at offset 128 of a threadgroup variable.*"
        r"a race with thread \(31, 0, 0\)",
    ),
    "mem_none orders nothing": (
        "threadgroup float t[64]; t[i] = i; threadgroup_barrier(mem_flags::mem_threadgroup); a[i] = t[63 - i];",
        "threadgroup float t[64]; t[i] = i; threadgroup_barrier(mem_flags::mem_none); a[i] = t[63 - i];",
        r"thread \(0, 0, 0\), program_source:6: a read .* a race with thread \(63, 0, 0\)",
    ),
    "mem_device does not order threadgroup memory": (
        "a[i] = i; threadgroup_barrier(mem_flags::mem_device); float x = a[63 - i];"
        "threadgroup_barrier(mem_flags::mem_device); a[i] = x;",
        "threadgroup float t[64]; t[i] = i; threadgroup_barrier(mem_flags::mem_device); a[i] = t[63 - i];",
        r"a race with thread \(63, 0, 0\)",
    ),
    "write after read": (
        "threadgroup float t[64]; t[i] = i; threadgroup_barrier(mem_flags::mem_threadgroup); float x = t[63 - i];"
        "threadgroup_barrier(mem_flags::mem_threadgroup); t[i] = x; a[i] = t[i];",
        "threadgroup float t[64]; t[i] = i; threadgroup_barrier(mem_flags::mem_threadgroup); float x = t[63 - i];"
        "t[i] = x; a[i] = t[i];",
        r"program_source:6: .* of a threadgroup variable.*a race with",
    ),
    "a barrier of a simdgroup orders its lanes alone": (
        "threadgroup float t[64]; t[i] = i; simdgroup_barrier(mem_flags::mem_threadgroup); a[i] = t[i ^ 31];",
        "threadgroup float t[64]; t[i] = 0; threadgroup_barrier(mem_flags::mem_threadgroup); t[i] = i;"
        "simdgroup_barrier(mem_flags::mem_threadgroup); a[i] = t[63 - i];",
        r"thread \(32, 0, 0\), program_source:6: a write .* a race with thread \(31, 0, 0\)",
    ),
    "matrix loaded without a barrier": (
        "threadgroup float t[64]; t[i] = i; threadgroup_barrier(mem_flags::mem_threadgroup);"
        "simdgroup_float8x8 m; simdgroup_load(m, t, 8); if (i < 32) simdgroup_store(m, a, 8);",
        "threadgroup float t[64]; t[i] = i;"
        "simdgroup_float8x8 m; simdgroup_load(m, t, 8); if (i < 32) simdgroup_store(m, a, 8);",
        r"simdgroup 0, program_source:6: a read of 32 bytes .* (a race with|nobody has written)",
    ),
    "matrix past the end": (
        "simdgroup_float8x8 m(0.0f); if (i < 32) simdgroup_store(m, a, 8);",
        "simdgroup_float8x8 m(0.0f); if (i < 32) simdgroup_store(m, a + 8, 8);",
        r"simdgroup 0, program_source:6: a write of 32 bytes at offset 256 of the buffer at index 0",
    ),
    "two threads write one element": (
        "a[i] = i;",
        "a[i / 2] = i;",
        r"thread \(1, 0, 0\), program_source:6: a write of 4 bytes at offset 0 of the buffer at index 0.*"
        r"a race with thread \(0, 0, 0\)",
    ),
    "two threads write one byte": (
        "((device uchar*)a)[i] = 1;",
        "((device uchar*)a)[i / 2] = 1;",
        r"thread \(1, 0, 0\), program_source:6: a write of 1 byte at offset 0 of the buffer at index 0.*"
        r"a race with thread \(0, 0, 0\)",
    ),
    "plain beside atomic": (
        "atomic_fetch_add_explicit((device atomic_float*)a, 1.0f, memory_order_relaxed);",
        "if (i == 0) a[0] = 1; atomic_fetch_add_explicit((device atomic_float*)a, 1.0f, memory_order_relaxed);",
        "an atomic operation, program_source:6: a write of 4 bytes .* a race with thread",
    ),
    "unwritten device memory": (
        "e[i] = i; a[i] = e[i];",
        "if (i != 40) e[i] = i; a[i] = e[i];",
        r"thread \(40, 0, 0\), program_source:6: a read of 4 bytes at offset 160 of the buffer at index 4, "
        "which has 256 bytes: nobody has written there",
    ),
    "half of a vector is unwritten": (
        "if (i < 32) { e[2 * i] = 1; e[2 * i + 1] = 1; a[i] = ((device float2*)e)[i].y; }",
        "if (i < 32) { e[2 * i] = 1; a[i] = ((device float2*)e)[i].y; }",
        "a read of .* of the buffer at index 4.*nobody has written there",
    ),
    "matrix of unwritten device memory": (
        "simdgroup_float8x8 m; simdgroup_load(m, k, 8); if (i < 32) simdgroup_store(m, a, 8);",
        "simdgroup_float8x8 m; simdgroup_load(m, e, 8); if (i < 32) simdgroup_store(m, a, 8);",
        "simdgroup 0, program_source:6: a read of 32 bytes at offset 0 of the buffer at index 4.*nobody has written",
    ),
    "matrix stored by half a simdgroup": (
        "simdgroup_float8x8 m(0.0f); if (i < 32) simdgroup_store(m, a, 8);",
        "simdgroup_float8x8 m(0.0f); if (i < 16) simdgroup_store(m, a, 8);",
        r"the simdgroup matrix operations of simdgroup 0 are not reached by all its lanes: thread \(0, 0, 0\) came "
        r"last to the one at program_source:6, thread \(16, 0, 0\) came last to the one at program_source:6",
    ),
    "matrix product by some lanes, before a barrier": (
        "simdgroup_float8x8 m(1.0f); simdgroup_multiply_accumulate(m, m, m, m);"
        "threadgroup_barrier(mem_flags::mem_none); a[i] = 1;",
        "simdgroup_float8x8 m(1.0f); if (a[i] == 0 && i != 33) simdgroup_multiply_accumulate(m, m, m, m);"
        "threadgroup_barrier(mem_flags::mem_none); a[i] = 1;",
        r"matrix operations of simdgroup 1 are not reached by all its lanes: .* thread \(33, 0, 0\)",
    ),
    "barrier in a branch": (
        "if (k[i] == 0) threadgroup_barrier(mem_flags::mem_none); a[i] = 1;",
        "if (k[i] == 0 && i > 3) threadgroup_barrier(mem_flags::mem_none); a[i] = 1;",
        "the threadgroup_barrier at program_source:6 is not reached by all threads",
    ),
    "barrier of a simdgroup in a branch": (
        "if (i > 31) simdgroup_barrier(mem_flags::mem_none); a[i] = 1;",
        "if (i > 3) simdgroup_barrier(mem_flags::mem_none); a[i] = 1;",
        "the simdgroup operation at program_source:6 is not reached by all lanes",
    ),
}


def run(body: str, group_size: int = 64) -> torch.Tensor:
    a = torch.zeros(64, device="mps")
    b = torch.zeros(32, device="mps")
    c = torch.zeros(32, device="mps")
    k = torch.zeros(64, device="mps")
    e = torch.empty(64, device="mps")
    torch.mps.compile_shader(f"""#include <metal_stdlib>
#include <metal_simdgroup_matrix>
using namespace metal;
kernel void f(device float* a, const device float* b, device float* c, const device float* k,
              device float* e, uint i [[thread_position_in_grid]]) {{
{body}
}}""").f(a, b, c, k, e, threads=64, group_size=group_size)
    return a.cpu()


@pytest.mark.parametrize("name", KERNELS)
def test_fault_and_its_like(name):
    clean, faulty, finding = KERNELS[name]
    run(clean)
    with pytest.raises(mps_simulator.Finding, match=r"kernel 'f', threadgroup \(0, 0, 0\): .*" + finding):
        run(faulty)
    run(clean)


def every_second(x: torch.Tensor) -> None:
    x[::2] = 1
    x[1::2].zero_()


# How the host writes to `x`, 64 floats that nobody has written to, and whether that leaves any as they were.
WRITES = {
    "nothing": (lambda x: None, False),
    "fill": (lambda x: x.fill_(1), True),
    "fill of a part": (lambda x: x[:63].fill_(1), False),
    "every second": (lambda x: x[::2].fill_(1), False),
    "both halves": (every_second, True),
    "copy from the CPU": (lambda x: x.copy_(torch.ones(64)), True),
    "copy to a part": (lambda x: x[1:].copy_(torch.ones(63)), False),
    "out=": (lambda x: torch.add(torch.ones(64, device="mps"), 1, out=x), True),
    "a list of tensors": (lambda x: torch._foreach_zero_([x[:32], x[32:]]), True),
    "a column": (lambda x: x.view(8, 8)[:, 3].fill_(1), False),
    "transposed": (lambda x: x.view(8, 8).t().copy_(torch.ones(8, 8)), True),
    "through the storage": (lambda x: x.untyped_storage().copy_(torch.ones(64).untyped_storage()), True),
    "resized": (lambda x: x.resize_(32).fill_(1).resize_(64), False),
}


@pytest.mark.parametrize("name", WRITES)
def test_what_the_host_has_written(name):
    write, complete = WRITES[name]
    library = torch.mps.compile_shader("""kernel void read(device float* y, const device float* x,
                                                        uint i [[thread_position_in_grid]]) { y[i] = x[i]; }""")
    x, y = torch.empty(64, device="mps"), torch.empty(64, device="mps")
    write(x)
    if complete:
        library.read(y, x)
        assert torch.equal(y.cpu(), x.cpu())
        return
    with pytest.raises(mps_simulator.Finding, match=r"of the buffer at index 1.*nobody has written there"):
        library.read(y, x)
        torch.mps.synchronize()
    library.read(y, x.zero_())
    assert y.eq(0).all()


def test_a_buffer_handed_out_anew_is_unwritten():
    library = torch.mps.compile_shader("""kernel void twice(device float* x, uint i [[thread_position_in_grid]]) {
                                            x[i] *= 2; }""")
    library.twice(torch.ones(77, device="mps"))
    torch.mps.synchronize()
    with pytest.raises(mps_simulator.Finding, match="nobody has written there"):
        library.twice(torch.empty(77, device="mps"))
        torch.mps.synchronize()


def test_offsets_are_multiples_of_the_type():
    library = torch.mps.compile_shader("""kernel void f(device float2* x) { x[0] = 1; }""")
    x = torch.zeros(8, device="mps")
    library.f(x[2:], threads=1)
    with pytest.raises(mps_simulator.Finding, match="the offset 4 of the buffer at index 0 for x must be a multiple"):
        library.f(x[1:], threads=1)
    library.f(x[4:], threads=1)
    assert x.tolist() == [0, 0, 1, 1, 1, 1, 0, 0]


def test_threadgroups_are_ordered_by_nothing():
    run("threadgroup_barrier(mem_flags::mem_device); a[i] = i;", group_size=32)
    with pytest.raises(mps_simulator.Finding, match=r"of the buffer at index 0.*a race with threadgroup number"):
        run("a[i % 32] = i;", group_size=32)


def test_readers_of_an_earlier_dispatch_are_forgotten():
    """They race with no write of a later one, and hide none of its readers, which race with its writes."""
    library = torch.mps.compile_shader("""
        kernel void sum(device float* x, device float* y, uint i [[thread_position_in_grid]]) { y[i] = x[0] + x[1]; }
        kernel void fill(device float* x, uint i [[thread_position_in_grid]]) { x[i] = 1; }
        kernel void both(device float* x, device float* y, uint i [[thread_position_in_grid]]) {
          if (i < 8) y[i] = x[0];
          if (i == 63) x[0] = 1;
        }""")
    x, y = torch.zeros(64, device="mps"), torch.zeros(64, device="mps")
    for _ in range(10):  # until the shadow memory of one is the other's
        library.sum(x, y, threads=64, group_size=8)
        library.fill(x, threads=64, group_size=8)
    torch.mps.synchronize()
    for _ in range(10):
        library.sum(x, y, threads=64, group_size=8)
        with pytest.raises(mps_simulator.Finding, match=r"at offset 0 of the buffer at index 0.* a race with"):
            library.both(x, y, threads=64, group_size=8)
            torch.mps.synchronize()


TWICE = """
import torch
x = torch.ones(64, device="mps")
f = torch.mps.compile_shader("kernel void f(device float* x, uint i [[thread_position_in_grid]]) { x[i] *= 2; }").f
f(x)
f(x)
torch.mps.synchronize()
"""


@pytest.mark.parametrize("dispatches", ["serial", "concurrent"])
def test_the_encoder_of_a_stream_may_be_concurrent(dispatches):
    done = run_python(TWICE, MPS_SIMULATOR_DISPATCHES=dispatches)
    found = "a race with another dispatch of the same concurrent encoder" in done.stderr
    assert (found, done.returncode) == ((True, 1) if dispatches == "concurrent" else (False, 0)), done.stderr


ORDERED = """
import torch
x = torch.zeros(1, dtype=torch.int32, device="mps")
order = torch.zeros(256, dtype=torch.int32, device="mps")
torch.mps.compile_shader('''#include <metal_stdlib>
using namespace metal;
kernel void f(device atomic_int* x, device int* order, uint i [[thread_position_in_grid]]) {
  order[i] = atomic_fetch_add_explicit(x, 1, memory_order_relaxed);
}''').f(x, order, threads=256, group_size=64)
print(order.view(4, 64)[0].sub(order.view(4, 64)[0].min()).tolist())
"""


@pytest.mark.parametrize("order", ["forward", "reverse", "random:1", "backward"])
def test_order_of_threads(order):
    done = run_python(ORDERED, MPS_SIMULATOR_ORDER=order)
    if order == "backward":
        assert "MPS_SIMULATOR_ORDER must be forward, reverse or random:SEED" in done.stderr
        return
    places = eval(done.stdout)
    if order == "forward":
        assert places == sorted(places)
    elif order == "reverse":
        assert places == sorted(places, reverse=True)
    else:
        assert places not in (sorted(places), sorted(places, reverse=True))
