// The forward pass of ConvTranspose3d as a matrix product, where the kernel tiles the output: each of its elements
// meets one input position m = (d, h, w) by one tap. With j = (o, kd, kh, kw) a column of the weight as it lies in
// memory,
//     Y[m][j] = sum over c of X[c][m] * W[c][j]      (+ bias[o])
// and lies at offset(m) + offset(j) in the output.

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

// threadgroups: x = tile of j (neighbours share the input), y = tile of m, z = (n, group)
template <typename T, int kM, int kN>
[[kernel, max_total_threads_per_threadgroup(kGemmThreads)]] void conv_transpose3d_forward_tiled_gemm(
    device const T* input [[buffer(kInputBuffer)]], device const T* weight [[buffer(kWeightBuffer)]],
    device T* output [[buffer(kOutputBuffer)]], constant KernelParams& p [[buffer(kParamsBuffer)]],
    constant uint& first [[buffer(kZOffsetBuffer)]], constant int& tile_rows [[buffer(kTileRowsBuffer)]],
    device const T* bias [[buffer(kBiasBuffer), function_constant(has_bias)]],
    uint3 tile [[threadgroup_position_in_grid]], uint thread_index [[thread_index_in_threadgroup]],
    uint simdgroup [[simdgroup_index_in_threadgroup]], uint lane [[thread_index_in_simdgroup]]) {
  // The largest tile has no registers left for a total.
  constexpr int kK = block_k(kM, kN), kSumDepth = kM * kN > 64 * 64 ? 0 : 64;
  using TileA = StagedTile<T, kM, kK, false>;
  using TileB = StagedTile<T, kN, kK, false>;
  using Gemm = TileGemm<TileA, TileB, kSumDepth>;
  threadgroup typename TileA::Vector staged[Gemm::kVectors];
  threadgroup typename TileA::Vector *a = staged, *b = staged + TileA::kVectors;
  threadgroup int row_x[kM], row_y[kM], column_y[kN];
  threadgroup float column_bias[kN];

  const int m0 = int(tile.y) * tile_rows, j0 = int(tile.x) * kN;
  const SampleGroup z = sample_group(p, int(tile.z + first));
  const bool flat = p.flat_input;
  for (int i = int(thread_index); i < tile_rows; i += kGemmThreads) {
    const Place at = place_of(min(m0 + i, p.positions - 1), p.inputs);
    if (!flat) {
      row_x[i] = offset_of(p.input, at);
    }
    row_y[i] = start_in_output(p, at);
  }
  for (int i = int(thread_index); i < kN; i += kGemmThreads) {
    const Place at = place_of(min(j0 + i, p.columns - 1), p.taps);
    column_y[i] = at.outer * int(p.output.channel) + offset_of_tap(p, at);
    if (has_bias) {
      column_bias[i] = float(bias[z.group * p.out_channels + at.outer]);
    }
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);

  const int x_channel = int(p.input.channel);
  device const T* x = input + offset(p.input, z.n, z.group * p.in_channels);
  device const T* w = weight + z.group * p.in_channels * p.columns;
  LineStager<TileA, T> x_lines(a, x + m0, x_channel, thread_index);
  LineStager<TileB, T> w_lines(b, w + j0, p.columns, thread_index);
  const int depth = p.in_channels, rows = min(tile_rows, p.positions - m0), columns = p.columns - j0;
  Gemm gemm(simdgroup, lane, rows, columns);
  const int w_step = kK * p.columns;
  for (int c = 0; c < depth; c += kK) {
    if (flat) {
      x_lines.stage(depth - c, rows);
      x_lines.from += kK * x_channel;
    } else {
      threadgroup typename TileA::Element* gathered = reinterpret_cast<threadgroup typename TileA::Element*>(a);
      for (int e = int(thread_index); e < kM * kK; e += kGemmThreads) {
        const int i = int(uint(e) % kM), k = int(uint(e) / kM);
        const bool exists = i < rows && c + k < depth;
        gathered[TileA::index(k, i)] = exists ? typename TileA::Element(x[row_x[i] + (c + k) * x_channel]) : 0;
      }
    }
    w_lines.stage(depth - c, columns);
    w_lines.from += w_step;
    threadgroup_barrier(mem_flags::mem_threadgroup);
    gemm.multiply(a, b, depth - c);
    threadgroup_barrier(mem_flags::mem_threadgroup);
  }
  gemm.join_slices(staged);

  // A lane's two columns are neighbours of the output, most often.
  device T* y = output + offset(p.output, z.n, z.group * p.out_channels);
  const bool whole = p.paired_output && j0 + kN <= p.columns;
  int start[Gemm::kOwnM];
#pragma unroll
  for (int i = 0; i < Gemm::kOwnM; ++i) {
    start[i] = gemm.row + i * Gemm::kStepM < rows ? row_y[gemm.row + i * Gemm::kStepM] : 0;
  }
#pragma unroll
  for (int f = 0; f < Gemm::kFragmentsN; ++f) {
    const int column = gemm.column + f * Gemm::kStepN;
    float2 pair_bias = 0;
    if (has_bias) {
      pair_bias = float2(column_bias[column], column_bias[column + 1]);
    }
    device T* y0 = y + column_y[column];
    device T* y1 = y + column_y[column + 1];
#pragma unroll
    for (int i = 0; i < Gemm::kOwnM; ++i) {
      float2 value = gemm.value(i, f);
      if (has_bias) {
        value += pair_bias;
      }
      if (gemm.row + i * Gemm::kStepM >= rows) {
        continue;
      }
      if (whole) {
        store2(y0 + start[i], value);
      } else {
        if (j0 + column < p.columns) {
          y0[start[i]] = T(value.x);
        }
        if (j0 + column + 1 < p.columns) {
          y1[start[i]] = T(value.y);
        }
      }
    }
  }
}

INSTANTIATE_TILE(conv_transpose3d_forward_tiled_gemm, 64, 128)
INSTANTIATE_TILES(conv_transpose3d_forward_tiled_gemm)
