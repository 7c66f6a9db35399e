"""The checks of running kernels: each fault beside a kernel like it that has none."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

import mps_simulator

pytestmark = pytest.mark.skipif(os.environ.get("MPS_SIMULATOR_CHECKS") == "0", reason="the checks are switched off")

# Name: (body, body with a fault, what the finding says). `a` has 64 floats, `b` and `c` are the same 32 floats; there
# are 64 threads, `i`, in one threadgroup: two simdgroups.
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
    "outside threadgroup memory": (
        "threadgroup float t[64]; t[i] = i; a[i] = t[i];",
        "threadgroup float t[64]; t[i + 1] = i; a[i] = t[i + 1];",
        r"thread \(63, 0, 0\), program_source:6: a write of 4 bytes at offset 256 of the threadgroup memory",
    ),
    "unwritten threadgroup memory": (
        "threadgroup float t[64]; t[i] = i; a[i] = t[i];",
        "threadgroup float t[64]; if (i > 0) t[i] = i; a[i] = t[i];",
        r"thread \(0, 0, 0\), program_source:6: a read of 4 bytes at offset 0 of the threadgroup memory.*nobody",
    ),
    "no barrier": (
        "threadgroup float t[64]; t[i] = i; threadgroup_barrier(mem_flags::mem_threadgroup); a[i] = t[63 - i];",
        "threadgroup float t[64]; t[i] = i; t[63 - i] = 1; a[i] = t[i];",
        r"thread \(32, 0, 0\), program_source:6: a write of 4 bytes at offset 128 of the threadgroup memory.*"
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
        r"program_source:6: .* of the threadgroup memory.*a race with",
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
    "plain beside atomic": (
        "atomic_fetch_add_explicit((device atomic_float*)a, 1.0f, memory_order_relaxed);",
        "if (i == 0) a[0] = 1; atomic_fetch_add_explicit((device atomic_float*)a, 1.0f, memory_order_relaxed);",
        "an atomic operation, program_source:6: a write of 4 bytes .* a race with thread",
    ),
}


def run(body: str, group_size: int = 64) -> torch.Tensor:
    a = torch.zeros(64, device="mps")
    b = torch.zeros(32, device="mps")
    c = torch.zeros(32, device="mps")
    k = torch.zeros(64, device="mps")
    torch.mps.compile_shader(f"""#include <metal_stdlib>
#include <metal_simdgroup_matrix>
using namespace metal;
kernel void f(device float* a, const device float* b, device float* c, const device float* k,
              uint i [[thread_position_in_grid]]) {{
{body}
}}""").f(a, b, c, k, threads=64, group_size=group_size)
    return a.cpu()


@pytest.mark.parametrize("name", KERNELS)
def test_fault_and_its_like(name):
    clean, faulty, finding = KERNELS[name]
    run(clean)
    with pytest.raises(mps_simulator.Finding, match=r"kernel 'f', threadgroup \(0, 0, 0\): .*" + finding):
        run(faulty)
    run(clean)


def test_threadgroups_are_ordered_by_nothing():
    run("threadgroup_barrier(mem_flags::mem_device); a[i] = i;", group_size=32)
    with pytest.raises(mps_simulator.Finding, match=r"of the buffer at index 0.*a race with threadgroup number"):
        run("a[i % 32] = i;", group_size=32)


def test_divergence_is_a_finding():
    with pytest.raises(mps_simulator.Finding, match="some have returned"):
        run("if (i == 3) return; threadgroup_barrier(mem_flags::mem_none);")


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
    done = subprocess.run(
        [sys.executable, "-c", ORDERED],
        env={**os.environ, "MPS_SIMULATOR_ORDER": order},
        capture_output=True,
        text=True,
        check=False,
    )
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
