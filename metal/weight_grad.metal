// The gradient of the weight as a matrix product:  W[c][j] = sum over n and m of X[c][m] * Y[m][j]
// (gemm/row_col_index.h), cut along n and m (split-K), and a second pass that adds up in one order what was cut.
//
// Where some taps reach each element of the output once (all do where the kernel tiles it), the columns of these taps
// are summed for the bias, too.

#include <metal_stdlib>

#include "common.h"
#include "compensated_sum.h"
#include "coord.h"
#include "gemm/block_loader.h"
#include "gemm/block_mma.h"
#include "gemm/instantiate.h"
#include "gemm/row_col_index.h"
#include "gemm/staged_tile.h"
#include "k_range.h"
#include "load_store.h"
#include "params.h"

using namespace metal;

// The partial sums of the bias gradient, [split][group][j] pairs of a sum and what rounding took from it, lie behind
// those of the weight gradient, of which a single split has none.
METAL_FUNC device float* column_sums(device float* partial_sums, constant KernelParams& p, constant SplitK& split_k) {
  const int behind = split_k.splits > 1 ? split_k.splits : 0;
  return partial_sums + long(behind) * p.groups * p.in_channels * p.columns;
}

// Terms that are summed without heed of rounding.
enum { kShortSum = 32 };

// Y is staged by rows of 16 threads, one for each of 16 m at a time.
enum { kRowLanes = 16, kRows = kGemmThreads / kRowLanes };

// Which columns of a tile a row stages: two neighbours, and those that are 2 * kRows on.
METAL_FUNC int own_column(int e, int row) { return (e & ~1) * kRows + row * 2 + (e & 1); }

// Adds up what a row has staged of its columns. Its first lane alone touches their sums.
template <int kCount>
METAL_FUNC void add_staged(thread float* staged, threadgroup float2* sums, int lane, int row) {
#pragma unroll
  for (int e = 0; e < kCount; ++e) {
    float term = staged[e];
    for (ushort distance = 1; distance < kRowLanes; distance *= 2) {
      term += simd_shuffle_xor(term, distance);
    }
    if (lane == 0) {
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
template <typename Gemm, int kN, typename Out>
METAL_FUNC void store_tile(thread Gemm& gemm, device Out* to, int row_length, int rows, int columns) {
  to += gemm.row * row_length + gemm.column;
#pragma unroll
  for (int i = 0; i < Gemm::kOwnM; ++i) {
    const bool exists = gemm.row + i * Gemm::kStepM < rows;
#pragma unroll
    for (int f = 0; f < Gemm::kFragmentsN; ++f) {
      const float2 value = gemm.value(i, f);
      device Out* pair = to + f * Gemm::kStepN;
      if (exists && columns >= kN) {
        store2(pair, value);
      } else if (exists) {
        for (int e = 0; e < 2; ++e) {
          if (gemm.column + f * Gemm::kStepN + e < columns) {
            pair[e] = Out(value[e]);
          }
        }
      }
    }
    to += Gemm::kStepM * row_length;
  }
}

// Leaves float32 partial sums [split][group][c][j], of a single split the gradient itself; and with has_bias the
// partial sums of the bias gradient.
// threadgroups: x = tile of c (neighbours share the gradient of the output), y = tile of j, z = (split, group)
template <typename T, int kM, int kN>
[[kernel, max_total_threads_per_threadgroup(kGemmThreads)]] void conv_transpose3d_weight_grad_gemm(
    device const T* input [[buffer(kInputBuffer)]], device float* partial_sums [[buffer(kPartialSumsBuffer)]],
    device T* grad_weight [[buffer(kWeightBuffer)]], device const T* grad_output [[buffer(kOutputBuffer)]],
    constant KernelParams& p [[buffer(kParamsBuffer)]], constant uint& first [[buffer(kZOffsetBuffer)]],
    constant SplitK& split_k [[buffer(kSplitBuffer)]], constant int& tile_rows [[buffer(kTileRowsBuffer)]],
    uint3 tile [[threadgroup_position_in_grid]], uint thread_index [[thread_index_in_threadgroup]],
    uint simdgroup [[simdgroup_index_in_threadgroup]], uint lane [[thread_index_in_simdgroup]]) {
  constexpr int kK = block_k(kM, kN), kOwn = kN / kRows;
  using TileA = StagedTile<T, kM, kK, true>;
  using TileB = StagedTile<T, kN, kK, false>;
  using Gemm = TileGemm<TileA, TileB, 32>;
  threadgroup typename TileA::Vector staged[Gemm::kVectors];
  threadgroup typename TileA::Vector *a = staged, *b = staged + TileA::kVectors;
  threadgroup Position position[kAhead];
  threadgroup Column column[kN];
  threadgroup float2 column_sum[kN];  // a Sum of each

  const int c0 = int(tile.x) * tile_rows, j0 = int(tile.y) * kN, j_end = p.columns;
  const SampleGroup z = sample_group(p, int(tile.z + first));
  const int split = z.n, group = z.group;

  // Columns beyond the last are the last again, and not written.
  for (int i = int(thread_index); i < kN; i += kGemmThreads) {
    column[i] = column_at(p, place_of(min(j0 + i, j_end - 1), p.taps));
    column_sum[i] = 0;
  }
  const Place ahead = place_of(kAhead, p.inputs);
  threadgroup_barrier(mem_flags::mem_threadgroup);
  // This thread stages one of 16 m, in the columns of own_column().
  const int own_lane = int(thread_index % kRowLanes), own_row = int(thread_index / kRowLanes);
  threadgroup typename TileB::Element* own_b = TileB::at(b, own_lane, 0);
  const bool whole_columns = p.paired_output && j0 + kN <= j_end;
  int column_y[kOwn];
#pragma unroll
  for (int e = 0; e < kOwn; ++e) {
    column_y[e] = column[own_column(e, own_row)].y;
  }
  const int x_channel = int(p.input.channel);
  const int rows = min(tile_rows, p.in_channels - c0);
  const bool flat = p.flat_input;
  // For the bias: what this thread has staged of B, a short sum for each of its columns.
  const bool sums_columns = has_bias && tile.x == 0;
  float staged_sum[kOwn] = {};
  int staged_terms = 0;

  Gemm gemm(simdgroup, lane, rows, j_end - j0);
  for (Part part = part_of(split_k, split, p.batch); part.begin < part.end; part.next(split_k)) {
    device const T* x = input + offset(p.input, part.n, group * p.in_channels + c0);
    device const T* y = grad_output + offset(p.output, part.n, group * p.out_channels);
    LineStager<TileA, T> x_lines(a, x + part.begin, x_channel, thread_index);
    Place own_place = place_of(part.begin + int(thread_index), p.inputs);
    for (int m0 = part.begin; m0 < part.end; m0 += kK) {
      const int from_begin = (m0 - part.begin) & (kAhead - 1);
      if (from_begin == 0) {
        if (thread_index < kAhead) {
          position[thread_index] = position_at(p, own_place);
          advance(own_place, ahead, p.inputs);
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
      }
      if (flat) {
        x_lines.stage(rows, part.end - m0);
        x_lines.from += kK;
      }
#pragma unroll
      for (int k = 0; k < kK; k += kRowLanes) {
        threadgroup const Position& from = position[from_begin + k + own_lane];
        const bool within = m0 + k + own_lane < part.end;
        if (!flat) {
          for (int i = own_row; i < kM; i += kRows) {
            const bool exists = within && i < rows;
            TileA::at(a, k + own_lane, i)[0] = exists ? typename TileA::Element(x[from.x + i * x_channel]) : 0;
          }
        }
        device const T* y_from = y + from.y;
        typename TileB::Element own[kOwn] = {};
        if (within && whole_columns) {
#pragma unroll
          for (int e = 0; e < kOwn; e += 2) {
            const vec<typename TileB::Element, 2> pair = load2(y_from + column_y[e]);
            own[e] = pair.x;
            own[e + 1] = pair.y;
          }
        } else if (within) {
          const uint reaching = from.reaching;
#pragma unroll
          for (int e = 0; e < kOwn; ++e) {
            if (contains(reaching, column[own_column(e, own_row)].tap)) {
              own[e] = y_from[column_y[e]];
            }
          }
        }
#pragma unroll
        for (int e = 0; e < kOwn; e += 2) {
          const vec<typename TileB::Element, 2> pair(own[e], own[e + 1]);
          TileB::put2(own_b + TileB::index(k, own_column(e, own_row)), pair);
        }
        if (sums_columns) {
#pragma unroll
          for (int e = 0; e < kOwn; ++e) {
            staged_sum[e] += float(own[e]);
          }
        }
      }
      staged_terms += kK / kRowLanes;
      if (sums_columns && staged_terms == kShortSum) {
        add_staged<kOwn>(staged_sum, column_sum, own_lane, own_row);
        staged_terms = 0;
      }
      threadgroup_barrier(mem_flags::mem_threadgroup);
      gemm.multiply(a, b, part.end - m0);
      threadgroup_barrier(mem_flags::mem_threadgroup);
    }
    gemm.add_to_total();  // as PyTorch on the CPU sums: each sample apart
  }
  gemm.join_slices(staged);

  if (sums_columns) {
    add_staged<kOwn>(staged_sum, column_sum, own_lane, own_row);
    device float* pairs = column_sums(partial_sums, p, split_k) + (split * p.groups + group) * j_end * 2;
    for (int e = 0; own_lane == 0 && e < kOwn; ++e) {
      const int i = own_column(e, own_row);
      if (j0 + i < j_end) {
        store2(pairs + (j0 + i) * 2, column_sum[i]);
      }
    }
  }
  const int at = (group * p.in_channels + c0) * j_end + j0;
  if (split_k.splits == 1) {
    store_tile<Gemm, kN>(gemm, grad_weight + at, j_end, rows, j_end - j0);
  } else {
    device float* sums = partial_sums + split * p.groups * p.in_channels * j_end;
    store_tile<Gemm, kN>(gemm, sums + at, j_end, rows, j_end - j0);
  }
}

// With has_bias the gradient of one output channel's bias, by one simdgroup: the partial sums of every split, and of
// the taps that together reach each output once: of each axis those from `padding` on, one for each phase.
template <typename T>
METAL_FUNC void sum_bias_splits(device float* partial_sums, device T* grad_bias, constant KernelParams& p,
                                constant SplitK& split_k, int o, int lane) {
  const int taps = p.phases.d.value * p.phases.h.value * p.phases.w.value, j_end = p.groups * p.columns;
  device const float* pairs = column_sums(partial_sums, p, split_k) + o * taps_per_filter(p) * 2;
  Sum sum;
  for (int i = lane; i < split_k.splits * taps; i += 32) {
    const Place at = place_of(i, p.phases);
    const int tap = tap_index(p, at.d + p.depth.padding, at.h + p.height.padding, at.w + p.width.padding);
    const float2 pair = load2(pairs + (at.outer * j_end + tap) * 2);
    sum.add(pair.x, pair.y);
  }
  sum = simdgroup_sum(sum);
  if (lane == 0) {
    grad_bias[o] = T(sum.rounded());
  }
}

// The partial sums of every split, added in one order; of a single one those of the bias alone.
// threadgroups: x; with has_bias the first ones have an output channel for each simdgroup, the others share the weight
template <typename T>
[[kernel, max_total_threads_per_threadgroup(kThreads)]] void conv_transpose3d_weight_grad_sum_splits(
    device float* partial_sums [[buffer(kPartialSumsBuffer)]], device T* grad_weight [[buffer(kWeightBuffer)]],
    device T* grad_bias [[buffer(kBiasBuffer), function_constant(has_bias)]],
    constant KernelParams& p [[buffer(kParamsBuffer)]], constant SplitK& split_k [[buffer(kSplitBuffer)]],
    uint threadgroup_index [[threadgroup_position_in_grid]], uint threadgroups [[threadgroups_per_grid]],
    uint thread_index [[thread_index_in_threadgroup]], uint simdgroup [[simdgroup_index_in_threadgroup]],
    uint lane [[thread_index_in_simdgroup]]) {
  const int outputs = p.groups * p.out_channels;
  const int of_bias = has_bias ? (outputs + kMaxSimdgroups - 1) / kMaxSimdgroups : 0;
  if (has_bias && int(threadgroup_index) < of_bias) {
    const int o = int(threadgroup_index) * kMaxSimdgroups + int(simdgroup);
    if (o < outputs) {
      sum_bias_splits(partial_sums, grad_bias, p, split_k, o, int(lane));
    }
    return;
  }
  const int elements = p.groups * p.in_channels * p.columns;
  const int index = (int(threadgroup_index) - of_bias) * kMaxSimdgroups * 32 + int(thread_index);
  const int step = (int(threadgroups) - of_bias) * kMaxSimdgroups * 32 * kSumElements;
  for (int element = index * kSumElements; element < elements; element += step) {
    device const float* sums = partial_sums + element;
    if (element + kSumElements <= elements) {
      float4 sum = 0;
      for (int split = 0; split < split_k.splits; ++split) {
        sum += load4(sums);
        sums += elements;
      }
      store4(grad_weight + element, sum);
    } else {
      for (int e = 0; element + e < elements; ++e) {
        float sum = 0;
        for (int split = 0; split < split_k.splits; ++split) {
          sum += sums[split * elements + e];
        }
        grad_weight[element + e] = T(sum);
      }
    }
  }
}

INSTANTIATE_TILES(conv_transpose3d_weight_grad_gemm)
INSTANTIATE(conv_transpose3d_weight_grad_sum_splits)
