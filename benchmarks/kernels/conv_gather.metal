// A convolution, 3x3x3 with padding 1, as a matrix product of tiles of 64x64, 16 deep: rows are output positions,
// columns output channels, the depth goes through (channel, tap). x is [C, D, H, W], w is [O, C, 3, 3, 3], both
// gathered element by element with the taps' sizes known only when it runs, as PyTorch's conv3d_simd does.
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
  constexpr int kStride = 64 + 8;
  threadgroup float tile_x[16 * kStride], tile_w[16 * kStride];
  const int positions = p.size * p.size * p.size, taps = p.taps * p.taps * p.taps, depth = p.channels * taps;
  threadgroup const float* from_x = tile_x + simdgroup / 2 * 32;
  threadgroup const float* from_w = tile_w + simdgroup % 2 * 32;

  simdgroup_matrix<float, 8, 8> sum[4][4];
#pragma unroll
  for (int i = 0; i < 16; ++i) sum[i / 4][i % 4] = make_filled_simdgroup_matrix<float, 8, 8>(0.0f);
  for (int k0 = 0; k0 < depth; k0 += 16) {
    threadgroup_barrier(mem_flags::mem_threadgroup);
    for (int e = int(t); e < 64 * 16; e += 128) {
      const int k = k0 + e / 64, m = int(tile.y) * 64 + e % 64;
      const int channel = k / taps, tap = k % taps;
      const int d = m / (p.size * p.size) + tap / (p.taps * p.taps) - p.padding;
      const int h = m / p.size % p.size + tap / p.taps % p.taps - p.padding;
      const int v = m % p.size + tap % p.taps - p.padding;
      const bool inside =
          k < depth && m < positions && d >= 0 && d < p.size && h >= 0 && h < p.size && v >= 0 && v < p.size;
      tile_x[e / 64 * kStride + e % 64] = inside ? x[channel * positions + (d * p.size + h) * p.size + v] : 0;
    }
    for (int e = int(t); e < 64 * 16; e += 128) {
      const int k = k0 + e % 16, o = int(tile.x) * 64 + e / 16;
      tile_w[e % 16 * kStride + e / 16] = k < depth && o < p.out_channels ? w[o * depth + k] : 0;
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
#pragma unroll
    for (int kk = 0; kk < 16; kk += 8) {
      simdgroup_matrix<float, 8, 8> left[4], right[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) simdgroup_load(left[i], from_w + kk * kStride + i * 8, kStride, ulong2(0), true);
#pragma unroll
      for (int j = 0; j < 4; ++j) simdgroup_load(right[j], from_x + kk * kStride + j * 8, kStride);
#pragma unroll
      for (int i = 0; i < 4; ++i) {
#pragma unroll
        for (int j = 0; j < 4; ++j) simdgroup_multiply_accumulate(sum[i][j], left[i], right[j], sum[i][j]);
      }
    }
  }
  y += (tile.x * 64 + simdgroup % 2 * 32) * positions + tile.y * 64 + simdgroup / 2 * 32;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
#pragma unroll
    for (int j = 0; j < 4; ++j) simdgroup_store(sum[i][j], y + i * 8 * positions + j * 8, positions);
  }
}
