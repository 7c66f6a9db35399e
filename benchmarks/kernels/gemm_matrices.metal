// C[m][n] = sum over k of A[m][k] * B[k][n], square: tiles of 64x64, 16 deep, by 2x2 simdgroups, loaded four elements
// at a time through registers into padded rows, as MLX's Steel does.
#include <metal_simdgroup_matrix>
#include <metal_stdlib>
using namespace metal;

[[kernel, max_total_threads_per_threadgroup(128)]] void gemm(device const float* a, device const float* b,
                                                             device float* c, constant uint& size,
                                                             uint2 tile [[threadgroup_position_in_grid]],
                                                             uint t [[thread_index_in_threadgroup]],
                                                             uint simdgroup [[simdgroup_index_in_threadgroup]]) {
  constexpr uint kStrideA = 16 + 4, kStrideB = 64 + 4;
  threadgroup float tile_a[64 * kStrideA], tile_b[16 * kStrideB];
  a += (tile.y * 64 + t / 2) * size + t % 2 * 8;
  b += t / 8 * size + tile.x * 64 + t % 8 * 8;
  threadgroup float4* to_a = (threadgroup float4*)(tile_a + t / 2 * kStrideA + t % 2 * 8);
  threadgroup float4* to_b = (threadgroup float4*)(tile_b + t / 8 * kStrideB + t % 8 * 8);
  threadgroup const float* from_a = tile_a + simdgroup / 2 * 32 * kStrideA;
  threadgroup const float* from_b = tile_b + simdgroup % 2 * 32;

  simdgroup_matrix<float, 8, 8> sum[4][4];
#pragma unroll
  for (int i = 0; i < 16; ++i) sum[i / 4][i % 4] = make_filled_simdgroup_matrix<float, 8, 8>(0.0f);
  for (uint k = 0; k < size; k += 16, a += 16, b += 16 * size) {
    threadgroup_barrier(mem_flags::mem_threadgroup);
    to_a[0] = ((device const float4*)a)[0];
    to_a[1] = ((device const float4*)a)[1];
    to_b[0] = ((device const float4*)b)[0];
    to_b[1] = ((device const float4*)b)[1];
    threadgroup_barrier(mem_flags::mem_threadgroup);
#pragma unroll
    for (int kk = 0; kk < 16; kk += 8) {
      simdgroup_matrix<float, 8, 8> left[4], right[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) simdgroup_load(left[i], from_a + i * 8 * kStrideA + kk, kStrideA);
#pragma unroll
      for (int j = 0; j < 4; ++j) simdgroup_load(right[j], from_b + kk * kStrideB + j * 8, kStrideB);
#pragma unroll
      for (int i = 0; i < 4; ++i) {
#pragma unroll
        for (int j = 0; j < 4; ++j) simdgroup_multiply_accumulate(sum[i][j], left[i], right[j], sum[i][j]);
      }
    }
  }
  c += (tile.y * 64 + simdgroup / 2 * 32) * size + tile.x * 64 + simdgroup % 2 * 32;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
#pragma unroll
    for (int j = 0; j < 4; ++j) simdgroup_store(sum[i][j], c + i * 8 * size + j * 8, size);
  }
}
