// The gradients of ConvTranspose3d as matrix products, for any stride, padding, dilation and kernel.
//
// With m = (d, h, w) an input position and j = (o, kd, kh, kw) a column of the weight as it lies in memory, the input
// meets the output through it at Y[m][j], which lies at offset(m) + offset(j), or nowhere where m * stride + k *
// dilation - padding is outside of the output. With X[c][m] the input and W[c][j] the weight, all in place:
//     input grad     X[c][m] = sum over j of W[c][j] * Y[m][j]
//     weight grad    W[c][j] = sum over m of X[c][m] * Y[m][j]      (and over n: split-K, then a fixed-order sum)

#include <metal_stdlib>

#include "conv_transpose3d_params.h"
#include "places.h"
#include "tile_gemm.h"

using namespace metal;

// An input position: where it lies within a channel of X and, less what its column adds, of Y; and the taps, along each
// axis, that reach an output from there.
struct Position {
  int x, y;
  uint reaching;
};

inline Position position_at(constant ConvTranspose3dParams& p, Place at) {
  const Place start = {0, at.d * p.depth.stride - p.depth.padding, at.h * p.height.stride - p.height.padding,
                       at.w * p.width.stride - p.width.padding};
  return {offset_of(p.input, at), offset_of(p.output, start),
          joined(bits_within(start.d, p.depth.dilation, p.depth.taps, p.depth.output),
                 bits_within(start.h, p.height.dilation, p.height.taps, p.height.output),
                 bits_within(start.w, p.width.dilation, p.width.taps, p.width.output), p.depth.taps, p.height.taps)};
}

// A column: where it lies in Y, less its row; and its tap, if it is a column of this group.
struct Column {
  int y;
  uint tap;
};

inline Column column_at(constant ConvTranspose3dParams& p, Place at) {
  const Place dilated = {0, at.d * p.depth.dilation, at.h * p.height.dilation, at.w * p.width.dilation};
  return {at.outer * int(p.output.channel) + offset_of(p.output, dilated),
          at.outer < p.out_channels ? bits_of(at.d, at.h, at.w, p.depth.taps, p.height.taps) : kNoBits};
}

inline int positions(constant ConvTranspose3dParams& p) { return product(inputs_of(p)); }
inline int columns(constant ConvTranspose3dParams& p) { return p.out_channels * taps_per_filter(p); }

// A bit for each 8 of a tile's columns that are fewer than `count` on.
inline uint fragments_below(int count) { return count >= 256 ? ~0u : (1u << ((count + 7) / 8)) - 1; }

// threadgroups: x = tile of c (neighbours share the gradient of the output), y = tile of m, z = (n, group)
template <typename T, int kM, int kN>
[[kernel]] void conv_transpose3d_input_grad_gemm(
    device T* grad_input [[buffer(kInputBuffer)]], device const T* weight [[buffer(kWeightBuffer)]],
    device const T* grad_output [[buffer(kOutputBuffer)]], constant ConvTranspose3dParams& p [[buffer(kParamsBuffer)]],
    constant uint& first [[buffer(kFirstBuffer)]], uint3 tile [[threadgroup_position_in_grid]],
    uint thread_index [[thread_index_in_threadgroup]], uint simdgroup [[simdgroup_index_in_threadgroup]],
    uint lane [[thread_index_in_simdgroup]]) {
  using TileA = StagedTile<T, kM, true>;
  using TileB = StagedTile<T, kN, false>;
  using Gemm = TileGemm<TileA, TileB, kM, kN, 2, 2, 128>;
  constexpr int kK = kGemmDepth, kRowStep = kGemmThreads / kK, kSimdgroups = kGemmThreads / 32;
  threadgroup typename Gemm::Staged a[TileA::kSize];
  threadgroup typename Gemm::Staged b[TileB::kSize];
  threadgroup Column column[2][kK];  // of this step and the next
  threadgroup int x_offset[kN];

  const int c0 = int(tile.x) * kM, m0 = int(tile.y) * kN;
  const int n = int(tile.z + first) / p.groups, group = int(tile.z + first) % p.groups;
  const int m_end = positions(p), j_end = columns(p);
  const uint fragments = fragments_below(m_end - m0);

  // What this thread stages of B: its positions lane, lane + 32 ...
  int y_offset[kN / 32];
  uint reaching[kN / 32];
#pragma unroll
  for (int e = 0; e < kN / 32; ++e) {
    const Position m = position_at(p, place_of(min(m0 + int(lane) + e * 32, m_end - 1), inputs_of(p)));
    y_offset[e] = m.y;
    reaching[e] = m.reaching;
    if (simdgroup == 0) {
      x_offset[lane + e * 32] = m.x;
    }
  }
  // And of A: one j of every step, in rows kRowStep apart. Rows beyond the last are the last again, and not written.
  const int own_k = int(thread_index) % kK, own_row = c0 + int(thread_index) / kK;
  device const T* w = weight + group * p.in_channels * j_end;
  device const T* y = grad_output + offset(p.output, n, group * p.out_channels);

  const Extent taps = taps_of(p);
  const Place step_of_j = place_of(kK, taps);
  Place j = place_of(own_k, taps);
  if (int(thread_index) < kK) {
    column[0][own_k] = column_at(p, j);
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);

  Gemm gemm(simdgroup, lane);
  for (int j0 = 0, step = 0; j0 < j_end; j0 += kK, step ^= 1) {
#pragma unroll
    for (int i = 0; i < kM / kRowStep; ++i) {
      const int row = min(own_row + i * kRowStep, p.in_channels - 1);
      a[TileA::index(own_k, int(thread_index) / kK + i * kRowStep)] =
          j0 + own_k < j_end ? w[row * j_end + j0 + own_k] : T(0);
    }
#pragma unroll
    for (int i = 0; i < kK / kSimdgroups; ++i) {
      const int k = int(simdgroup) + i * kSimdgroups;
      const Column from = column[step][k];
#pragma unroll
      for (int e = 0; e < kN / 32; ++e) {
        b[TileB::index(k, int(lane) + e * 32)] = contains(reaching[e], from.tap) ? y[y_offset[e] + from.y] : T(0);
      }
    }
    if (int(thread_index) < kK) {
      j = sum_of(j, step_of_j, taps);
      column[step ^ 1][own_k] = column_at(p, j);
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    gemm.multiply(a, b, fragments, simdgroup);
    threadgroup_barrier(mem_flags::mem_threadgroup);
  }

  device T* x = grad_input + offset(p.input, n, group * p.in_channels);
#pragma unroll
  for (int i = 0; i < Gemm::kFragmentsM; ++i) {
    const int c = c0 + gemm.row + i * 8;
#pragma unroll
    for (int f = 0; f < Gemm::kFragmentsN; ++f) {
      const float2 value = gemm.value(i, f);
      for (int e = 0; e < 2; ++e) {
        const int m = gemm.column + f * 8 + e;
        if (c < p.in_channels && m0 + m < m_end) {
          x[c * int(p.input.channel) + x_offset[m]] = T(value[e]);
        }
      }
    }
  }
}

// Leaves float32 partial sums [split][group][c][j].
// threadgroups: x = tile of j, y = tile of c, z = (split, group)
template <typename T, int kM, int kN>
[[kernel]] void conv_transpose3d_weight_grad_gemm(
    device const T* input [[buffer(kInputBuffer)]], device float* partial_sums [[buffer(kPartialSumsBuffer)]],
    device const T* grad_output [[buffer(kOutputBuffer)]], constant ConvTranspose3dParams& p [[buffer(kParamsBuffer)]],
    constant uint& first [[buffer(kFirstBuffer)]], constant SplitK& split_k [[buffer(kSplitBuffer)]],
    uint3 tile [[threadgroup_position_in_grid]], uint thread_index [[thread_index_in_threadgroup]],
    uint simdgroup [[simdgroup_index_in_threadgroup]], uint lane [[thread_index_in_simdgroup]]) {
  using TileA = StagedTile<T, kM, true>;
  using TileB = StagedTile<T, kN, true>;
  using Gemm = TileGemm<TileA, TileB, kM, kN, 2, 2, 128>;
  constexpr int kK = kGemmDepth, kRowStep = kGemmThreads / kK;
  threadgroup typename Gemm::Staged a[TileA::kSize];
  threadgroup typename Gemm::Staged b[TileB::kSize];
  threadgroup Position position[2][kK];  // of this step and the next
  threadgroup Column column[kN];

  const int j0 = int(tile.x) * kN, c0 = int(tile.y) * kM;
  const int split = int(tile.z + first) / p.groups, group = int(tile.z + first) % p.groups;
  const int first_sample = split / split_k.chunks * split_k.samples;
  const int last_sample = min(p.batch, first_sample + split_k.samples);
  const int begin = split % split_k.chunks * split_k.length;
  const int m_end = min(positions(p), begin + split_k.length), j_end = columns(p);
  const uint fragments = fragments_below(j_end - j0);

  // Rows and columns beyond the last are the last again, and not written.
  for (int i = int(thread_index); i < kN; i += kGemmThreads) {
    column[i] = column_at(p, place_of(min(j0 + i, j_end - 1), taps_of(p)));
  }
  // This thread stages one m of every step, in rows and columns kRowStep apart.
  const int own_k = int(thread_index) % kK, own_row = int(thread_index) / kK;
  const int x_channel = int(p.input.channel);
  const Place step_of_m = place_of(kK, inputs_of(p));

  Gemm gemm(simdgroup, lane);
  for (int n = first_sample; n < last_sample; ++n) {
    device const T* x = input + offset(p.input, n, group * p.in_channels);
    device const T* y = grad_output + offset(p.output, n, group * p.out_channels);
    Place m = place_of(begin + own_k, inputs_of(p));
    if (int(thread_index) < kK) {
      position[0][own_k] = position_at(p, m);
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    for (int m0 = begin, step = 0; m0 < m_end; m0 += kK, step ^= 1) {
      const Position from = position[step][own_k];
      const bool within = m0 + own_k < m_end;
#pragma unroll
      for (int e = 0; e < kM / kRowStep; ++e) {
        const int i = own_row + e * kRowStep;
        a[TileA::index(own_k, i)] = within ? x[min(c0 + i, p.in_channels - 1) * x_channel + from.x] : T(0);
      }
#pragma unroll
      for (int e = 0; e < kN / kRowStep; ++e) {
        const int i = own_row + e * kRowStep;
        const bool reached = within && contains(from.reaching, column[i].tap);
        b[TileB::index(own_k, i)] = reached ? y[from.y + column[i].y] : T(0);
      }
      if (int(thread_index) < kK) {
        m = sum_of(m, step_of_m, inputs_of(p));
        position[step ^ 1][own_k] = position_at(p, m);
      }
      threadgroup_barrier(mem_flags::mem_threadgroup);
      gemm.multiply(a, b, fragments, simdgroup);
      threadgroup_barrier(mem_flags::mem_threadgroup);
    }
  }

  device float* sums = partial_sums + (split * p.groups + group) * p.in_channels * j_end;
#pragma unroll
  for (int i = 0; i < Gemm::kFragmentsM; ++i) {
    const int c = c0 + gemm.row + i * 8;
#pragma unroll
    for (int f = 0; f < Gemm::kFragmentsN; ++f) {
      const float2 value = gemm.value(i, f);
      for (int e = 0; e < 2; ++e) {
        const int j = j0 + gemm.column + f * 8 + e;
        if (c < p.in_channels && j < j_end) {
          sums[c * j_end + j] = value[e];
        }
      }
    }
  }
}

// The partial sums of every split, added in one order. grid: x = (group, c, j)
template <typename T>
[[kernel]] void conv_transpose3d_weight_grad_sum_splits(device const float* partial_sums [[buffer(kPartialSumsBuffer)]],
                                                        device T* grad_weight [[buffer(kWeightBuffer)]],
                                                        constant SplitK& split_k [[buffer(kSplitBuffer)]],
                                                        uint element [[thread_position_in_grid]],
                                                        uint elements [[threads_per_grid]]) {
  float sum = 0;
  for (int split = 0; split < split_k.splits; ++split) {
    sum += partial_sums[split * elements + element];
  }
  grad_weight[element] = T(sum);
}

#define INSTANTIATE_GEMM(kernel_name, m, n, type) \
  template [[host_name(#kernel_name "_" #m "x" #n \
                                    "_" #type)]] [[kernel]] decltype(kernel_name<type, m, n>) kernel_name<type, m, n>;
#define INSTANTIATE_GEMMS(m, n, type)                            \
  INSTANTIATE_GEMM(conv_transpose3d_input_grad_gemm, m, n, type) \
  INSTANTIATE_GEMM(conv_transpose3d_weight_grad_gemm, m, n, type)
#define INSTANTIATE_ALL_GEMMS(type) \
  INSTANTIATE_GEMMS(64, 64, type)   \
  INSTANTIATE_GEMMS(48, 64, type)   \
  INSTANTIATE_GEMMS(32, 64, type)   \
  INSTANTIATE_GEMMS(16, 64, type)   \
  INSTANTIATE(conv_transpose3d_weight_grad_sum_splits, type)

INSTANTIATE_ALL_GEMMS(ELEMENT)
