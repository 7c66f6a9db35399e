// C[m][n] = sum over k of A[m][k] * B[k][n], square: one thread computes one element.
#include <metal_stdlib>
using namespace metal;

[[kernel, max_total_threads_per_threadgroup(256)]] void gemm(device const float* a, device const float* b,
                                                             device float* c, constant uint& size,
                                                             uint2 at [[thread_position_in_grid]]) {
  float sum = 0;
  for (uint k = 0; k < size; ++k) sum += a[at.y * size + k] * b[k * size + at.x];
  c[at.y * size + at.x] = sum;
}
