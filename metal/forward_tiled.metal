// The forward pass as a matrix product where the kernel does not overlap itself (kernel == stride, no padding): input
// position m = (d, h, w) reaches each of its outputs through one tap. With j = (o, kd, kh, kw) a column of the weight
// as it lies in memory,
//     Y[m][j] = sum over c of X[c][m] * W[c][j]      (+ bias[o])
// lies at offset(m) + offset(j) in the output.

#include <metal_stdlib>

#include "common.h"
#include "coord.h"
#include "gemm/block_loader.h"
#include "gemm/block_mma.h"
#include "gemm/instantiate.h"
#include "gemm/staged_tile.h"
#include "load_store.h"
#include "params.h"

using namespace metal;

// Stages BK channels of a tile of X whose positions m are not contiguous: row i lies at row_x[i].
template <typename Tile, typename T>
METAL_FUNC void gather_rows(threadgroup typename Tile::Vector* tile, device const T* x, threadgroup const int* row_x,
                            int channel_stride, int rows, int channels, uint thread_index) {
  threadgroup typename Tile::Element* staged = reinterpret_cast<threadgroup typename Tile::Element*>(tile);
  for (int e = int(thread_index); e < Tile::kWidth * Tile::kBK; e += kGemmThreads) {
    const int i = int(uint(e) % Tile::kWidth), k = int(uint(e) / Tile::kWidth);
    const bool exists = i < rows && k < channels;
    staged[Tile::index(k, i)] = exists ? typename Tile::Element(x[row_x[i] + k * channel_stride]) : 0;
  }
}

// threadgroups: x = tile of j (neighbours share the input), y = tile of m, z = (n, group)
template <typename T, int kBM, int kBN>
[[kernel, max_total_threads_per_threadgroup(kGemmThreads)]] void conv_transpose3d_forward_tiled_gemm(
    device const T* input [[buffer(kInputBuffer)]], device const T* weight [[buffer(kWeightBuffer)]],
    device T* output [[buffer(kOutputBuffer)]], constant KernelParams& p [[buffer(kParamsBuffer)]],
    constant uint& z_offset [[buffer(kZOffsetBuffer)]], constant int& tile_rows [[buffer(kTileRowsBuffer)]],
    device const T* bias [[buffer(kBiasBuffer), function_constant(has_bias)]],
    uint3 tile [[threadgroup_position_in_grid]], uint thread_index [[thread_index_in_threadgroup]],
    uint simdgroup [[simdgroup_index_in_threadgroup]], uint lane [[thread_index_in_simdgroup]]) {
  // The largest tile leaves no registers for totals.
  constexpr int kBK = block_k(kBM, kBN), kChunkK = kBM * kBN > 64 * 64 ? 0 : 64;
  using TileA = StagedTile<T, kBM, kBK, false>;
  using TileB = StagedTile<T, kBN, kBK, false>;
  using MMA = BlockMMA<TileA, TileB, kChunkK>;
  threadgroup typename TileA::Vector staged[MMA::kVectors];
  threadgroup typename TileA::Vector *a = staged, *b = staged + TileA::kVectors;
  threadgroup int row_x[kBM], row_y[kBM], column_y[kBN];
  threadgroup float column_bias[kBN];

  const int m0 = int(tile.y) * tile_rows, j0 = int(tile.x) * kBN;
  const BatchGroup z = batch_group(p, int(tile.z + z_offset));
  const bool flat = p.flat_input;
  for (int i = int(thread_index); i < tile_rows; i += kGemmThreads) {
    const Coord at = unravel(min(m0 + i, p.positions - 1), p.inputs);
    if (!flat) {
      row_x[i] = offset_of(p.input, at);
    }
    row_y[i] = output_of_input(p, at);
  }
  for (int i = int(thread_index); i < kBN; i += kGemmThreads) {
    const Coord at = unravel(min(j0 + i, p.columns - 1), p.taps);
    column_y[i] = at.outer * int(p.output.channel) + output_of_tap(p, at);
    if (has_bias) {
      column_bias[i] = float(bias[z.group * p.out_channels + at.outer]);
    }
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);

  const int x_channel = int(p.input.channel);
  device const T* x = input + offset(p.input, z.n, z.group * p.in_channels);
  device const T* w = weight + z.group * p.in_channels * p.columns;
  BlockLoader<TileA, T> x_loader(a, x + m0, x_channel, thread_index);
  BlockLoader<TileB, T> w_loader(b, w + j0, p.columns, thread_index);
  const int channels = p.in_channels, rows = min(tile_rows, p.positions - m0), columns = p.columns - j0;
  MMA mma(simdgroup, lane, rows, columns);
  const int w_step = kBK * p.columns;
  for (int c = 0; c < channels; c += kBK) {
    if (flat) {
      x_loader.load_safe(channels - c, rows);
      x_loader.src += kBK * x_channel;
    } else {
      gather_rows<TileA>(a, x, row_x, x_channel, rows, channels - c, thread_index);
      x += kBK * x_channel;
    }
    w_loader.load_safe(channels - c, columns);
    w_loader.src += w_step;
    threadgroup_barrier(mem_flags::mem_threadgroup);
    mma.multiply(a, b, channels - c);
    threadgroup_barrier(mem_flags::mem_threadgroup);
  }
  mma.reduce_k_slices(staged);

  device T* y = output + offset(p.output, z.n, z.group * p.out_channels);
  const bool whole_pairs = p.paired_output && j0 + kBN <= p.columns;
  int row_start[MMA::kFragsAfterReduceM];
#pragma unroll
  for (int i = 0; i < MMA::kFragsAfterReduceM; ++i) {
    row_start[i] = mma.row + i * MMA::kFragStrideM < rows ? row_y[mma.row + i * MMA::kFragStrideM] : 0;
  }
#pragma unroll
  for (int f = 0; f < MMA::kFragsN; ++f) {
    const int column = mma.column + f * MMA::kFragStrideN;
    float2 pair_bias = 0;
    if (has_bias) {
      pair_bias = float2(column_bias[column], column_bias[column + 1]);
    }
    device T* y0 = y + column_y[column];
    device T* y1 = y + column_y[column + 1];
#pragma unroll
    for (int i = 0; i < MMA::kFragsAfterReduceM; ++i) {
      float2 value = mma.value(i, f);
      if (has_bias) {
        value += pair_bias;
      }
      if (mma.row + i * MMA::kFragStrideM >= rows) {
        continue;
      }
      if (whole_pairs) {
        store2(y0 + row_start[i], value);
      } else {
        if (j0 + column < p.columns) {
          y0[row_start[i]] = T(value.x);
        }
        if (j0 + column + 1 < p.columns) {
          y1[row_start[i]] = T(value.y);
        }
      }
    }
  }
}

INSTANTIATE_TILE(conv_transpose3d_forward_tiled_gemm, 64, 128)
INSTANTIATE_TILES(conv_transpose3d_forward_tiled_gemm)
