// A threadgroup's tile of a matrix product,  C[m][n] = sum over k of A[m][k] * B[k][n],  on simdgroup matrices.
// Both operands are staged through threadgroup memory, some k at a time, in the order in which device memory is read.
#pragma once

#include <metal_simdgroup_matrix>
#include <metal_stdlib>

#include "../params.h"
#include "fragment.h"

using namespace metal;

// TileA and TileB are StagedTiles of up to kM rows and kN columns. The simdgroups share out the fragments of 8 rows,
// and those of 8 columns, in turn, so that a tile of fewer keeps all of them busy; and where the tile is small the
// depth, in slices, so that a simdgroup still multiplies 4x4 fragments, and loads few for each product.
//
// A float32 sum over thousands of products loses digits to its own size: every kSumDepth, what has been summed is added
// to a total, so that the error grows with the square root of kSumDepth and not of the whole depth. 0: never, and there
// is room for twice the accumulators.
template <typename TileA, typename TileB, int kSumDepth>
struct TileGemm {
  using Staged = typename TileA::Element;
  static constexpr constant int kSlices = k_slices(TileA::kWidth, TileB::kWidth);
  static constexpr constant int kSimdgroupsM = TileA::kWidth / 32;
  static constexpr constant int kSimdgroupsN = kGemmThreads / 32 / kSlices / kSimdgroupsM;
  static constexpr constant int kSliceFragments = TileA::kK / kSlices / 8;
  // 8x8 fragments of one simdgroup, and from one to the next.
  static constexpr constant int kFragmentsM = TileA::kWidth / kSimdgroupsM / 8;
  static constexpr constant int kFragmentsN = TileB::kWidth / kSimdgroupsN / 8;
  static constexpr constant int kStepM = kSimdgroupsM * 8, kStepN = kSimdgroupsN * 8;
  static constexpr constant bool kHasTotal = kSumDepth > 0;
  // Rows of fragments that a simdgroup has in the end.
  static constexpr constant int kOwnM = kFragmentsM / kSlices;
  // Vectors of both tiles, the second behind the first. The slices are joined where the tiles were.
  static constexpr constant int kVectors = TileA::kVectors + TileB::kVectors;
  static_assert((kSlices - 1) * kSimdgroupsN * kFragmentsN * 32 * sizeof(float2) <=
                    kVectors * sizeof(typename TileA::Vector),
                "room for what join_slices() exchanges");
  static_assert(kFragmentsM == 4, "what multiply() tells apart");
  static_assert(kSlices == 1 || (kSimdgroupsM == 1 && kHasTotal), "the rows of a slice are those of the tile");

  // Loops over fragments are unrolled, and functions inlined (METAL_FUNC), so that these arrays lie in registers.
  simdgroup_matrix<float, 8, 8> sum[kFragmentsM][kFragmentsN];
  simdgroup_matrix<float, 8, 8> total[kHasTotal ? kFragmentsM : 1][kHasTotal ? kFragmentsN : 1];
  int rows, columns;  // of fragments that exist
  int slice, column_of_simdgroups, lane;
  int row, column;     // in the tile, of this lane's first element of its own fragment (0, 0); the next is to its right
  int from_a, from_b;  // where this simdgroup's fragments lie in the tiles
  int depth = 0;       // of sum

  // Of the tile's rows and columns so many exist.
  METAL_FUNC TileGemm(uint simdgroup, uint lane_index, int tile_rows, int tile_columns) thread {
#pragma unroll
    for (int i = 0; i < kFragmentsM; ++i) {
#pragma unroll
      for (int j = 0; j < kFragmentsN; ++j) {
        sum[i][j] = make_filled_simdgroup_matrix<float, 8, 8>(0.0f);
        if (kHasTotal) {
          total[i][j] = make_filled_simdgroup_matrix<float, 8, 8>(0.0f);
        }
      }
    }
    // In unsigned numbers, whose divisions by powers of two are shifts.
    constexpr uint kInSlice = kSimdgroupsM * kSimdgroupsN, kColumns = kSimdgroupsN;
    lane = int(lane_index);
    slice = int(simdgroup / kInSlice);
    column_of_simdgroups = int(simdgroup % kColumns);
    const int first_row = int(simdgroup % kInSlice / kColumns) * 8, first_column = column_of_simdgroups * 8;
    rows = min(int(uint(max(tile_rows - first_row + kStepM - 1, 0)) / kStepM), kFragmentsM);
    columns = min(int(uint(max(tile_columns - first_column + kStepN - 1, 0)) / kStepN), kFragmentsN);
    from_a = TileA::index(slice * kSliceFragments * 8, first_row);
    from_b = TileB::index(slice * kSliceFragments * 8, first_column);
    row = slice * kOwnM * kStepM + first_row + int((lane_index / 4 & 4) + lane_index / 2 % 4);
    column = first_column + int((lane_index / 4 & 2) * 2 + lane_index % 2 * 2);
  }

  // What is staged exists for the first `length` k, and is zero beyond.
  METAL_FUNC void multiply(threadgroup const typename TileA::Vector* a, threadgroup const typename TileB::Vector* b,
                           int length) thread {
    threadgroup const Staged* own_a = reinterpret_cast<threadgroup const Staged*>(a) + from_a;
    threadgroup const Staged* own_b = reinterpret_cast<threadgroup const Staged*>(b) + from_b;
    switch (kSlices == 1 || slice * kSliceFragments * 8 < length ? rows : 0) {
      case 4:
        multiply_rows<4>(own_a, own_b);
        break;
      case 3:
        multiply_rows<3>(own_a, own_b);
        break;
      case 2:
        multiply_rows<2>(own_a, own_b);
        break;
      case 1:
        multiply_rows<1>(own_a, own_b);
        break;
    }
    depth += kSliceFragments * 8;
    if (kHasTotal && depth == kSumDepth) {
      add_to_total();
    }
  }

  template <int kRows>
  METAL_FUNC void multiply_rows(threadgroup const Staged* a, threadgroup const Staged* b) thread {
    // As many as there are rows at most: a kernel's registers are fixed.
    simdgroup_matrix<Staged, 8, 8> fragment_a[kSliceFragments][kFragmentsM], fragment_b;
#pragma unroll
    for (int k = 0; k < kSliceFragments; ++k) {
#pragma unroll
      for (int i = 0; i < kRows; ++i) {
        simdgroup_load(fragment_a[k][i], a + TileA::index(k * 8, i * kStepM), TileA::kStride, ulong2(0),
                       !TileA::kIsAlongK);
      }
    }
#pragma unroll
    for (int j = 0; j < kFragmentsN; ++j) {
      if (j < columns) {
#pragma unroll
        for (int k = 0; k < kSliceFragments; ++k) {
          simdgroup_load(fragment_b, b + TileB::index(k * 8, j * kStepN), TileB::kStride, ulong2(0), TileB::kIsAlongK);
#pragma unroll
          for (int i = 0; i < kRows; ++i) {
            simdgroup_multiply_accumulate(sum[i][j], fragment_a[k][i], fragment_b, sum[i][j]);
          }
        }
      }
    }
  }

  METAL_FUNC void add_to_total() thread {
#pragma unroll
    for (int i = 0; i < kFragmentsM; ++i) {
#pragma unroll
      for (int j = 0; j < kFragmentsN; ++j) {
        move_to_total(sum[i][j], total[i][j]);
      }
    }
    depth = 0;
  }

  // After the last multiply(), and a barrier: adds up the slices, of which each then has kOwnM rows of fragments.
  METAL_FUNC void join_slices(threadgroup typename TileA::Vector* staged) thread {
    if (kSlices == 1) {
      return;
    }
    threadgroup float2* exchange = reinterpret_cast<threadgroup float2*>(staged) + lane;
    constexpr int kOfSlice = kSimdgroupsN * kFragmentsN * 32;
    const int first = column_of_simdgroups * kFragmentsN * 32;
#pragma unroll
    for (int i = 0; i < kFragmentsM; ++i) {
      const int owner = i / kOwnM;
      if (i < rows) {
        if (slice != owner) {
#pragma unroll
          for (int f = 0; f < kFragmentsN; ++f) {
            exchange[first + (slice < owner ? slice : slice - 1) * kOfSlice + f * 32] = fragment_value(i, f);
          }
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        if (slice == owner) {
#pragma unroll
          for (int f = 0; f < kFragmentsN; ++f) {
            float2 joined = fragment_value(i, f);
#pragma unroll
            for (int s = 0; s < kSlices - 1; ++s) {
              joined += exchange[first + s * kOfSlice + f * 32];
            }
            put_elements(total[i % kOwnM][f], joined);
          }
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
      }
    }
  }

  METAL_FUNC float2 fragment_value(int i, int f) thread {
    return kHasTotal ? elements(total[i][f]) + elements(sum[i][f]) : elements(sum[i][f]);
  }

  // This lane's two elements of a fragment of its own: in row `row + i * kStepM`, from column `column + f * kStepN` on.
  METAL_FUNC float2 value(int i, int f) thread { return kSlices == 1 ? fragment_value(i, f) : elements(total[i][f]); }
};
