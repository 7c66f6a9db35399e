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

// threadgroups: x = tile of c (neighbours share the gradient of the output), y = tile of m, z = (n, group)
template <typename T, int kM, int kN>
[[kernel, max_total_threads_per_threadgroup(kGemmThreads)]] void conv_transpose3d_input_grad_gemm(
    device T* grad_input [[buffer(kInputBuffer)]], device const T* weight [[buffer(kWeightBuffer)]],
    device const T* grad_output [[buffer(kOutputBuffer)]], constant KernelParams& p [[buffer(kParamsBuffer)]],
    constant uint& first [[buffer(kZOffsetBuffer)]], constant int& tile_rows [[buffer(kTileRowsBuffer)]],
    uint3 tile [[threadgroup_position_in_grid]], uint thread_index [[thread_index_in_threadgroup]],
    uint simdgroup [[simdgroup_index_in_threadgroup]], uint lane [[thread_index_in_simdgroup]]) {
  constexpr int kK = block_k(kM, kN), kSimdgroups = kGemmThreads / 32;
  using TileA = StagedTile<T, kM, kK, true>;
  using TileB = StagedTile<T, kN, kK, true>;
  using Gemm = TileGemm<TileA, TileB, 64>;
  threadgroup typename TileA::Vector staged[Gemm::kVectors];
  threadgroup typename TileA::Vector *a = staged, *b = staged + TileA::kVectors;
  threadgroup Column column[kAhead];
  threadgroup Position position[kN];

  const int c0 = int(tile.x) * tile_rows, m0 = int(tile.y) * kN;
  const SampleGroup z = sample_group(p, int(tile.z + first));
  const int rows = min(tile_rows, p.in_channels - c0), j_end = p.columns;
  const bool paired = p.paired_output;

  for (int i = int(thread_index); i < kN; i += kGemmThreads) {
    position[i] = position_at(p, place_of(min(m0 + i, p.positions - 1), p.inputs));
  }
  Place own_column = place_of(int(thread_index), p.taps);
  const Place ahead = place_of(kAhead, p.taps);
  threadgroup_barrier(mem_flags::mem_threadgroup);
  device const T* w = weight + (z.group * p.in_channels + c0) * j_end;
  device const T* y = grad_output + offset(p.output, z.n, z.group * p.out_channels);
  // What this thread stages of B: its positions lane, lane + 32 ...
  device const T* y_from[kN / 32];
  uint reaching[kN / 32];
#pragma unroll
  for (int e = 0; e < kN / 32; ++e) {
    y_from[e] = y + position[lane + e * 32].y;
    reaching[e] = position[lane + e * 32].reaching;
  }
  LineStager<TileA, T> w_lines(a, w, j_end, thread_index);
  threadgroup typename TileB::Element* own_b = TileB::at(b, 0, int(lane));

  Gemm gemm(simdgroup, lane, rows, p.positions - m0);
  for (int j0 = 0; j0 < j_end; j0 += kK) {
    if ((j0 & (kAhead - 1)) == 0) {
      if (thread_index < kAhead) {
        column[thread_index] = column_at(p, own_column);
        advance(own_column, ahead, p.taps);
      }
      threadgroup_barrier(mem_flags::mem_threadgroup);
    }
    threadgroup const Column* columns = column + (j0 & (kAhead - 1));
    w_lines.stage(rows, j_end - j0);
    w_lines.from += kK;
    // Two columns k of each position.
    if (paired && j0 + kK <= j_end) {
#pragma unroll
      for (int i = 0; i < kK; i += 2 * kSimdgroups) {
        const int k = int(simdgroup) * 2 + i;
        const int at = columns[k].y;
#pragma unroll
        for (int e = 0; e < kN / 32; ++e) {
          TileB::put2(own_b + TileB::index(k, e * 32), load2(y_from[e] + at));
        }
      }
    } else {
#pragma unroll
      for (int i = 0; i < kK; i += 2 * kSimdgroups) {
        const int k = int(simdgroup) * 2 + i;
        const Column left = columns[k], right = columns[k + 1];
#pragma unroll
        for (int e = 0; e < kN / 32; ++e) {
          vec<typename TileB::Element, 2> pair = 0;
          if (contains(reaching[e], left.tap)) {
            pair.x = y_from[e][left.y];
          }
          if (contains(reaching[e], right.tap)) {
            pair.y = y_from[e][right.y];
          }
          TileB::put2(own_b + TileB::index(k, e * 32), pair);
        }
      }
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    gemm.multiply(a, b, j_end - j0);
    threadgroup_barrier(mem_flags::mem_threadgroup);
  }
  gemm.join_slices(staged);

  device T* x = grad_input + offset(p.input, z.n, z.group * p.in_channels + c0 + gemm.row);
  const bool whole = p.flat_input && m0 + kN <= p.positions;
  const int x_step = Gemm::kStepM * int(p.input.channel);
#pragma unroll
  for (int i = 0; i < Gemm::kOwnM; ++i) {
    const bool exists = gemm.row + i * Gemm::kStepM < rows;
#pragma unroll
    for (int f = 0; f < Gemm::kFragmentsN; ++f) {
      const float2 value = gemm.value(i, f);
      const int m = gemm.column + f * Gemm::kStepN;
      if (exists && whole) {
        store2(x + (m0 + m), value);
      } else if (exists) {
        for (int e = 0; e < 2; ++e) {
          if (m0 + m + e < p.positions) {
            x[position[m + e].x] = T(value[e]);
          }
        }
      }
    }
    x += x_step;
  }
}

INSTANTIATE_TILES(conv_transpose3d_input_grad_gemm)
