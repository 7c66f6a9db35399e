// The gradients of ConvTranspose3d as matrix products, for any stride, padding, dilation and kernel.
//
// With m = (d, h, w) an input position and j = (o, kd, kh, kw) a column of the weight as it lies in memory, the input
// meets the output through it at Y[m][j], which lies at offset(m) + offset(j), or nowhere where m * stride + k *
// dilation - padding is outside of the output. With X[c][m] the input and W[c][j] the weight, all in place:
//     input grad     X[c][m] = sum over j of W[c][j] * Y[m][j]
//     weight grad    W[c][j] = sum over m of X[c][m] * Y[m][j]      (and over n: split-K, then a fixed-order sum)
// Where the kernel tiles the output, each of its elements is one Y[m][j], and the weight gradient sums them for the
// bias.

#include <metal_stdlib>

#include "conv_transpose3d_params.h"
#include "places.h"
#include "sums.h"
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
  // And of A: one j of every step, in rows kRowStep apart.
  const int own_k = int(thread_index % kK), own_row = int(thread_index / kK);
  const int row_count = (p.in_channels - c0 - own_row + kRowStep - 1) / kRowStep;
  const uint every_tap = (1u << (p.depth.taps + p.height.taps + p.width.taps)) - 1;
  device const T* w = weight + (group * p.in_channels + c0 + own_row) * j_end + own_k;
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
    stage_line<kM / kRowStep, kRowStep * TileA::kStride>(a + TileA::index(own_k, own_row), w + j0, kRowStep * j_end,
                                                         j0 + own_k < j_end ? row_count : 0);
#pragma unroll
    for (int e = 0; e < kN / 32; ++e) {
      const bool all_reach = reaching[e] == every_tap && j0 + kK <= j_end;
#pragma unroll
      for (int i = 0; i < kK / kSimdgroups; ++i) {
        const int k = int(simdgroup) + i * kSimdgroups;
        const bool reached = all_reach || contains(reaching[e], column[step][k].tap);
        b[TileB::index(k, int(lane) + e * 32)] = reached ? y[y_offset[e] + column[step][k].y] : T(0);
      }
    }
    if (int(thread_index) < kK) {
      j = sum_of(j, step_of_j, taps);
      column[step ^ 1][own_k] = column_at(p, j);
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    gemm.multiply(a, b, fragments);
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

// The partial sums of the bias gradient, [split][group][j] pairs of a sum and what rounding took from it, lie behind
// those of the weight gradient.
inline device float* column_sums(device float* partial_sums, constant ConvTranspose3dParams& p,
                                 constant SplitK& split_k) {
  return partial_sums + long(split_k.splits) * p.groups * p.in_channels * columns(p);
}

// Terms that are summed without heed of rounding.
enum { kShortSum = 16 };

// Adds up what the kLanes neighbours of a column have staged of it. Its first lane alone touches its sum.
template <int kLanes, int kCount>
inline void add_staged(thread float* staged, threadgroup float2* sums, int k, int row) {
#pragma unroll
  for (int e = 0; e < kCount; ++e) {
    float term = staged[e];
    for (ushort distance = 1; distance < kLanes; distance *= 2) {
      term += simd_shuffle_xor(term, distance);
    }
    if (k == 0) {
      const int i = row + e * (kGemmThreads / kLanes);
      Sum sum;
      sum.add(sums[i].x, sums[i].y);
      sum.add(term);
      sums[i] = float2(sum.value, sum.lost);
    }
    staged[e] = 0;
  }
}

// Leaves float32 partial sums [split][group][c][j], and with has_bias those of the bias gradient.
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
  threadgroup float2 column_sum[kN];  // a Sum of each

  const int j0 = int(tile.x) * kN, c0 = int(tile.y) * kM;
  const int split = int(tile.z + first) / p.groups, group = int(tile.z + first) % p.groups;
  const int first_sample = split / split_k.chunks * split_k.samples;
  const int last_sample = min(p.batch, first_sample + split_k.samples);
  const int begin = split % split_k.chunks * split_k.length;
  const int m_end = min(positions(p), begin + split_k.length), j_end = columns(p);
  const uint fragments = fragments_below(j_end - j0);

  // Columns beyond the last are the last again, and not written.
  for (int i = int(thread_index); i < kN; i += kGemmThreads) {
    column[i] = column_at(p, place_of(min(j0 + i, j_end - 1), taps_of(p)));
    column_sum[i] = 0;
  }
  // This thread stages one m of every step, in rows and columns kRowStep apart.
  const int own_k = int(thread_index % kK), own_row = int(thread_index / kK);
  const int row_count = (p.in_channels - c0 - own_row + kRowStep - 1) / kRowStep;
  const uint every_tap = (1u << (p.depth.taps + p.height.taps + p.width.taps)) - 1;
  const int x_channel = int(p.input.channel);
  const Place step_of_m = place_of(kK, inputs_of(p));
  // For the bias: what this thread has staged of B, a short sum for each of its columns.
  const bool sums_columns = has_bias && tile.y == 0;
  float staged_sum[kN / kRowStep] = {};
  int staged = 0;

  Gemm gemm(simdgroup, lane);
  for (int n = first_sample; n < last_sample; ++n) {
    device const T* x = input + offset(p.input, n, group * p.in_channels + c0 + own_row);
    device const T* y = grad_output + offset(p.output, n, group * p.out_channels);
    Place m = place_of(begin + own_k, inputs_of(p));
    if (int(thread_index) < kK) {
      position[0][own_k] = position_at(p, m);
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    for (int m0 = begin, step = 0; m0 < m_end; m0 += kK, step ^= 1) {
      const Position from = position[step][own_k];
      const bool within = m0 + own_k < m_end;
      stage_line<kM / kRowStep, kRowStep * TileA::kStride>(a + TileA::index(own_k, own_row), x + from.x,
                                                           kRowStep * x_channel, within ? row_count : 0);
      const bool all_reach = within && from.reaching == every_tap;
#pragma unroll
      for (int e = 0; e < kN / kRowStep; ++e) {
        const int i = own_row + e * kRowStep;
        const bool reached = all_reach || (within && contains(from.reaching, column[i].tap));
        const T value = reached ? y[from.y + column[i].y] : T(0);
        b[TileB::index(own_k, i)] = value;
        if (sums_columns) {
          staged_sum[e] += float(value);
        }
      }
      if (sums_columns && ++staged == kShortSum) {
        add_staged<kK, kN / kRowStep>(staged_sum, column_sum, own_k, own_row);
        staged = 0;
      }
      if (int(thread_index) < kK) {
        m = sum_of(m, step_of_m, inputs_of(p));
        position[step ^ 1][own_k] = position_at(p, m);
      }
      threadgroup_barrier(mem_flags::mem_threadgroup);
      gemm.multiply(a, b, fragments);
      threadgroup_barrier(mem_flags::mem_threadgroup);
    }
  }

  if (sums_columns) {
    add_staged<kK, kN / kRowStep>(staged_sum, column_sum, own_k, own_row);
    device float* pairs = column_sums(partial_sums, p, split_k) + (split * p.groups + group) * j_end * 2;
    for (int i = own_row; own_k == 0 && i < min(kN, j_end - j0); i += kRowStep) {
      pairs[(j0 + i) * 2] = column_sum[i].x;
      pairs[(j0 + i) * 2 + 1] = column_sum[i].y;
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

// The same for the bias, and over the taps. threadgroups: z = o
template <typename T>
[[kernel]] void conv_transpose3d_bias_grad_sum_splits(
    device float* partial_sums [[buffer(kPartialSumsBuffer)]], device T* grad_bias [[buffer(kBiasBuffer)]],
    constant ConvTranspose3dParams& p [[buffer(kParamsBuffer)]], constant SplitK& split_k [[buffer(kSplitBuffer)]],
    uint3 element [[threadgroup_position_in_grid]], uint thread_index [[thread_index_in_threadgroup]],
    uint3 threads [[threads_per_threadgroup]], uint simdgroup [[simdgroup_index_in_threadgroup]],
    uint lane [[thread_index_in_simdgroup]], uint simdgroups [[simdgroups_per_threadgroup]]) {
  threadgroup float2 simdgroup_sums[kMaxSimdgroups];
  const int taps = taps_per_filter(p), j_end = p.groups * columns(p);
  device const float* pairs = column_sums(partial_sums, p, split_k) + int(element.z) * taps * 2;
  Sum sum;
  for (int i = int(thread_index); i < split_k.splits * taps; i += int(threads.x)) {
    device const float* pair = pairs + (i / taps * j_end + i % taps) * 2;
    sum.add(pair[0], pair[1]);
  }
  const float total = threadgroup_sum(sum, simdgroup_sums, simdgroup, lane, simdgroups);
  if (thread_index == 0) {
    grad_bias[element.z] = T(total);
  }
}

#define INSTANTIATE_GEMM(kernel_name, m, n, type) \
  template [[host_name(#kernel_name "_" #m "x" #n \
                                    "_" #type)]] [[kernel]] decltype(kernel_name<type, m, n>) kernel_name<type, m, n>;
#define INSTANTIATE_GEMMS(m, n, type)                            \
  INSTANTIATE_GEMM(conv_transpose3d_input_grad_gemm, m, n, type) \
  INSTANTIATE_GEMM(conv_transpose3d_weight_grad_gemm, m, n, type)
#define INSTANTIATE_ALL_GEMMS(type)                          \
  INSTANTIATE_GEMMS(64, 64, type)                            \
  INSTANTIATE_GEMMS(48, 64, type)                            \
  INSTANTIATE_GEMMS(32, 64, type)                            \
  INSTANTIATE_GEMMS(16, 64, type)                            \
  INSTANTIATE(conv_transpose3d_weight_grad_sum_splits, type) \
  INSTANTIATE(conv_transpose3d_bias_grad_sum_splits, type)

INSTANTIATE_ALL_GEMMS(ELEMENT)
