// The gradients of ConvTranspose3d as matrix products, for any stride, padding, dilation and kernel.
//
// With m = (d, h, w) an input position and j = (o, kd, kh, kw) a column of the weight as it lies in memory, the input
// meets the output through it at Y[m][j], which lies at offset(m) + offset(j), or nowhere where m * stride + k *
// dilation - padding is outside of the output. With X[c][m] the input and W[c][j] the weight, all in place:
//     input grad     X[c][m] = sum over j of W[c][j] * Y[m][j]
//     weight grad    W[c][j] = sum over m of X[c][m] * Y[m][j]      (and over n: split-K, then a fixed-order sum)
// Where some taps reach each element of the output once (all do where the kernel tiles it), the weight gradient sums
// its columns for the bias.

#include <metal_stdlib>

#include "conv_transpose3d_params.h"
#include "places.h"
#include "staging.h"
#include "sums.h"
#include "tile_gemm.h"

using namespace metal;

// An input position: where it lies within a channel of X and, less what its column adds, of Y; and the taps, along each
// axis, that reach an output from there.
struct Position {
  int x, y;
  uint reaching;
};

METAL_FUNC Position position_at(constant ConvTranspose3dParams& p, Place at) {
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

METAL_FUNC Column column_at(constant ConvTranspose3dParams& p, Place at) {
  return {at.outer * int(p.output.channel) + offset_of_tap(p, at),
          at.outer < p.out_channels ? bits_of(at.d, at.h, at.w, p.depth.taps, p.height.taps) : kNoBits};
}

// Columns, or positions, are looked up for so many at a time, one by each thread.
enum { kAhead = kGemmThreads };

// threadgroups: x = tile of c (neighbours share the gradient of the output), y = tile of m, z = (n, group)
template <typename T, int kM, int kN>
[[kernel]] void conv_transpose3d_input_grad_gemm(
    device T* grad_input [[buffer(kInputBuffer)]], device const T* weight [[buffer(kWeightBuffer)]],
    device const T* grad_output [[buffer(kOutputBuffer)]], constant ConvTranspose3dParams& p [[buffer(kParamsBuffer)]],
    constant uint& first [[buffer(kFirstBuffer)]], uint3 tile [[threadgroup_position_in_grid]],
    uint thread_index [[thread_index_in_threadgroup]], uint simdgroup [[simdgroup_index_in_threadgroup]],
    uint lane [[thread_index_in_simdgroup]]) {
  using TileA = StagedTile<T, kM, true>;
  using TileB = StagedTile<T, kN, true>;
  using Gemm = TileGemm<TileA, TileB, kM, kN, 2, 2, 64>;
  constexpr int kK = kGemmDepth, kSimdgroups = kGemmThreads / 32;
  threadgroup typename TileA::Vector a[TileA::kSize / 4];
  threadgroup typename TileB::Vector b[TileB::kSize / 4];
  threadgroup Column column[kAhead];
  threadgroup int x_offset[kN];

  const int c0 = int(tile.x) * kM, m0 = int(tile.y) * kN;
  const SampleGroup z = sample_group(p, int(tile.z + first));
  const int rows = p.in_channels - c0, j_end = p.columns;
  const uint fragments = fragments_below(p.positions - m0);
  const bool paired = p.paired_output;

  // What this thread stages of B: its positions lane, lane + 32 ...
  int y_offset[kN / 32];
  uint reaching[kN / 32];
#pragma unroll
  for (int e = 0; e < kN / 32; ++e) {
    const Position m = position_at(p, place_of(min(m0 + int(lane) + e * 32, p.positions - 1), p.inputs));
    y_offset[e] = m.y;
    reaching[e] = m.reaching;
    if (simdgroup == 0) {
      x_offset[lane + e * 32] = m.x;
    }
  }
  device const T* w = weight + (z.group * p.in_channels + c0) * j_end;
  device const T* y = grad_output + offset(p.output, z.n, z.group * p.out_channels);
  LineStager<TileA, T> w_lines(a, w, j_end, thread_index);
  threadgroup typename TileB::Element* own_b = TileB::at(b, 0, int(lane));

  Gemm gemm(simdgroup, lane, rows);
  for (int j0 = 0; j0 < j_end; j0 += kK) {
    if ((j0 & (kAhead - 1)) == 0) {
      column[thread_index] = column_at(p, place_of(j0 + int(thread_index), p.taps));
      threadgroup_barrier(mem_flags::mem_threadgroup);
    }
    threadgroup const Column* columns = column + (j0 & (kAhead - 1));
    w_lines.stage(rows, j_end - j0);
    w_lines.from += kK;
    if (paired && j0 + kK <= j_end) {
#pragma unroll
      for (int i = 0; i < kK; i += 2 * kSimdgroups) {
        const int k = int(simdgroup) * 2 + i;
        device const T* y_pair = y + columns[k].y;
#pragma unroll
        for (int e = 0; e < kN / 32; ++e) {
          TileB::put2(own_b + TileB::index(k, e * 32), load2(y_pair + y_offset[e]));
        }
      }
    } else {
#pragma unroll
      for (int i = 0; i < kK; i += kSimdgroups) {
        const int k = int(simdgroup) + i;
        const Column at = columns[k];
#pragma unroll
        for (int e = 0; e < kN / 32; ++e) {
          own_b[TileB::index(k, e * 32)] = contains(reaching[e], at.tap) ? y[y_offset[e] + at.y] : T(0);
        }
      }
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    gemm.multiply(a, b, fragments);
    threadgroup_barrier(mem_flags::mem_threadgroup);
  }

  device T* x = grad_input + offset(p.input, z.n, z.group * p.in_channels + c0 + gemm.row);
  const bool whole = p.flat_input && c0 + kM <= p.in_channels && m0 + kN <= p.positions;
  const int x_step = 8 * int(p.input.channel);
#pragma unroll
  for (int i = 0; i < Gemm::kFragmentsM; ++i) {
#pragma unroll
    for (int f = 0; f < Gemm::kFragmentsN; ++f) {
      const float2 value = gemm.value(i, f);
      const int m = gemm.column + f * 8;
      if (whole) {
        store2(x + (m0 + m), value);
      } else if (c0 + gemm.row + i * 8 < p.in_channels) {
        for (int e = 0; e < 2; ++e) {
          if (m0 + m + e < p.positions) {
            x[x_offset[m + e]] = T(value[e]);
          }
        }
      }
    }
    x += x_step;
  }
}

// The partial sums of the bias gradient, [split][group][j] pairs of a sum and what rounding took from it, lie behind
// those of the weight gradient, of which a single split has none.
METAL_FUNC device float* column_sums(device float* partial_sums, constant ConvTranspose3dParams& p,
                                     constant SplitK& split_k) {
  const int behind = split_k.splits > 1 ? split_k.splits : 0;
  return partial_sums + long(behind) * p.groups * p.in_channels * p.columns;
}

// Terms that are summed without heed of rounding.
enum { kShortSum = 16 };

// Which column of a tile a thread stages: two neighbours, and those that are `2 * threads of a row` on.
METAL_FUNC int own_column(int e, int row) { return (e & ~1) * (kGemmThreads / kGemmDepth) + row * 2 + (e & 1); }

// Adds up what the kLanes neighbours of a column have staged of it. Its first lane alone touches its sum.
template <int kLanes, int kCount>
METAL_FUNC void add_staged(thread float* staged, threadgroup float2* sums, int k, int row) {
#pragma unroll
  for (int e = 0; e < kCount; ++e) {
    float term = staged[e];
    for (ushort distance = 1; distance < kLanes; distance *= 2) {
      term += simd_shuffle_xor(term, distance);
    }
    if (k == 0) {
      const int i = own_column(e, row);
      Sum sum;
      sum.add(sums[i].x, sums[i].y);
      sum.add(term);
      sums[i] = float2(sum.value, sum.lost);
    }
    staged[e] = 0;
  }
}

// What this lane holds of a tile, to rows `row_length` apart; only so many rows and columns of the tile exist.
template <typename Gemm, int kM, int kN, typename Out>
METAL_FUNC void store_tile(thread Gemm& gemm, device Out* to, int row_length, int rows, int columns) {
  to += gemm.row * row_length + gemm.column;
#pragma unroll
  for (int i = 0; i < Gemm::kFragmentsM; ++i) {
#pragma unroll
    for (int f = 0; f < Gemm::kFragmentsN; ++f) {
      const float2 value = gemm.value(i, f);
      if (rows >= kM && columns >= kN) {
        store2(to + f * 8, value);
      } else if (gemm.row + i * 8 < rows) {
        for (int e = 0; e < 2; ++e) {
          if (gemm.column + f * 8 + e < columns) {
            to[f * 8 + e] = Out(value[e]);
          }
        }
      }
    }
    to += 8 * row_length;
  }
}

// Leaves float32 partial sums [split][group][c][j], of a single split the gradient itself; and with has_bias the
// partial sums of the bias gradient.
// threadgroups: x = tile of c (neighbours share the gradient of the output), y = tile of j, z = (split, group)
template <typename T, int kM, int kN>
[[kernel]] void conv_transpose3d_weight_grad_gemm(
    device const T* input [[buffer(kInputBuffer)]], device float* partial_sums [[buffer(kPartialSumsBuffer)]],
    device T* grad_weight [[buffer(kWeightBuffer)]], device const T* grad_output [[buffer(kOutputBuffer)]],
    constant ConvTranspose3dParams& p [[buffer(kParamsBuffer)]], constant uint& first [[buffer(kFirstBuffer)]],
    constant SplitK& split_k [[buffer(kSplitBuffer)]], uint3 tile [[threadgroup_position_in_grid]],
    uint thread_index [[thread_index_in_threadgroup]], uint simdgroup [[simdgroup_index_in_threadgroup]],
    uint lane [[thread_index_in_simdgroup]]) {
  using TileA = StagedTile<T, kM, true>;
  using TileB = StagedTile<T, kN, false>;
  using Gemm = TileGemm<TileA, TileB, kM, kN, 2, 2, 32>;
  constexpr int kK = kGemmDepth, kRowStep = kGemmThreads / kK;
  threadgroup typename TileA::Vector a[TileA::kSize / 4];
  threadgroup typename TileB::Vector b[TileB::kSize / 4];
  threadgroup Position position[kAhead];
  threadgroup Column column[kN];
  threadgroup float2 column_sum[kN];  // a Sum of each

  const int c0 = int(tile.x) * kM, j0 = int(tile.y) * kN;
  const SampleGroup z = sample_group(p, int(tile.z + first));
  const int split = z.n, group = z.group;
  const int first_sample = split / split_k.chunks * split_k.samples;
  const int last_sample = min(p.batch, first_sample + split_k.samples);
  const int begin = split % split_k.chunks * split_k.length;
  const int m_end = min(p.positions, begin + split_k.length), j_end = p.columns;
  const uint fragments = fragments_below(j_end - j0);

  // Columns beyond the last are the last again, and not written.
  for (int i = int(thread_index); i < kN; i += kGemmThreads) {
    column[i] = column_at(p, place_of(min(j0 + i, j_end - 1), p.taps));
    column_sum[i] = 0;
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  // This thread stages one m of every step, in the columns of own_column().
  const int own_k = int(thread_index % kK), own_row = int(thread_index / kK);
  threadgroup typename TileB::Element* own_b = TileB::at(b, own_k, 0);
  const bool whole_columns = p.paired_output && j0 + kN <= j_end;
  const int x_channel = int(p.input.channel);
  const int rows = p.in_channels - c0;
  const bool flat = p.flat_input;
  // For the bias: what this thread has staged of B, a short sum for each of its columns.
  const bool sums_columns = has_bias && tile.x == 0;
  float staged_sum[kN / kRowStep] = {};
  int staged = 0;

  Gemm gemm(simdgroup, lane, rows);
  for (int n = first_sample; n < last_sample; ++n) {
    device const T* x = input + offset(p.input, n, group * p.in_channels + c0);
    device const T* y = grad_output + offset(p.output, n, group * p.out_channels);
    LineStager<TileA, T> x_lines(a, x + begin, x_channel, thread_index);
    for (int m0 = begin; m0 < m_end; m0 += kK) {
      const int ahead = (m0 - begin) & (kAhead - 1);
      if (ahead == 0) {
        position[thread_index] = position_at(p, place_of(min(m0 + int(thread_index), p.positions - 1), p.inputs));
        threadgroup_barrier(mem_flags::mem_threadgroup);
      }
      const Position from = position[ahead + own_k];
      const bool within = m0 + own_k < m_end;
      if (flat) {
        x_lines.stage(rows, m_end - m0);
        x_lines.from += kK;
      } else {
        for (int i = own_row; i < kM; i += kRowStep) {
          TileA::at(a, own_k, i)[0] = within && i < rows ? typename TileA::Element(x[from.x + i * x_channel]) : 0;
        }
      }
      device const T* y_from = y + from.y;
      if (whole_columns) {
#pragma unroll
        for (int e = 0; e < kN / kRowStep; e += 2) {
          const int i = own_row * 2 + e * kRowStep;
          vec<typename TileB::Element, 2> pair = 0;
          if (within) {
            pair = load2(y_from + column[i].y);
          }
          TileB::put2(own_b + i, pair);
          if (sums_columns) {
            staged_sum[e] += float(pair.x);
            staged_sum[e + 1] += float(pair.y);
          }
        }
      } else {
#pragma unroll
        for (int e = 0; e < kN / kRowStep; ++e) {
          const int i = own_column(e, own_row);
          const Column at = column[i];
          const T value = within && contains(from.reaching, at.tap) ? y_from[at.y] : T(0);
          own_b[i] = value;
          if (sums_columns) {
            staged_sum[e] += float(value);
          }
        }
      }
      if (sums_columns && ++staged == kShortSum) {
        add_staged<kK, kN / kRowStep>(staged_sum, column_sum, own_k, own_row);
        staged = 0;
      }
      threadgroup_barrier(mem_flags::mem_threadgroup);
      gemm.multiply(a, b, fragments);
      threadgroup_barrier(mem_flags::mem_threadgroup);
    }
    gemm.add_to_total();  // as PyTorch on the CPU sums: each sample apart
  }

  if (sums_columns) {
    add_staged<kK, kN / kRowStep>(staged_sum, column_sum, own_k, own_row);
    device float* pairs = column_sums(partial_sums, p, split_k) + (split * p.groups + group) * j_end * 2;
    for (int e = 0; own_k == 0 && e < kN / kRowStep; ++e) {
      const int i = own_column(e, own_row);
      if (j0 + i < j_end) {
        store2(pairs + (j0 + i) * 2, column_sum[i]);
      }
    }
  }
  const int at = (group * p.in_channels + c0) * j_end + j0;
  if (split_k.splits == 1) {
    store_tile<Gemm, kM, kN>(gemm, grad_weight + at, j_end, rows, j_end - j0);
  } else {
    device float* sums = partial_sums + split * p.groups * p.in_channels * j_end;
    store_tile<Gemm, kM, kN>(gemm, sums + at, j_end, rows, j_end - j0);
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

// The same for the bias, and over the taps that together reach each output once: of each axis those from `padding` on,
// one for each phase. threadgroups: z = o
template <typename T>
[[kernel]] void conv_transpose3d_bias_grad_sum_splits(
    device float* partial_sums [[buffer(kPartialSumsBuffer)]], device T* grad_bias [[buffer(kBiasBuffer)]],
    constant ConvTranspose3dParams& p [[buffer(kParamsBuffer)]], constant SplitK& split_k [[buffer(kSplitBuffer)]],
    uint3 element [[threadgroup_position_in_grid]], uint thread_index [[thread_index_in_threadgroup]],
    uint3 threads [[threads_per_threadgroup]], uint simdgroup [[simdgroup_index_in_threadgroup]],
    uint lane [[thread_index_in_simdgroup]], uint simdgroups [[simdgroups_per_threadgroup]]) {
  threadgroup float2 simdgroup_sums[kMaxSimdgroups];
  const int taps = p.phases.d.value * p.phases.h.value * p.phases.w.value, j_end = p.groups * p.columns;
  device const float* pairs = column_sums(partial_sums, p, split_k) + int(element.z) * taps_per_filter(p) * 2;
  Sum sum;
  for (int i = int(thread_index); i < split_k.splits * taps; i += int(threads.x)) {
    const Place at = place_of(i, p.phases);
    const int tap = tap_index(p, at.d + p.depth.padding, at.h + p.height.padding, at.w + p.width.padding);
    const float2 pair = load2(pairs + (at.outer * j_end + tap) * 2);
    sum.add(pair.x, pair.y);
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
