"""How kernels run: grids, barriers, simdgroups, simdgroup matrices, and the faults that the executor sees."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

HEADER = "#include <metal_stdlib>\n#include <metal_simdgroup>\nusing namespace metal;\n"


def library(source: str):
    return torch.mps.compile_shader(HEADER + source)


def ints(*shape: int) -> torch.Tensor:
    return torch.zeros(*shape, dtype=torch.int32, device="mps")


# --- grids


def test_inputs_of_a_kernel_and_edge_threadgroups():
    out = ints(5 * 3 * 2, 16)
    library("""
        kernel void f(device int* out, uint3 at [[thread_position_in_grid]], uint3 grid [[threads_per_grid]],
                      uint3 local [[thread_position_in_threadgroup]], uint3 group [[threadgroup_position_in_grid]],
                      uint3 groups [[threadgroups_per_grid]], uint3 size [[threads_per_threadgroup]],
                      uint3 full [[dispatch_threads_per_threadgroup]], uint index [[thread_index_in_threadgroup]],
                      uint lane [[thread_index_in_simdgroup]], uint simd [[simdgroup_index_in_threadgroup]],
                      uint width [[threads_per_simdgroup]], uint simds [[simdgroups_per_threadgroup]]) {
          device int* o = out + ((at.z * grid.y + at.y) * grid.x + at.x) * 16;
          o[0] = local.x; o[1] = local.y; o[2] = group.x; o[3] = group.y; o[4] = group.z; o[5] = groups.x;
          o[6] = groups.y; o[7] = groups.z; o[8] = size.x; o[9] = size.y; o[10] = full.x; o[11] = full.y;
          o[12] = index; o[13] = lane + 100 * simd; o[14] = width; o[15] = simds;
        }
    """).f(out, threads=(5, 3, 2), group_size=(2, 2, 1))
    for z in range(2):
        for y in range(3):
            for x in range(5):
                w, h = (1 if x == 4 else 2), (1 if y == 2 else 2)
                index = y % 2 * w + x % 2
                expected = [x % 2, y % 2, x // 2, y // 2, z, 3, 2, 2, w, h, 2, 2, index, index, 32, 1]
                assert out[(z * 3 + y) * 5 + x].tolist() == expected


def test_large_grids_use_every_threadgroup_once():
    counts = ints(70_000)
    library("kernel void f(device int* x, uint i [[thread_position_in_grid]]) { x[i] += 1; }").f(counts, group_size=3)
    assert counts.eq(1).all().item()


# --- barriers


def test_barriers_in_loops_and_functions():
    x = torch.arange(1000.0, device="mps")
    library("""
        void shift(threadgroup float* t, uint i, uint n) {
          float v = t[(i + 1) % n];
          threadgroup_barrier(mem_flags::mem_threadgroup);
          t[i] = v;
          threadgroup_barrier(mem_flags::mem_threadgroup);
        }
        kernel void f(device float* x, uint i [[thread_index_in_threadgroup]], uint n [[threads_per_threadgroup]],
                      uint g [[thread_position_in_grid]]) {
          threadgroup float t[1000];
          t[i] = x[g];
          threadgroup_barrier(mem_flags::mem_threadgroup);
          for (int k = 0; k < 37; ++k) shift(t, i, n);
          x[g] = t[i];
        }
    """).f(x, threads=1000, group_size=1000)
    assert torch.equal(x.cpu(), (torch.arange(1000.0) + 37) % 1000)


def test_values_survive_barriers():
    x = torch.zeros(96, device="mps")
    library("""
        kernel void f(device float* x, uint i [[thread_position_in_threadgroup]]) {
          float4 a = float4(i, i + 1, i + 2, i + 3);
          float keep[20];
          for (int k = 0; k < 20; ++k) keep[k] = i * k;
          threadgroup_barrier(mem_flags::mem_none);
          float sum = dot(a, float4(1));
          for (int k = 0; k < 20; ++k) {
            threadgroup_barrier(mem_flags::mem_device);
            sum += keep[k];
          }
          x[i] = sum;
        }
    """).f(x, threads=96, group_size=96)
    i = torch.arange(96.0)
    assert torch.equal(x.cpu(), 4 * i + 6 + 190 * i)


def test_threadgroup_variables_do_not_overlap():
    x = ints(32)
    library("""
        kernel void f(device int* x, uint i [[thread_position_in_threadgroup]]) {
          threadgroup char a[3];
          threadgroup float4 b[2];
          if (i < 3) a[i] = i + 1;
          if (i < 2) b[i] = float4(10 * (i + 1));
          { threadgroup int c[32], d; c[i] = 100 * i; if (i == 0) d = 7;
            threadgroup_barrier(mem_flags::mem_threadgroup);
            x[i] = a[i % 3] + int(b[i % 2].w) + c[31 - i] + d; }
        }
    """).f(x, threads=32, group_size=32)
    assert x.tolist() == [i % 3 + 1 + 10 * (i % 2 + 1) + 100 * (31 - i) + 7 for i in range(32)]


# --- simdgroups


def simd(expression: str, x: torch.Tensor, before: str = "") -> torch.Tensor:
    """`expression` of `v`, each thread's element of `x`, and `lane`."""
    type_name = {torch.float32: "float", torch.int32: "int", torch.float16: "half"}[x.dtype]
    y = x.to("mps")
    out = torch.zeros_like(y)
    library(f"""
        kernel void f(device {type_name}* out, device {type_name}* x, uint i [[thread_position_in_grid]],
                      uint lane [[thread_index_in_simdgroup]]) {{ {type_name} v = x[i]; {before}
          out[i] = {expression}; }}
    """).f(out, y, threads=len(x), group_size=len(x))
    return out.cpu()


def test_simd_reductions():
    x = torch.arange(64, dtype=torch.int32).add(3)
    halves = x.view(2, 32)
    for name, reference in (
        ("sum", halves.sum(1)),
        ("min", halves.amin(1)),
        ("max", halves.amax(1)),
        ("product", torch.tensor([h.prod() & 0xFFFFFFFF for h in halves.long()])),
    ):
        expected = reference.int().repeat_interleave(32)
        assert torch.equal(simd(f"simd_{name}(v)", x), expected), name
    assert simd("simd_and(v | 64)", x).eq(64).all()
    assert simd("simd_or(v)", x).view(2, 32)[:, 0].tolist() == [63, 127]
    assert simd("simd_xor(v)", x)[0].item() == 32 ^ 33 ^ 34 ^ 0 ^ 1 ^ 2


def test_simd_reductions_of_vectors_and_halves():
    assert simd("simd_sum(v)", torch.ones(32, dtype=torch.float16)).eq(32).all()
    assert simd("simd_sum(float4(v, 1, 2, 3)).w", torch.ones(32)).eq(96).all()


def test_simd_prefixes():
    x = torch.arange(32, dtype=torch.int32)
    inclusive = x.cumsum(0).int()
    assert torch.equal(simd("simd_prefix_inclusive_sum(v)", x), inclusive)
    assert torch.equal(simd("simd_prefix_exclusive_sum(v)", x), inclusive - x)
    assert torch.equal(simd("simd_prefix_inclusive_product(lane < 8 ? 2 : 1)", x), 2 ** (x + 1).clamp(max=8))


def test_simd_shuffles():
    x = torch.arange(64, dtype=torch.int32) * 2
    lane = torch.arange(32)
    by_lane = {
        "simd_shuffle(v, (lane * 5) % 32)": lane * 5 % 32,
        "simd_shuffle_xor(v, 3)": lane ^ 3,
        "simd_broadcast(v, 7)": lane * 0 + 7,
        "simd_broadcast_first(v)": lane * 0,
        "simd_shuffle_rotate_down(v, 5)": (lane + 5) % 32,
        "simd_shuffle_rotate_up(v, 5)": (lane - 5) % 32,
        "quad_broadcast(v, 2)": lane // 4 * 4 + 2,
        "quad_shuffle_xor(v, 1)": lane ^ 1,
        "quad_shuffle(v, 3 - lane % 4)": lane // 4 * 4 + 3 - lane % 4,
    }
    for expression, source in by_lane.items():
        expected = torch.cat([x[:32][source], x[32:][source]])
        assert torch.equal(simd(expression, x), expected), expression
    assert simd("simd_shuffle_down(v, 2)", x)[:30].tolist() == [2 * (i + 2) for i in range(30)]
    assert simd("simd_shuffle_up(v, 2)", x)[2:32].tolist() == [2 * i for i in range(30)]
    assert simd("simd_shuffle_and_fill_down(v, int(100 + lane), 2)", x)[:32].tolist() == [
        2 * (i + 2) if i < 30 else 100 + i - 30 for i in range(32)
    ]
    assert simd("simd_shuffle_and_fill_up(v, -1, 3)", x)[:5].tolist() == [-1, -1, -1, 0, 2]
    assert simd("quad_sum(v)", x)[:8].tolist() == [12] * 4 + [44] * 4


def test_votes():
    x = torch.arange(32, dtype=torch.int32)
    assert simd("int(ulong(simd_ballot(v % 2 == 0)))", x).eq(0x55555555).all()
    assert simd("simd_any(v == 31) + 2 * simd_all(v < 31) + 4 * simd_all(v < 32)", x).eq(5).all()
    assert simd("simd_is_first()", x).tolist() == [1] + [0] * 31


def test_simd_operations_of_some_lanes():
    x = torch.arange(32, dtype=torch.int32)
    assert simd("w", x, "int w = -1; if (lane < 5) w = simd_sum(v);").tolist() == [10] * 5 + [-1] * 27
    assert (
        simd("w", x, "int w = -1; if (lane >= 20) { w = simd_max(v); w += simd_is_first(); }").tolist()
        == [-1] * 20 + [32] + [31] * 11
    )
    partial = torch.arange(40, dtype=torch.int32)  # the second simdgroup has 8 threads
    assert simd("simd_sum(v)", partial).tolist() == [496] * 32 + [sum(range(32, 40))] * 8
    assert simd("simd_shuffle(v, 20)", partial).tolist() == [20] * 32 + [-1] * 8  # no such lane: not a value


def test_a_reduction_in_two_stages():
    """Some simdgroups go straight to the barrier while the first one reduces."""
    n = 777
    x = torch.arange(float(n), device="mps")
    out = torch.zeros(n, device="mps")
    library("""
        kernel void f(device float* out, device const float* x, uint i [[thread_position_in_threadgroup]],
                      uint n [[threads_per_threadgroup]], uint lane [[thread_index_in_simdgroup]],
                      uint s [[simdgroup_index_in_threadgroup]]) {
          threadgroup float partial[32];
          for (int round = 0; round < 3; ++round) {
            float v = simd_sum(x[i]);
            if (lane == 0) partial[s] = v;
            threadgroup_barrier(mem_flags::mem_threadgroup);
            if (i < (n + 31) / 32) {
              float total = simd_sum(partial[i]);
              if (i == 0) partial[0] = total;
            }
            threadgroup_barrier(mem_flags::mem_threadgroup);
            out[i] += partial[0];
            threadgroup_barrier(mem_flags::mem_threadgroup);
          }
        }
    """).f(out, x, threads=n, group_size=n)
    assert out.eq(3 * n * (n - 1) / 2).all().item()


def test_simdgroup_barriers_order_the_lanes():
    x = ints(64)
    library("""
        kernel void f(device int* x, uint i [[thread_position_in_threadgroup]]) {
          threadgroup int t[64];
          t[i] = i;
          simdgroup_barrier(mem_flags::mem_threadgroup);
          int v = t[i ^ 31];
          simdgroup_barrier(mem_flags::mem_threadgroup);
          t[i] = v;
          simdgroup_barrier(mem_flags::mem_threadgroup);
          x[i] = t[i ^ 1];
        }
    """).f(x, threads=64, group_size=64)
    assert x.tolist() == [i ^ 31 ^ 1 for i in range(64)]


# --- simdgroup matrices

GEMM = """
    // C = A * B, all row by row; each simdgroup computes 16 x 16 of C. M, N and K are multiples of 32, 32 and 16.
    template <typename T>
    kernel void gemm(device float* C [[buffer(0)]], const device T* A [[buffer(1)]], const device T* B [[buffer(2)]],
                     constant int* size [[buffer(3)]], uint3 group [[threadgroup_position_in_grid]],
                     ushort thread_index [[thread_index_in_threadgroup]],
                     ushort simd [[simdgroup_index_in_threadgroup]]) {
      const int N = size[1], K = size[2];
      threadgroup T a[32 * 20];
      threadgroup T b[16 * 36];
      simdgroup_float8x8 c[2][2];
      for (int i = 0; i < 2; ++i) {
        for (int j = 0; j < 2; ++j) c[i][j] = make_filled_simdgroup_matrix<float, 8>(0.0f);
      }
      const int row = group.y * 32, column = group.x * 32;
      for (int k = 0; k < K; k += 16) {
        for (int e = thread_index; e < 32 * 16; e += 128) {
          a[e / 16 * 20 + e % 16] = A[(row + e / 16) * K + k + e % 16];
          b[e / 32 * 36 + e % 32] = B[(k + e / 32) * N + column + e % 32];
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        for (int kk = 0; kk < 16; kk += 8) {
          simdgroup_matrix<T, 8, 8> left[2], right[2];
          for (int i = 0; i < 2; ++i) simdgroup_load(left[i], a + (simd / 2 * 16 + i * 8) * 20 + kk, 20);
          for (int j = 0; j < 2; ++j) simdgroup_load(right[j], b + kk * 36 + simd % 2 * 16 + j * 8, 36);
          for (int i = 0; i < 2; ++i) {
            for (int j = 0; j < 2; ++j) simdgroup_multiply_accumulate(c[i][j], left[i], right[j], c[i][j]);
          }
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
      }
      for (int i = 0; i < 2; ++i) {
        for (int j = 0; j < 2; ++j) {
          simdgroup_store(c[i][j], C + (row + simd / 2 * 16 + i * 8) * N + column + simd % 2 * 16 + j * 8, N);
        }
      }
    }
    template [[host_name("gemm_float")]] kernel void gemm<float>(device float*, const device float*,
                                                                 const device float*, constant int*, uint3, ushort,
                                                                 ushort);
    template [[host_name("gemm_half")]] kernel void gemm<half>(device float*, const device half*, const device half*,
                                                               constant int*, uint3, ushort, ushort);
    template [[host_name("gemm_bfloat")]] kernel void gemm<bfloat>(device float*, const device bfloat*,
                                                                   const device bfloat*, constant int*, uint3, ushort,
                                                                   ushort);
"""


@pytest.mark.parametrize(
    ("name", "dtype"), [("float", torch.float32), ("half", torch.float16), ("bfloat", torch.bfloat16)]
)
def test_matrix_product(name, dtype):
    m, n, k = 64, 96, 48
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randint(-8, 9, s, generator=generator).to(dtype) for s in ((m, k), (k, n)))
    c = torch.zeros(m, n, device="mps")
    size = torch.tensor([m, n, k], dtype=torch.int32, device="mps")
    getattr(library(GEMM), f"gemm_{name}")(
        c, a.to("mps"), b.to("mps"), size, threads=(n // 32 * 128, m // 32, 1), group_size=(128, 1, 1)
    )
    assert torch.equal(c.cpu(), a.float() @ b.float())  # small integers: exact in any order


def test_loads_and_stores_of_matrices():
    x = torch.arange(256.0, device="mps")
    out = torch.zeros(256, device="mps")
    library("""
        kernel void f(device float* out, device float* x) {
          threadgroup float t[64];
          simdgroup_float8x8 a, b;
          simdgroup_load(a, x, 16, ulong2(8, 1));
          simdgroup_store(a, out, 16);
          simdgroup_load(b, x, 16, 0, true);
          simdgroup_store(b, t, 8, 0, true);
          simdgroup_barrier(mem_flags::mem_threadgroup);
          simdgroup_load(b, t);
          simdgroup_store(b, out, 16, ulong2(8, 8));
        }
    """).f(out, x, threads=32, group_size=32)
    expected = torch.zeros(16, 16)
    expected[:8, :8] = torch.arange(256.0).view(16, 16)[1:9, 8:]
    expected[8:, 8:] = torch.arange(256.0).view(16, 16)[:8, :8]
    assert torch.equal(out.cpu().view(16, 16), expected)


def test_thread_elements():
    x = torch.arange(64.0, device="mps")
    out, product, lanes = (torch.zeros(64, device="mps") for _ in range(3))
    library("""
        kernel void f(device float* out, device float* product, device float* lanes, device float* x,
                      ushort lane [[thread_index_in_simdgroup]]) {
          simdgroup_float8x8 a, b, c, d(1.0f);
          simdgroup_load(a, x);
          lanes[lane * 2] = a.thread_elements()[0];
          lanes[lane * 2 + 1] = a.thread_elements()[1];
          reinterpret_cast<thread float2&>(a.thread_elements()) += float2(100);
          simdgroup_store(a, out);
          b = a;
          b.thread_elements()[0] = lane;
          b.thread_elements()[1] = -float(lane);
          simdgroup_multiply_accumulate(c, d, b, a);  // b and a in elements, d in the leader
          thread auto& elements = c.thread_elements();
          elements[0] *= 2;
          elements[1] *= 2;
          simdgroup_multiply(d, c, d);
          simdgroup_store(d, product);
        }
    """).f(out, product, lanes, x, threads=32, group_size=32)
    lane = torch.arange(32)
    row, column = (lane // 4 & 4) + lane // 2 % 4, (lane // 4 & 2) * 2 + lane % 2 * 2
    position = torch.stack([row * 8 + column, row * 8 + column + 1], 1).flatten()
    assert torch.equal(lanes.cpu(), position.float())
    assert torch.equal(out.cpu(), torch.arange(64.0) + 100)
    b = torch.zeros(64)
    b[position] = torch.stack([lane, -lane], 1).flatten().float()
    assert torch.equal(product.cpu(), 2 * (b + torch.arange(64.0) + 100))


def test_products_of_thread_elements():
    generator = torch.Generator().manual_seed(1)
    a, b, c = (torch.randint(-9, 9, (8, 8), generator=generator).float() for _ in range(3))
    out = torch.zeros(8, 8, device="mps")
    library("""
        kernel void f(device float* out, device float* x, ushort lane [[thread_index_in_simdgroup]]) {
          ushort row = (lane / 4 & 4) + lane / 2 % 4, column = (lane / 4 & 2) * 2 + lane % 2 * 2;
          simdgroup_float8x8 m[3];
          for (int i = 0; i < 3; ++i) {
            m[i].thread_elements()[0] = x[i * 64 + row * 8 + column];
            m[i].thread_elements()[1] = x[i * 64 + row * 8 + column + 1];
          }
          simdgroup_multiply_accumulate(m[2], m[0], m[1], m[2]);
          out[row * 8 + column] = m[2].thread_elements()[0];
          out[row * 8 + column + 1] = m[2].thread_elements()[1];
        }
    """).f(out, torch.stack([a, b, c]).to("mps"), threads=32, group_size=32)
    assert torch.equal(out.cpu(), a @ b + c)


ASKING = """
    // Sums of products, and then each lane's elements of the last ones, as it chooses; twice, with no barrier between.
    kernel void f(device float* out, device const float* x, constant int& length, constant int& silent,
                  ushort lane [[thread_index_in_simdgroup]]) {
      simdgroup_float8x8 a, b, sum[4];
      for (int i = 0; i < 4; ++i) sum[i] = simdgroup_float8x8(0);
      for (int round = 0; round < 2; ++round) {
        for (int k = 0; k < length; ++k) {
          simdgroup_load(b, x + k % 4 * 64);
          for (int i = 0; i < 4; ++i) {
            simdgroup_load(a, x + (i + k) % 4 * 64);
            simdgroup_multiply_accumulate(sum[i], a, b, sum[i]);
          }
        }
        float factor = 1;
        if (lane % 2 == 0) factor = simd_sum(1.0f) > 0;  // some wait for each other, others for lane 0
        simdgroup_float8x8 results[4] = {sum[0], sum[1], sum[2], sum[3]};
        for (int i = 3; i >= 0; --i) {
          if (lane % 4 == silent || (lane + i) % 5 == 0) continue;
          for (int e = 0; e < 2 - lane % 2; ++e) {
            out[(round * 4 + i) * 64 + lane * 2 + e] = factor * results[i].thread_elements()[e];
          }
        }
      }
    }
"""


# Where lane 0 is silent nothing keeps it from going on with the next round before others have asked.
@pytest.mark.parametrize("silent", [0, 1, 4])
@pytest.mark.parametrize("length", [1, 400])
def test_thread_elements_of_some_lanes(length, silent):
    x = torch.randint(-2, 3, (4, 8, 8), generator=torch.Generator().manual_seed(1)).float()
    out = torch.zeros(2 * 4 * 64, device="mps")
    library(ASKING).f(out, x.to("mps"), length, silent, threads=32, group_size=32)
    sums = [sum(x[(i + k) % 4] @ x[k % 4] for k in range(length)) for i in range(4)]
    expected = torch.zeros(2, 4, 32, 2)
    for i in range(4):
        for lane in range(32):
            row, column = (lane // 4 & 4) + lane // 2 % 4, (lane // 4 & 2) * 2 + lane % 2 * 2
            count = 0 if lane % 4 == silent or (lane + i) % 5 == 0 else 2 - lane % 2
            own = sums[i][row, column : column + count]
            expected[:, i, lane, :count] = torch.stack([own, 2 * own])
    assert torch.equal(out.cpu(), expected.flatten())


def test_thread_elements_in_every_order(tmp_path):
    script = tmp_path / "order.py"
    script.write_text(
        "import torch\n"
        f"f = torch.mps.compile_shader({HEADER + ASKING!r}).f\n"
        "out = torch.zeros(512, device='mps')\n"
        "f(out, torch.arange(256.0, device='mps') % 5, 70, 1, threads=32, group_size=32)\n"
        "print(out.tolist())\n"
    )
    results = set()
    for order in ("forward", "reverse", "random:1", "random:2"):
        environment = {**os.environ, "MPS_SIMULATOR_ORDER": order}
        done = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True, check=True)
        results.add(done.stdout)
    assert len(results) == 1 and results.pop().count("0.0, 0.0") < 200


# --- bfloat

BFLOAT = """
kernel void widen(device float* to, const device bfloat* from, uint i [[thread_position_in_grid]]) { to[i] = from[i]; }
kernel void narrow(device bfloat* to, const device float* from, uint i [[thread_position_in_grid]]) {
  to[i] = bfloat(from[i]);
}
kernel void narrow_vectors(device bfloat4* to, const device float4* from, uint i [[thread_position_in_grid]]) {
  to[i] = bfloat4(from[i]);
}
kernel void negate(device bfloat* to, const device bfloat* from, uint i [[thread_position_in_grid]]) {
  to[i] = from[i] * bfloat(-1);
}
"""


def test_every_bfloat_is_converted_exactly():
    """Denormals too. All values, and the floats between one and the next; reckoned with integers."""
    lib = library(BFLOAT)
    high = torch.arange(1 << 16, dtype=torch.int64)
    values = high.to(torch.uint16).view(torch.bfloat16)
    numbers = ~values.isnan()

    def bits_of(kernel, threads, *arguments):
        kernel(*arguments, threads=threads)
        return arguments[0].cpu().view(torch.int16 if arguments[0].dtype == torch.bfloat16 else torch.int32).long()

    wide = bits_of(lib.widen, 1 << 16, torch.empty(1 << 16, device="mps"), values.to("mps"))
    assert torch.equal((wide & 0xFFFFFFFF)[numbers], (high << 16)[numbers])
    negative = bits_of(lib.negate, 1 << 16, torch.empty_like(values, device="mps"), values.to("mps"))
    assert torch.equal((negative & 0xFFFF)[numbers], (high ^ 0x8000)[numbers])
    for low in (0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF):
        bits = high << 16 | low
        floats = bits.to(torch.uint32).view(torch.float32)
        nearest = (bits + 0x7FFF + (high & 1)) >> 16  # to even
        for kernel, threads in ((lib.narrow, 1 << 16), (lib.narrow_vectors, 1 << 14)):
            got = bits_of(kernel, threads, torch.empty_like(values, device="mps"), floats.to("mps")) & 0xFFFF
            assert torch.equal(got[~floats.isnan()], nearest[~floats.isnan()]), low


# --- faults

FAULTS = {
    "a_thread_returns_before_the_barrier": (
        "if (i == 3) return;\n threadgroup_barrier(mem_flags::mem_none);",
        "threadgroup_barrier at program_source:6 is not reached by all threads: some have returned",
    ),
    "the_first_thread_returns_before_the_barrier": (
        "if (i == 0) return;\n threadgroup_barrier(mem_flags::mem_none);",
        "program_source:6 is not reached by all threads",
    ),
    "a_barrier_in_a_branch": (
        "if (i > 3) threadgroup_barrier(mem_flags::mem_none);",
        "program_source:5 is not reached by all threads",
    ),
    "two_barriers_in_two_branches": (
        "if (i > 3) threadgroup_barrier(mem_flags::mem_none);\n else threadgroup_barrier(mem_flags::mem_none);",
        "threads wait at different barriers",
    ),
    "different_numbers_of_barriers": (
        "for (uint k = 0; k < i; ++k) threadgroup_barrier(mem_flags::mem_none);",
        "is not reached by all threads",
    ),
    "a_simdgroup_barrier_in_a_branch": (
        "if (i > 3) simdgroup_barrier(mem_flags::mem_none);",
        "the simdgroup operation at program_source:5 is not reached by all lanes",
    ),
    "different_simdgroup_operations": (
        "int v = i;\n if (i > 3) v = simd_sum(v);\n else v = simd_max(v);\n x[i] = v;",
        "lanes of one simdgroup wait in different simdgroup operations",
    ),
    "a_matrix_in_half_a_simdgroup": (
        "threadgroup float t[64]; if (i == 0) for (int k = 0; k < 64; ++k) t[k] = 0;"
        "threadgroup_barrier(mem_flags::mem_threadgroup);\n"
        "simdgroup_float8x8 a; simdgroup_load(a, t);\n simdgroup_store(a, t);",
        "simdgroup matrix operation at program_source:6 needs 32 threads",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_faults_are_errors_and_leave_the_device_usable(name):
    body, message = FAULTS[name]
    lib = library(f"""kernel void f(device float* x, uint i [[thread_position_in_threadgroup]]) {{
{body}
}}
kernel void fill(device float* x, uint i [[thread_position_in_threadgroup]]) {{
  threadgroup_barrier(mem_flags::mem_none);
  x[i] = 1;
}}""")
    x = torch.zeros(48, device="mps")
    with pytest.raises(RuntimeError, match=message):
        lib.f(x, threads=48, group_size=48)
        torch.mps.synchronize()
    lib.fill(x, threads=48, group_size=48)
    assert x.eq(1).all().item()


# An address that no process can have reaches the signal's handler as null. The checks come before the signal.
STRAY = r"touched memory at (0x[0-9a-f]+|\(nil\)), which belongs to no buffer|at address \d+, in no buffer"
CRASHES = {
    "memory": ("x[1ul << 40] = 1;", STRAY),
    "null": ("device float* p = nullptr; *p = x[0];", STRAY),
    "division": ("x[0] = 7 / int(x[1]);", "divided by 0"),
    "remainder": ("x[0] = 7u % uint(x[1]);", "divided by 0"),
    "after_a_barrier": (
        "threadgroup_barrier(mem_flags::mem_none); if (i == 7) x[1ul << 40] = 1;"
        " threadgroup_barrier(mem_flags::mem_none);",
        STRAY,
    ),
}


@pytest.mark.parametrize("name", CRASHES)
def test_crashes_of_a_kernel_are_errors(name):
    body, message = CRASHES[name]
    lib = library(f"""kernel void f(device float* x, uint i [[thread_position_in_threadgroup]]) {{ {body} }}
kernel void fill(device float* x, uint i [[thread_position_in_threadgroup]]) {{ x[i] = 1; }}""")
    x = torch.zeros(64, device="mps")
    for _ in range(2):
        with pytest.raises(RuntimeError, match=message):
            lib.f(x, group_size=64)
            torch.mps.synchronize()
    lib.fill(x)
    assert x.eq(1).all().item()


def test_crashes_are_errors_without_the_checks():
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", f"{__file__}::test_crashes_of_a_kernel_are_errors"],
        env={**os.environ, "MPS_SIMULATOR_CHECKS": "0"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 and f"{len(CRASHES)} passed" in done.stdout, done.stdout


def test_too_much_thread_memory_is_an_error():
    lib = library("""kernel void f(device float* x, uint i [[thread_position_in_threadgroup]]) {
      float a[30000]; for (int k = 0; k < 30000; ++k) a[k] = x[k % 7] * k; x[i] = a[int(x[0])]; }""")
    with pytest.raises(RuntimeError, match="stack frame size"):
        lib.f(torch.zeros(8, device="mps"))


def test_an_unbound_buffer_is_an_error():
    lib = library("kernel void f(device float* x, device float* y [[buffer(5)]]) { x[0] = y[0]; }")
    with pytest.raises(RuntimeError, match="index 5"):
        lib.f(torch.zeros(1, device="mps"))
        torch.mps.synchronize()
