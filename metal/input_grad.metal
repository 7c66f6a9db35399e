// The gradient of the input as a matrix product:  X[c][m] = sum over j of W[c][j] * Y[m][j]  (gemm/row_col_index.h).

#include <metal_stdlib>

#include "common.h"
#include "coord.h"
#include "gemm/block_loader.h"
#include "gemm/block_mma.h"
#include "gemm/instantiate.h"
#include "gemm/row_col_index.h"
#include "gemm/staged_tile.h"
#include "load_store.h"
#include "params.h"

using namespace metal;

// Stages BK columns of Y, in pairs, for every 32nd row: y_row points to this thread's rows, own_b to its first one's
// place in the tile. `paired`: all columns exist, and pairs are adjacent in the output.
template <typename Tile, typename T>
METAL_FUNC void gather_columns(threadgroup typename Tile::Element* own_b, device const T* const thread* y_row,
                               thread const uint* valid_taps, threadgroup const ColIndex* col, bool paired,
                               int simdgroup) {
  constexpr int kSimdgroups = kGemmThreads / 32;
  if (paired) {
#pragma unroll
    for (int i = 0; i < Tile::kBK; i += 2 * kSimdgroups) {
      const int k = simdgroup * 2 + i;
      const int at = col[k].y;
#pragma unroll
      for (int e = 0; e < Tile::kWidth / 32; ++e) {
        Tile::put2(own_b + Tile::index(k, e * 32), load2(y_row[e] + at));
      }
    }
    return;
  }
#pragma unroll
  for (int i = 0; i < Tile::kBK; i += 2 * kSimdgroups) {
    const int k = simdgroup * 2 + i;
    const ColIndex left = col[k], right = col[k + 1];
#pragma unroll
    for (int e = 0; e < Tile::kWidth / 32; ++e) {
      vec<typename Tile::Element, 2> pair = 0;
      if (are_valid(valid_taps[e], left.tap_mask)) {
        pair.x = y_row[e][left.y];
      }
      if (are_valid(valid_taps[e], right.tap_mask)) {
        pair.y = y_row[e][right.y];
      }
      Tile::put2(own_b + Tile::index(k, e * 32), pair);
    }
  }
}

// threadgroups: x = tile of c (neighbours share the gradient of the output), y = tile of m, z = (n, group)
template <typename T, int kBM, int kBN>
[[kernel, max_total_threads_per_threadgroup(kGemmThreads)]] void conv_transpose3d_input_grad_gemm(
    device T* grad_input [[buffer(kInputBuffer)]], device const T* weight [[buffer(kWeightBuffer)]],
    device const T* grad_output [[buffer(kOutputBuffer)]], constant KernelParams& p [[buffer(kParamsBuffer)]],
    constant uint& z_offset [[buffer(kZOffsetBuffer)]], constant int& tile_rows [[buffer(kTileRowsBuffer)]],
    uint3 tile [[threadgroup_position_in_grid]], uint thread_index [[thread_index_in_threadgroup]],
    uint simdgroup [[simdgroup_index_in_threadgroup]], uint lane [[thread_index_in_simdgroup]]) {
  constexpr int kBK = block_k(kBM, kBN);
  using TileA = StagedTile<T, kBM, kBK, true>;
  using TileB = StagedTile<T, kBN, kBK, true>;
  using MMA = BlockMMA<TileA, TileB, 64>;
  threadgroup typename TileA::Vector staged[MMA::kVectors];
  threadgroup typename TileA::Vector *a = staged, *b = staged + TileA::kVectors;
  threadgroup ColIndex col_block[kIndexBlock];
  threadgroup RowIndex row[kBN];

  const int c0 = int(tile.x) * tile_rows, m0 = int(tile.y) * kBN;
  const BatchGroup z = batch_group(p, int(tile.z + z_offset));
  const int rows = min(tile_rows, p.in_channels - c0), j_end = p.columns;
  const bool paired = p.paired_output;

  for (int i = int(thread_index); i < kBN; i += kGemmThreads) {
    row[i] = row_index(p, unravel(min(m0 + i, p.positions - 1), p.inputs));
  }
  Coord own_column = unravel(int(thread_index), p.taps);
  const Coord next_block = unravel(kIndexBlock, p.taps);
  threadgroup_barrier(mem_flags::mem_threadgroup);
  device const T* w = weight + (z.group * p.in_channels + c0) * j_end;
  device const T* y = grad_output + offset(p.output, z.n, z.group * p.out_channels);
  // This thread stages the rows lane, lane + 32 ... of Y.
  device const T* y_row[kBN / 32];
  uint valid_taps[kBN / 32];
#pragma unroll
  for (int e = 0; e < kBN / 32; ++e) {
    y_row[e] = y + row[lane + e * 32].y;
    valid_taps[e] = row[lane + e * 32].valid_taps;
  }
  BlockLoader<TileA, T> w_loader(a, w, j_end, thread_index);
  threadgroup typename TileB::Element* own_b = TileB::at(b, 0, int(lane));

  MMA mma(simdgroup, lane, rows, p.positions - m0);
  for (int j0 = 0; j0 < j_end; j0 += kBK) {
    if ((j0 & (kIndexBlock - 1)) == 0) {
      fill_col_block(col_block, p, own_column, next_block, thread_index);
    }
    threadgroup const ColIndex* col = col_block + (j0 & (kIndexBlock - 1));
    w_loader.load_safe(rows, j_end - j0);
    w_loader.src += kBK;
    gather_columns<TileB>(own_b, y_row, valid_taps, col, paired && j0 + kBK <= j_end, int(simdgroup));
    threadgroup_barrier(mem_flags::mem_threadgroup);
    mma.multiply(a, b, j_end - j0);
    threadgroup_barrier(mem_flags::mem_threadgroup);
  }
  mma.reduce_k_slices(staged);

  device T* x = grad_input + offset(p.input, z.n, z.group * p.in_channels + c0 + mma.row);
  const bool whole = p.flat_input && m0 + kBN <= p.positions;
  const int x_step = MMA::kFragStrideM * int(p.input.channel);
#pragma unroll
  for (int i = 0; i < MMA::kFragsAfterReduceM; ++i) {
    const bool exists = mma.row + i * MMA::kFragStrideM < rows;
#pragma unroll
    for (int f = 0; f < MMA::kFragsN; ++f) {
      const float2 value = mma.value(i, f);
      const int m = mma.column + f * MMA::kFragStrideN;
      if (exists && whole) {
        store2(x + (m0 + m), value);
      } else if (exists) {
        for (int e = 0; e < 2; ++e) {
          if (m0 + m + e < p.positions) {
            x[row[m + e].x] = T(value[e]);
          }
        }
      }
    }
    x += x_step;
  }
}

INSTANTIATE_TILES(conv_transpose3d_input_grad_gemm)
