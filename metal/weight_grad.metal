// The gradient of the weight as a matrix product:  W[c][j] = sum over n and m of X[c][m] * Y[m][j]
// (gemm/row_col_index.h), cut along n and m (split-K); a second kernel adds up the splits in one order.
//
// The gradient of the bias comes with it where some of the taps reach each output exactly once: it is the sum of these
// taps' columns of Y.

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

// The partial sums of the bias gradient lie behind those of the weight gradient, of which a single split has none:
// pairs (sum, error), [split][group][j].
METAL_FUNC device float* column_sums(device float* partial_sums, constant KernelParams& p, constant SplitK& split_k) {
  const int weights = split_k.splits > 1 ? split_k.splits : 0;
  return partial_sums + long(weights) * p.groups * p.in_channels * p.columns;
}

// Terms of a plain sum, which then is added to a compensated one.
enum { kShortSum = 32 };

// Y is staged by rows of 16 threads: each row has some of the columns, and each thread of it one of 16 m.
enum { kRowLanes = 16, kRows = kGemmThreads / kRowLanes };

// The columns of a row come in pairs, 2 * kRows apart.
METAL_FUNC int own_column(int e, int row) { return (e & ~1) * kRows + row * 2 + (e & 1); }

// Stages, for one m, the channels of X that this row of threads has. Used where the positions m are not contiguous.
template <typename Tile, typename T>
METAL_FUNC void gather_channels(threadgroup typename Tile::Vector* tile, int k, device const T* x, int channel_stride,
                                int channels, bool exists, int row) {
  for (int i = row; i < Tile::kWidth; i += kRows) {
    Tile::at(tile, k, i)[0] = exists && i < channels ? typename Tile::Element(x[i * channel_stride]) : 0;
  }
}

// Stages, for one m, this thread's columns of Y, which it leaves in `own`; zeros where there is nothing. `staged`: that
// m's line of the tile. `paired`: all columns exist, and pairs are adjacent in the output.
template <typename Tile, int kOwn, typename T>
METAL_FUNC void gather_columns(thread typename Tile::Element* own, threadgroup typename Tile::Element* staged,
                               device const T* y, uint valid_taps, thread const int* column_y,
                               threadgroup const ColIndex* col, bool exists, bool paired, int row) {
  using Pair = vec<typename Tile::Element, 2>;
  if (exists && paired) {
#pragma unroll
    for (int e = 0; e < kOwn; e += 2) {
      const Pair pair = load2(y + column_y[e]);
      own[e] = pair.x;
      own[e + 1] = pair.y;
    }
  } else if (exists) {
#pragma unroll
    for (int e = 0; e < kOwn; ++e) {
      if (are_valid(valid_taps, col[own_column(e, row)].tap_mask)) {
        own[e] = y[column_y[e]];
      }
    }
  }
#pragma unroll
  for (int e = 0; e < kOwn; e += 2) {
    Tile::put2(staged + Tile::index(0, own_column(e, row)), Pair(own[e], own[e + 1]));
  }
}

// Adds up a row's short sums of its columns, and adds them to the compensated ones, which its first lane alone touches.
template <int kOwn>
METAL_FUNC void flush_short_sums(thread float* short_sums, threadgroup float2* sums, int lane, int row) {
#pragma unroll
  for (int e = 0; e < kOwn; ++e) {
    float term = short_sums[e];
    for (ushort distance = 1; distance < kRowLanes; distance *= 2) {
      term += simd_shuffle_xor(term, distance);
    }
    if (lane == 0) {
      const int i = own_column(e, row);
      CompensatedSum total;
      total.add(sums[i].x, sums[i].y);
      total.add(term);
      sums[i] = float2(total.sum, total.error);
    }
    short_sums[e] = 0;
  }
}

// Stores the first `columns` of a tile's column sums, each by the first lane of its row.
template <int kOwn>
METAL_FUNC void store_column_sums(device float* pairs, threadgroup const float2* sums, int columns, int lane, int row) {
  for (int e = 0; lane == 0 && e < kOwn; ++e) {
    const int i = own_column(e, row);
    if (i < columns) {
      store2(pairs + i * 2, sums[i]);
    }
  }
}

// Stores this lane's elements of a tile, of which `rows` rows and `columns` columns exist. `ld`: from row to row.
template <typename MMA, int kBN, typename Out>
METAL_FUNC void store_tile(thread MMA& mma, device Out* to, int ld, int rows, int columns) {
  to += mma.row * ld + mma.column;
#pragma unroll
  for (int i = 0; i < MMA::kFragsAfterReduceM; ++i) {
    const bool exists = mma.row + i * MMA::kFragStrideM < rows;
#pragma unroll
    for (int f = 0; f < MMA::kFragsN; ++f) {
      const float2 value = mma.value(i, f);
      device Out* pair = to + f * MMA::kFragStrideN;
      if (exists && columns >= kBN) {
        store2(pair, value);
      } else if (exists) {
        for (int e = 0; e < 2; ++e) {
          if (mma.column + f * MMA::kFragStrideN + e < columns) {
            pair[e] = Out(value[e]);
          }
        }
      }
    }
    to += MMA::kFragStrideM * ld;
  }
}

// Leaves float32 partial sums [split][group][c][j], or of a single split the gradient itself; with has_bias the partial
// sums of the bias gradient, too.
// threadgroups: x = tile of c (neighbours share the gradient of the output), y = tile of j, z = (split, group)
template <typename T, int kBM, int kBN>
[[kernel, max_total_threads_per_threadgroup(kGemmThreads)]] void conv_transpose3d_weight_grad_gemm(
    device const T* input [[buffer(kInputBuffer)]], device float* partial_sums [[buffer(kPartialSumsBuffer)]],
    device T* grad_weight [[buffer(kWeightBuffer)]], device const T* grad_output [[buffer(kOutputBuffer)]],
    constant KernelParams& p [[buffer(kParamsBuffer)]], constant uint& z_offset [[buffer(kZOffsetBuffer)]],
    constant SplitK& split_k [[buffer(kSplitBuffer)]], constant int& tile_rows [[buffer(kTileRowsBuffer)]],
    uint3 tile [[threadgroup_position_in_grid]], uint thread_index [[thread_index_in_threadgroup]],
    uint simdgroup [[simdgroup_index_in_threadgroup]], uint lane [[thread_index_in_simdgroup]]) {
  constexpr int kBK = block_k(kBM, kBN), kOwn = kBN / kRows;
  using TileA = StagedTile<T, kBM, kBK, true>;
  using TileB = StagedTile<T, kBN, kBK, false>;
  using MMA = BlockMMA<TileA, TileB, 32>;
  threadgroup typename TileA::Vector staged[MMA::kVectors];
  threadgroup typename TileA::Vector *a = staged, *b = staged + TileA::kVectors;
  threadgroup RowIndex row_block[kIndexBlock];
  threadgroup ColIndex col[kBN];
  threadgroup float2 column_sum[kBN];  // a CompensatedSum of each column

  const int c0 = int(tile.x) * tile_rows, j0 = int(tile.y) * kBN, j_end = p.columns;
  const BatchGroup z = batch_group(p, int(tile.z + z_offset));

  // Columns past the last repeat it, and are not stored.
  for (int i = int(thread_index); i < kBN; i += kGemmThreads) {
    col[i] = col_index(p, unravel(min(j0 + i, j_end - 1), p.taps));
    column_sum[i] = 0;
  }
  const Coord next_block = unravel(kIndexBlock, p.inputs);
  threadgroup_barrier(mem_flags::mem_threadgroup);
  const int own_lane = int(thread_index % kRowLanes), own_row = int(thread_index / kRowLanes);
  threadgroup typename TileB::Element* own_b = TileB::at(b, own_lane, 0);
  const bool flat = p.flat_input, whole_pairs = p.paired_output && j0 + kBN <= j_end;
  int column_y[kOwn];
#pragma unroll
  for (int e = 0; e < kOwn; ++e) {
    column_y[e] = col[own_column(e, own_row)].y;
  }
  const int x_channel = int(p.input.channel), rows = min(tile_rows, p.in_channels - c0);
  // The first row of tiles sums the columns for the bias.
  const bool sums_columns = has_bias && tile.x == 0;
  float short_sums[kOwn] = {};
  int short_terms = 0;

  MMA mma(simdgroup, lane, rows, j_end - j0);
  for (KRange range = k_range(split_k, z.n, p.batch); range.begin < range.end; range.next(split_k)) {
    device const T* x = input + offset(p.input, range.n, z.group * p.in_channels + c0);
    device const T* y = grad_output + offset(p.output, range.n, z.group * p.out_channels);
    BlockLoader<TileA, T> x_loader(a, x + range.begin, x_channel, thread_index);
    Coord own_position = unravel(range.begin + int(thread_index), p.inputs);
    for (int m0 = range.begin; m0 < range.end; m0 += kBK) {
      const int of_block = (m0 - range.begin) & (kIndexBlock - 1);
      if (of_block == 0) {
        fill_row_block(row_block, p, own_position, next_block, thread_index);
      }
      if (flat) {
        x_loader.load_safe(rows, range.end - m0);
        x_loader.src += kBK;
      }
#pragma unroll
      for (int k = 0; k < kBK; k += kRowLanes) {
        threadgroup const RowIndex& m = row_block[of_block + k + own_lane];
        const bool exists = m0 + k + own_lane < range.end;
        if (!flat) {
          gather_channels<TileA>(a, k + own_lane, x + m.x, x_channel, rows, exists, own_row);
        }
        typename TileB::Element own[kOwn] = {};
        gather_columns<TileB, kOwn>(own, own_b + TileB::index(k, 0), y + m.y, m.valid_taps, column_y, col, exists,
                                    whole_pairs, own_row);
        if (sums_columns) {
#pragma unroll
          for (int e = 0; e < kOwn; ++e) {
            short_sums[e] += float(own[e]);
          }
        }
      }
      short_terms += kBK / kRowLanes;
      if (sums_columns && short_terms == kShortSum) {
        flush_short_sums<kOwn>(short_sums, column_sum, own_lane, own_row);
        short_terms = 0;
      }
      threadgroup_barrier(mem_flags::mem_threadgroup);
      mma.multiply(a, b, range.end - m0);
      threadgroup_barrier(mem_flags::mem_threadgroup);
    }
    mma.flush();  // each sample apart, as PyTorch sums on the CPU
  }
  mma.reduce_k_slices(staged);

  if (sums_columns) {
    flush_short_sums<kOwn>(short_sums, column_sum, own_lane, own_row);
    device float* pairs = column_sums(partial_sums, p, split_k) + (z.n * p.groups + z.group) * j_end * 2;
    store_column_sums<kOwn>(pairs + j0 * 2, column_sum, j_end - j0, own_lane, own_row);
  }
  const int at = (z.group * p.in_channels + c0) * j_end + j0;
  if (split_k.splits == 1) {
    store_tile<MMA, kBN>(mma, grad_weight + at, j_end, rows, j_end - j0);
  } else {
    device float* sums = partial_sums + z.n * p.groups * p.in_channels * j_end;
    store_tile<MMA, kBN>(mma, sums + at, j_end, rows, j_end - j0);
  }
}

// The gradient of one output channel's bias, by one simdgroup: sums the columns, of all splits, of the taps that
// together reach each output once. Along each axis these are the taps from `padding` on, as many as there are phases.
template <typename T>
METAL_FUNC void sum_bias_splits(device float* partial_sums, device T* grad_bias, constant KernelParams& p,
                                constant SplitK& split_k, int o, int lane) {
  const int taps = p.phases.d.value * p.phases.h.value * p.phases.w.value, j_end = p.groups * p.columns;
  device const float* pairs = column_sums(partial_sums, p, split_k) + o * taps_per_filter(p) * 2;
  CompensatedSum total;
  for (int i = lane; i < split_k.splits * taps; i += 32) {
    const Coord at = unravel(i, p.phases);
    const int tap = tap_index(p, at.d + p.depth.padding, at.h + p.height.padding, at.w + p.width.padding);
    const float2 pair = load2(pairs + (at.outer * j_end + tap) * 2);
    total.add(pair.x, pair.y);
  }
  total = simdgroup_sum(total);
  if (lane == 0) {
    grad_bias[o] = T(total.rounded());
  }
}

// Adds up the splits, in one order; of a single one those of the bias alone.
// threadgroups: x. With has_bias the first ones sum the bias, a channel a simdgroup; the others share the weight.
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
