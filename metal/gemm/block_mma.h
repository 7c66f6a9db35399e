// A threadgroup's tile of a matrix product,  C[m][n] = sum over k of A[m][k] * B[k][n],  on simdgroup matrices.
#pragma once

#include <metal_simdgroup_matrix>
#include <metal_stdlib>

#include "../params.h"
#include "fragment.h"

using namespace metal;

// TileA and TileB are StagedTiles of BM rows and BN columns. The tile's fragments are dealt out to the simdgroups in
// turn along both axes, so that a tile that is not full keeps all of them busy. A small tile has fewer fragments than
// simdgroups need: then several simdgroups, kKSlices, have the same ones, and each multiplies a slice of BK.
//
// Every kChunkK, the sums are flushed to totals, so that the rounding error of K products is that of kChunkK and
// K / kChunkK additions. 0: never; then there is room for twice the accumulators.
template <typename TileA, typename TileB, int kChunkK>
struct BlockMMA {
  using Element = typename TileA::Element;
  static constexpr constant int kKSlices = k_slices(TileA::kWidth, TileB::kWidth);
  static constexpr constant int kSimdgroupsM = TileA::kWidth / 32;
  static constexpr constant int kSimdgroupsN = kGemmThreads / 32 / kKSlices / kSimdgroupsM;
  static constexpr constant int kFragsK = TileA::kBK / kKSlices / 8;  // of a slice
  // Fragments of one simdgroup, and elements from one of them to the next.
  static constexpr constant int kFragsM = TileA::kWidth / kSimdgroupsM / 8;
  static constexpr constant int kFragsN = TileB::kWidth / kSimdgroupsN / 8;
  static constexpr constant int kFragStrideM = kSimdgroupsM * 8, kFragStrideN = kSimdgroupsN * 8;
  static constexpr constant bool kHasTotal = kChunkK > 0;
  // Rows of fragments that a simdgroup is left with by reduce_k_slices().
  static constexpr constant int kFragsAfterReduceM = kFragsM / kKSlices;
  // Vectors of both tiles, the second behind the first. reduce_k_slices() uses the same memory.
  static constexpr constant int kVectors = TileA::kVectors + TileB::kVectors;
  static_assert((kKSlices - 1) * kSimdgroupsN * kFragsN * 32 * sizeof(float2) <=
                    kVectors * sizeof(typename TileA::Vector),
                "room for what reduce_k_slices() exchanges");
  static_assert(kFragsM == 4, "multiply() has a case for each number of rows");
  static_assert(kKSlices == 1 || (kSimdgroupsM == 1 && kHasTotal), "the rows of a slice are those of the tile");

  // Loops over fragments are unrolled, and functions inlined (METAL_FUNC), so that these arrays lie in registers.
  simdgroup_matrix<float, 8, 8> sum[kFragsM][kFragsN];
  simdgroup_matrix<float, 8, 8> total[kHasTotal ? kFragsM : 1][kHasTotal ? kFragsN : 1];
  int frags_m, frags_n;  // this simdgroup's fragments that are not beyond the edge
  int k_slice, simdgroup_n, lane;
  int row, column;         // in the tile, of this lane's first element of fragment (0, 0) after reduce_k_slices()
  int a_offset, b_offset;  // of this simdgroup's fragment (0, 0) in the staged tiles
  int k_of_chunk = 0;      // products in `sum`

  // The tile has `rows` rows and `columns` columns; what is beyond BM and BN does not count.
  METAL_FUNC BlockMMA(uint simdgroup, uint lane_index, int rows, int columns) thread {
#pragma unroll
    for (int i = 0; i < kFragsM; ++i) {
#pragma unroll
      for (int j = 0; j < kFragsN; ++j) {
        sum[i][j] = make_filled_simdgroup_matrix<float, 8, 8>(0.0f);
        if (kHasTotal) {
          total[i][j] = make_filled_simdgroup_matrix<float, 8, 8>(0.0f);
        }
      }
    }
    // Unsigned, so that divisions by powers of two are shifts.
    constexpr uint kOfSlice = kSimdgroupsM * kSimdgroupsN, kOfRow = kSimdgroupsN;
    lane = int(lane_index);
    k_slice = int(simdgroup / kOfSlice);
    simdgroup_n = int(simdgroup % kOfRow);
    const int first_row = int(simdgroup % kOfSlice / kOfRow) * 8, first_column = simdgroup_n * 8;
    frags_m = min(int(uint(max(rows - first_row + kFragStrideM - 1, 0)) / kFragStrideM), kFragsM);
    frags_n = min(int(uint(max(columns - first_column + kFragStrideN - 1, 0)) / kFragStrideN), kFragsN);
    a_offset = TileA::index(k_slice * kFragsK * 8, first_row);
    b_offset = TileB::index(k_slice * kFragsK * 8, first_column);
    row = k_slice * kFragsAfterReduceM * kFragStrideM + first_row + fragment_row(lane_index);
    column = first_column + fragment_column(lane_index);
  }

  // sum += A * B of the staged tiles, whose elements past `length` along K are zero.
  METAL_FUNC void multiply(threadgroup const typename TileA::Vector* a, threadgroup const typename TileB::Vector* b,
                           int length) thread {
    threadgroup const Element* own_a = reinterpret_cast<threadgroup const Element*>(a) + a_offset;
    threadgroup const Element* own_b = reinterpret_cast<threadgroup const Element*>(b) + b_offset;
    switch (kKSlices == 1 || k_slice * kFragsK * 8 < length ? frags_m : 0) {
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
    k_of_chunk += kFragsK * 8;
    if (kHasTotal && k_of_chunk == kChunkK) {
      flush();
    }
  }

  template <int kRows>
  METAL_FUNC void multiply_rows(threadgroup const Element* a, threadgroup const Element* b) thread {
    // kFragsM and not kRows: a kernel's registers are fixed.
    simdgroup_matrix<Element, 8, 8> a_frag[kFragsK][kFragsM], b_frag;
#pragma unroll
    for (int k = 0; k < kFragsK; ++k) {
#pragma unroll
      for (int i = 0; i < kRows; ++i) {
        simdgroup_load(a_frag[k][i], a + TileA::index(k * 8, i * kFragStrideM), TileA::kLd, ulong2(0),
                       !TileA::kIsAlongK);
      }
    }
#pragma unroll
    for (int j = 0; j < kFragsN; ++j) {
      if (j < frags_n) {
#pragma unroll
        for (int k = 0; k < kFragsK; ++k) {
          simdgroup_load(b_frag, b + TileB::index(k * 8, j * kFragStrideN), TileB::kLd, ulong2(0), TileB::kIsAlongK);
#pragma unroll
          for (int i = 0; i < kRows; ++i) {
            simdgroup_multiply_accumulate(sum[i][j], a_frag[k][i], b_frag, sum[i][j]);
          }
        }
      }
    }
  }

  METAL_FUNC void flush() thread {
#pragma unroll
    for (int i = 0; i < kFragsM; ++i) {
#pragma unroll
      for (int j = 0; j < kFragsN; ++j) {
        flush_to_total(sum[i][j], total[i][j]);
      }
    }
    k_of_chunk = 0;
  }

  // Adds up the slices, after the last multiply() and a barrier. Each slice then has kFragsAfterReduceM rows of
  // fragments.
  METAL_FUNC void reduce_k_slices(threadgroup typename TileA::Vector* staged) thread {
    if (kKSlices == 1) {
      return;
    }
    threadgroup float2* exchange = reinterpret_cast<threadgroup float2*>(staged) + lane;
    constexpr int kOfSlice = kSimdgroupsN * kFragsN * 32;
    const int first = simdgroup_n * kFragsN * 32;
#pragma unroll
    for (int i = 0; i < kFragsM; ++i) {
      const int owner = i / kFragsAfterReduceM;
      if (i < frags_m) {
        if (k_slice != owner) {
#pragma unroll
          for (int f = 0; f < kFragsN; ++f) {
            exchange[first + (k_slice < owner ? k_slice : k_slice - 1) * kOfSlice + f * 32] = sum_of_chunks(i, f);
          }
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        if (k_slice == owner) {
#pragma unroll
          for (int f = 0; f < kFragsN; ++f) {
            float2 reduced = sum_of_chunks(i, f);
#pragma unroll
            for (int s = 0; s < kKSlices - 1; ++s) {
              reduced += exchange[first + s * kOfSlice + f * 32];
            }
            put_elements(total[i % kFragsAfterReduceM][f], reduced);
          }
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
      }
    }
  }

  METAL_FUNC float2 sum_of_chunks(int i, int f) thread {
    return kHasTotal ? elements(total[i][f]) + elements(sum[i][f]) : elements(sum[i][f]);
  }

  // This lane's two elements of fragment (i, f): in row `row + i * kFragStrideM`, from column
  // `column + f * kFragStrideN` on.
  METAL_FUNC float2 value(int i, int f) thread { return kKSlices == 1 ? sum_of_chunks(i, f) : elements(total[i][f]); }
};
