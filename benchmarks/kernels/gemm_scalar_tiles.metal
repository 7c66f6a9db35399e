// C[m][n] = sum over k of A[m][k] * B[k][n], square: 16x16 threads share tiles of 16x16, one element of C for each.
#include <metal_stdlib>
using namespace metal;

[[kernel, max_total_threads_per_threadgroup(256)]] void gemm(device const float* a, device const float* b,
                                                             device float* c, constant uint& size,
                                                             uint2 at [[thread_position_in_grid]],
                                                             uint2 t [[thread_position_in_threadgroup]]) {
  threadgroup float tile_a[16][16], tile_b[16][16];
  float sum = 0;
  for (uint k = 0; k < size; k += 16) {
    tile_a[t.y][t.x] = a[at.y * size + k + t.x];
    tile_b[t.y][t.x] = b[(k + t.y) * size + at.x];
    threadgroup_barrier(mem_flags::mem_threadgroup);
    for (uint i = 0; i < 16; ++i) sum += tile_a[t.y][i] * tile_b[i][t.x];
    threadgroup_barrier(mem_flags::mem_threadgroup);
  }
  c[at.y * size + at.x] = sum;
}
