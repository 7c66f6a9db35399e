// The convolution of conv_gather.metal with channels last, x [D, H, W, C], w [O, 3, 3, 3, C], y [D, H, W, O]: the depth
// goes through (tap, channel), so that a thread finds its place once for each tap and loads four channels at a time, as
// MLX's implicit GEMM does.
#include <metal_simdgroup_matrix>
#include <metal_stdlib>
using namespace metal;

struct Conv {
  int size, channels, out_channels, taps, padding;  // size: of D, H and W
};

[[kernel, max_total_threads_per_threadgroup(128)]] void conv(device const float* x, device const float* w,
                                                             device float* y, constant Conv& p,
                                                             uint2 tile [[threadgroup_position_in_grid]],
                                                             uint t [[thread_index_in_threadgroup]],
                                                             uint simdgroup [[simdgroup_index_in_threadgroup]]) {
  constexpr int kStride = 16 + 4;
  threadgroup float tile_x[64 * kStride], tile_w[64 * kStride];
  const int taps = p.taps * p.taps * p.taps, m = int(tile.y) * 64 + int(t) / 2, column = int(t) % 2 * 8;
  const int m_d = m / (p.size * p.size), m_h = m / p.size % p.size, m_w = m % p.size;
  device const float* row_w = w + (int(tile.x) * 64 + int(t) / 2) * taps * p.channels + column;
  threadgroup float4* to_x = (threadgroup float4*)(tile_x + t / 2 * kStride + t % 2 * 8);
  threadgroup float4* to_w = (threadgroup float4*)(tile_w + t / 2 * kStride + t % 2 * 8);
  threadgroup const float* from_x = tile_x + simdgroup / 2 * 32 * kStride;
  threadgroup const float* from_w = tile_w + simdgroup % 2 * 32 * kStride;

  simdgroup_matrix<float, 8, 8> sum[4][4];
#pragma unroll
  for (int i = 0; i < 16; ++i) sum[i / 4][i % 4] = make_filled_simdgroup_matrix<float, 8, 8>(0.0f);
  for (int tap = 0; tap < taps; ++tap) {
    const int d = m_d + tap / (p.taps * p.taps) - p.padding, h = m_h + tap / p.taps % p.taps - p.padding;
    const int v = m_w + tap % p.taps - p.padding;
    const bool inside = d >= 0 && d < p.size && h >= 0 && h < p.size && v >= 0 && v < p.size;
    device const float* row_x = x + ((d * p.size + h) * p.size + v) * p.channels + column;
    for (int k = 0; k < p.channels; k += 16) {
      threadgroup_barrier(mem_flags::mem_threadgroup);
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        to_x[i] = inside ? ((device const float4*)(row_x + k))[i] : float4(0);
        to_w[i] = ((device const float4*)(row_w + k))[i];
      }
      threadgroup_barrier(mem_flags::mem_threadgroup);
#pragma unroll
      for (int kk = 0; kk < 16; kk += 8) {
        simdgroup_matrix<float, 8, 8> left[4], right[4];
#pragma unroll
        for (int i = 0; i < 4; ++i) simdgroup_load(left[i], from_x + i * 8 * kStride + kk, kStride);
#pragma unroll
        for (int j = 0; j < 4; ++j) simdgroup_load(right[j], from_w + j * 8 * kStride + kk, kStride, ulong2(0), true);
#pragma unroll
        for (int i = 0; i < 4; ++i) {
#pragma unroll
          for (int j = 0; j < 4; ++j) simdgroup_multiply_accumulate(sum[i][j], left[i], right[j], sum[i][j]);
        }
      }
    }
    row_w += p.channels;
  }
  y += (tile.y * 64 + simdgroup / 2 * 32) * p.out_channels + tile.x * 64 + simdgroup % 2 * 32;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
#pragma unroll
    for (int j = 0; j < 4; ++j) simdgroup_store(sum[i][j], y + i * 8 * p.out_channels + j * 8, p.out_channels);
  }
}
