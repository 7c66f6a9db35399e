"""mps_simulator.record(counters=True), on kernels small enough to count by hand."""

from __future__ import annotations

import pytest
import torch

import mps_simulator

SOURCE = """
#include <metal_stdlib>
using namespace metal;

kernel void scale(device const float* x, device float* y, constant float& by, uint i [[thread_position_in_grid]]) {
  y[i] = x[i] * by;
}
kernel void dots(device const float* a, device const float* b, device float* y, constant int& n,
                uint i [[thread_position_in_grid]]) {
  float sum = 0;
  for (int k = 0; k < n; ++k) sum += a[i * n + k] * b[k];
  y[i] = sum;
}
kernel void operations(device const float* x, device float* y, device const int* n, device const long* big,
                       uint i [[thread_position_in_grid]]) {
  const float a = x[i];
  const int b = n[i];
  const float product = a * 3;     // used twice: not contracted
  y[i] = (product + 1) / product;  // float 2, float_divide 1
  y[i + 32] = exp(a);
  y[i + 64] = b * n[i + 32];       // multiply 1, convert 1
  y[i + 96] = b / n[i + 32];       // divide 1, convert 1
  y[i + 128] = big[i] * big[i + 32] > 7 ? 1.0f : 2.0f;  // multiply64 1, integer64 1
}
kernel void branch(device float* x, uint lane [[thread_index_in_simdgroup]], uint i [[thread_position_in_grid]]) {
  float v = x[i];
  if (lane < 3) {
    for (uint k = 0; k < 5; ++k) { v = fma(v, v, x[k]); }
  }
  x[i + 64] = v;
}
kernel void reverse(device const float* x, device float* y, uint t [[thread_index_in_threadgroup]],
                    uint g [[threadgroup_position_in_grid]], uint threads [[threads_per_threadgroup]]) {
  threadgroup float tile[64];
  tile[t] = x[g * threads + t];
  threadgroup_barrier(mem_flags::mem_threadgroup);
  y[g * threads + t] = tile[threads - 1 - t] + tile[0];
}
kernel void vectors(device const float4* x, device half2* y, uint i [[thread_position_in_grid]]) {
  y[i] = half2(x[i].xy);
}
kernel void packed(device const half* x, device half* y, uint i [[thread_position_in_grid]]) {
  *reinterpret_cast<device packed_half4*>(y + i * 4) =
      packed_half4(half4(*reinterpret_cast<device const packed_half4*>(x + 1 + i * 4)) * 2.0h);
}
kernel void components(device const float* x, device float* y, uint i [[thread_position_in_grid]]) {
  y[i] = x[2 * i] + x[2 * i + 1];
}
kernel void high_word(device const uint* x, device uint* y, uint i [[thread_position_in_grid]]) {
  y[i] = mulhi(x[i], x[i + 32]);
}
kernel void matrices(device const float* x, device float* y, uint simdgroup [[simdgroup_index_in_threadgroup]],
                     uint t [[thread_index_in_threadgroup]]) {
  threadgroup half h[64];
  h[t] = t;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  simdgroup_matrix<float, 8, 8> a, sum[2];
  simdgroup_load(a, x + 64 * simdgroup, 8);
  for (int i = 0; i < 2; ++i) {
    sum[i] = make_filled_simdgroup_matrix<float, 8, 8>(0.0f);
    simdgroup_multiply_accumulate(sum[i], a, a, sum[i]);
  }
  {
    simdgroup_matrix<half, 8, 8> b;
    simdgroup_load(b, h, 8);
    simdgroup_multiply_accumulate(sum[0], b, b, sum[0]);
  }
  sum[0].thread_elements()[0] += sum[1].thread_elements()[0];
  simdgroup_store(sum[0], y + 64 * simdgroup, 8);
}
kernel void totals(device const float* x, device float2* y, uint i [[thread_position_in_grid]]) {
  simdgroup_matrix<float, 8, 8> sum;
  simdgroup_load(sum, x, 8);
  float2 total = y[i];
  total += float2(sum.thread_elements()[0], sum.thread_elements()[1]);
  y[i] = total;
}
struct Two {
  int first, second;
};
METAL_FUNC Two two(int first, int second) { return {first, second}; }
kernel void structs(device const int* x, device Two* y, uint i [[thread_position_in_grid]]) {
  y[i] = two(x[i] + 1, x[i + 32] > 3 ? x[i] : 5);
}
kernel void sums(device const float* x, device float* y, uint i [[thread_position_in_grid]]) {
  const float total = simd_sum(x[i]);
  if (simd_is_first()) y[i / 32] = total;
}
kernel void twice(device const float* x, device float* y, constant uint& n, uint i [[thread_position_in_grid]]) {
  float s = 0;
  for (uint k = 0; k < 2; ++k) {
    for (uint j = 0; j < n; ++j) s += x[(i % 32) + 32 * j];
  }
  y[i] = s;
}
kernel void stride(device float* y, constant uint& step, uint i [[thread_position_in_grid]]) { y[i * step] = 1; }
kernel void halves(device float* y, uint g [[threadgroup_position_in_grid]],
                   uint t [[thread_index_in_threadgroup]]) {
  y[g / 2 * 16 + g % 2 * 32 + t] = 1;
}
// Each threadgroup multiplies a row of 8x8 blocks of x by those of w; the threads at the edge of the grid do more.
kernel void blocks(device const float* x, device const float* w, device float* y, constant uint& depth,
                   uint2 g [[threadgroup_position_in_grid]], uint2 n [[threadgroups_per_grid]],
                   uint lane [[thread_index_in_simdgroup]]) {
  simdgroup_matrix<float, 8, 8> a, b, sum = make_filled_simdgroup_matrix<float, 8, 8>(0.0f);
  for (uint k = 0; k < depth; ++k) {
    simdgroup_load(a, x + 64 * (g.y * depth + k), 8);
    simdgroup_load(b, w + 64 * (g.x * depth + k), 8);
    simdgroup_multiply_accumulate(sum, a, b, sum);
  }
  if (g.x + 1 == n.x && lane == 0) y[0] = fma(x[0], x[1], x[2]);
  simdgroup_store(sum, y + 64 * (g.y * n.x + g.x), 8);
}
"""
LARGE = 1 << 30  # bytes: a cache that holds everything


@pytest.fixture(scope="module")
def library():
    return torch.mps.compile_shader(SOURCE)


def count(run, **options) -> mps_simulator.Counters:
    with mps_simulator.record(counters=True, **options) as dispatches:
        run()
    assert len(dispatches) == 1
    return dispatches[0].counters


def some(n: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return (torch.arange(n) % 7 + 1).to(dtype).to("mps")


def test_nothing_is_counted_unless_asked_for(library):
    with mps_simulator.record() as dispatches:
        library.scale(some(32), some(32), 2.0)
    assert dispatches[0].counters is None


def test_results_are_those_of_a_run_without_counters(library):
    x, b = torch.randn(64 * 32).to("mps"), torch.randn(32).to("mps")
    expected, y = torch.zeros(64, device="mps"), torch.zeros(64, device="mps")
    library.dots(x, b, expected, 32, threads=64)
    count(lambda: library.dots(x, b, y, 32, threads=64))
    assert torch.equal(expected, y)


def test_bytes_lines_and_traffic_of_a_stream(library):
    c = count(lambda: library.scale(some(1024), some(1024), 2.0, group_size=64))
    assert c.executed["float"] == c.issued["float"] == 1024 and c.fma == 0
    assert c.device_bytes == 2 * 4 * 1024
    assert c.executed["access"] == c.issued["access"] == 2 * 1024
    assert c.constant_bytes == 4 * 32  # once in each simdgroup
    assert (c.threadgroups, c.counted, c.threads_per_threadgroup) == (16, 16, 64)
    assert c.lines == 16 * 4  # a line is 32 floats; 2 of x and 2 of y
    assert c.threadgroup_bytes == c.barriers == c.threadgroup_memory == 0
    assert c.traffic(LARGE, 4) == (4096, 4096)


def test_one_address_in_a_simdgroup_counts_once(library):
    c = count(lambda: library.dots(some(64 * 32), some(32), some(64), 32, threads=64, group_size=32))
    assert c.fma == c.executed["fma"] == 64 * 32
    # In each of 2 simdgroups: 32 times 32 floats of a and 1 of b, then 32 of y.
    assert c.device_bytes == 2 * (32 * (32 + 1) + 32) * 4
    assert c.lines == 2 * (32 + 1 + 1)


def test_classes_of_operations(library):
    big = some(64, torch.int64)
    c = count(lambda: library.operations(some(32), some(160), some(64, torch.int32), big, threads=32, group_size=32))
    expected = {"float": 2, "float_divide": 1, "float_special": 1, "multiply": 1, "divide": 1, "convert": 2}
    expected.update({"multiply64": 1, "integer64": 1, "fma": 0, "divide64": 0, "matrix_fma": 0, "shift": 0})
    assert {name: c.executed[name] / 32 for name in expected} == expected


def test_lanes_that_are_off_are_paid_for(library):
    c = count(lambda: library.branch(some(128), threads=64, group_size=64))
    assert c.executed["fma"] == 2 * 3 * 5  # 3 lanes in 2 simdgroups
    assert c.issued["fma"] == 2 * 32 * 5
    assert c.executed["access"] == 2 * (32 + 3 * 5 + 32) and c.issued["access"] == 2 * 32 * (1 + 5 + 1)
    assert c.device_bytes == 4 * (64 + 2 * 5 + 64)


def test_threadgroup_memory_and_barriers(library):
    c = count(lambda: library.reverse(some(128), some(128), threads=128, group_size=64))
    assert c.barriers == 2 and c.threadgroup_memory == 256
    # Each of 4 simdgroups writes 32 floats, reads 32, and one that all lanes read.
    assert c.threadgroup_bytes == 4 * 4 * (32 + 32 + 1)
    assert c.device_bytes == 2 * 4 * 128 and c.lines == 2 * 4


def test_a_vector_is_one_access_and_its_components_are_as_many(library):
    packed = count(lambda: library.packed(some(160, torch.float16), some(128, torch.float16), threads=32))
    assert packed.executed["access"] == 2 * 32
    assert packed.executed["float"] == 4 * 32
    assert packed.device_bytes == 2 * 8 * 32
    components = count(lambda: library.components(some(64), some(32), threads=32))
    assert components.executed["access"] == 3 * 32


def test_the_upper_half_of_a_product_is_two_multiplications(library):
    c = count(lambda: library.high_word(some(64, torch.int32), some(32, torch.int32), threads=32))
    assert c.executed["multiply"] == 2 * 32
    assert c.executed["multiply64"] == c.executed["shift"] == 0


def test_vector_accesses_have_their_size(library):
    c = count(lambda: library.vectors(some(128), some(64, torch.float16), threads=32))
    assert c.device_bytes in (32 * (16 + 4), 32 * (8 + 4))  # the compiler may leave out what is not used
    assert c.lines == 4 + 1


def test_matrices(library):
    c = count(lambda: library.matrices(some(128), some(128), threads=64, group_size=64))
    assert c.executed["matrix_fma"] == c.issued["matrix_fma"] == 2 * 3 * 512
    assert c.executed["fma"] == 0
    assert c.executed["access"] == 64 + 2 * 32 * 3  # h[t] = t; two loads and a store by whole simdgroups
    assert c.device_bytes == 2 * (256 + 256)
    assert c.threadgroup_bytes == 64 * 2 + 2 * 64 * 2
    # Two elements in a lane of a, of both sums, and of the matrix of zeros that goes into one of them.
    assert c.matrix_bytes == 4 * 8


def test_a_sum_of_vectors_is_counted_by_component(library):
    c = count(lambda: library.totals(some(64), some(64).view(-1, 2), threads=32))
    assert c.executed["float"] == c.issued["float"] == 2 * 32


def test_members_of_a_struct_are_put_together_for_nothing(library):
    c = count(lambda: library.structs(some(64, torch.int32), some(64, torch.int32), threads=32))
    assert c.executed["access"] == 3 * 32
    assert c.executed["shift"] == c.executed["integer64"] == 0


def test_reduction_of_a_simdgroup_is_an_operation(library):
    c = count(lambda: library.sums(some(64), some(2), threads=64))
    assert c.executed["simdgroup"] == 64
    assert c.device_bytes == 4 * (64 + 2)


def test_a_cache_too_small_for_what_comes_again(library):
    # 16 KiB of x, read twice by one simdgroup.
    run = lambda: library.twice(some(32 * 128), some(32), 128, threads=32, group_size=32)  # noqa: E731
    c = count(run)
    assert c.traffic(LARGE, 1) == (16384, 128)
    assert c.traffic(16384 + 128, 1) == (16384, 128)
    assert c.traffic(8192, 1) == (2 * 16384, 128)


def test_threadgroups_in_flight_share_what_they_read_together(library):
    # Two threadgroups read the same 16 KiB twice: one after the other, or in step.
    c = count(lambda: library.twice(some(32 * 128), some(64), 128, threads=64, group_size=32))
    assert c.traffic(8192, 1)[0] == 4 * 16384
    assert c.traffic(8192, 2)[0] == 2 * 16384
    assert c.traffic(LARGE, 1)[0] == 16384


def test_lines_written_in_part_are_read_too(library):
    y = torch.zeros(32 * 64, device="mps")
    assert count(lambda: library.stride(y, 1, threads=2048)).traffic(LARGE, 1) == (0, 8192)
    assert count(lambda: library.stride(y, 2, threads=1024)).traffic(LARGE, 1) == (8192, 8192)
    # Two threadgroups write the halves of a line, one after the other; then two others come between them.
    assert count(lambda: library.stride(y, 1, threads=64, group_size=16)).traffic(128, 1) == (0, 256)
    c = count(lambda: library.halves(y, threads=64, group_size=16))
    assert c.traffic(LARGE, 1) == (0, 256)
    assert c.traffic(128, 1) == (512, 512)


def test_sampled_like_all(library):
    depth, rows, columns = 16, 40, 24
    x, w = some(64 * depth * rows), some(64 * depth * columns)
    y = torch.zeros(64 * rows * columns, device="mps")

    def run():
        library.blocks(x, w, y, depth, threads=(32 * columns, rows), group_size=(32, 1))

    everything = count(run)
    assert everything.executed["matrix_fma"] == rows * columns * depth * 512 and everything.executed["fma"] == rows
    part = count(run, accesses=300_000)
    fewest = count(run, accesses=1)  # the first 16, and one of each class that is not among them
    assert everything.counted == rows * columns and part.counted < everything.counted / 2 and fewest.counted == 16 + 7
    for counted in (part, fewest):
        assert counted.executed == everything.executed and counted.issued == everything.issued
        for name in ("device_bytes", "threadgroup_bytes", "barriers", "threadgroups", "matrix_bytes"):
            assert getattr(counted, name) == getattr(everything, name), name
    assert part.lines == pytest.approx(everything.lines, rel=0.01)
    for cache in (16 << 10, 64 << 10, 1 << 20):
        assert part.traffic(cache, 8) == pytest.approx(everything.traffic(cache, 8), rel=0.05)
    # Less than a row of the grid: w is not seen to be read again, but there is no more to read than there is.
    little = count(run, accesses=20_000)
    assert little.counted < 2 * columns
    assert little.traffic(64 << 10, 8)[0] > 8 * 4 * (x.numel() + w.numel())
    assert little.traffic(1 << 20, 8)[0] <= 4 * (x.numel() + w.numel() + y.numel())


def test_what_cannot_be_asked(library):
    for options in ({"accesses": 10}, {"counters": True, "accesses": 0}):
        with pytest.raises(ValueError, match="accesses"), mps_simulator.record(**options):
            pass
