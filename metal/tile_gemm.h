// A threadgroup's tile of a matrix product,  C[m][n] = sum over k of A[m][k] * B[k][n],  on simdgroup matrices.
// Both operands are staged through threadgroup memory, kK deep, in the order in which device memory is read.
#pragma once

#include <metal_simdgroup_matrix>
#include <metal_stdlib>

#include "conv_transpose3d_params.h"

using namespace metal;

// What a type is staged and multiplied as. Before Apple9 bfloat arithmetic is emulated: multiply it as float.
template <typename T>
struct Staging {
  using type = T;
};
#if __METAL_VERSION__ >= 310
template <>
struct Staging<bfloat> {
  using type = float;
};
#endif

// An operand as staged: kRows rows or columns of the product, and kK deep. Along k the elements of one row (column)
// are neighbours, else those of one k. Lines are padded by 16 bytes, so that the 8 lines of a fragment lie in different
// banks.
template <typename T, int kRows, bool kAlongK>
struct StagedTile {
  using Element = typename Staging<T>::type;
  using Vector = vec<Element, 4>;  // of which a tile is made, so that its lines are aligned to them
  static constexpr constant int kK = kGemmDepth;
  static constexpr constant int kWidth = kRows;
  static constexpr constant bool kIsAlongK = kAlongK;
  static constexpr constant int kStride = (kAlongK ? kK : kRows) + 16 / sizeof(Element);
  static constexpr constant int kSize = (kAlongK ? kRows : kK) * kStride;

  static constexpr int index(int k, int i) { return kAlongK ? i * kStride + k : k * kStride + i; }

  METAL_FUNC static threadgroup Element* at(threadgroup Vector* tile, int k, int i) {
    return reinterpret_cast<threadgroup Element*>(tile) + index(k, i);
  }

  // Of neighbours, the first with an even index.
  METAL_FUNC static void put2(threadgroup Element* at, vec<Element, 2> pair) {
    *reinterpret_cast<threadgroup vec<Element, 2>*>(at) = pair;
  }
};

// A bit for each 8 of a tile's columns that are fewer than `count` on.
inline uint fragments_below(int count) { return count >= 256 ? ~0u : (1u << ((count + 7) / 8)) - 1; }

// TileA and TileB are StagedTiles. A float32 sum over thousands of products loses digits to its own size: every
// kSumDepth, what has been summed is added to a total, so that the error grows with the square root of kSumDepth and
// not of the whole depth. 0: never, and there is room for twice the accumulators.
template <typename TileA, typename TileB, int kM, int kN, int kSimdgroupsM, int kSimdgroupsN, int kSumDepth>
struct TileGemm {
  using Staged = typename TileA::Element;
  static constexpr constant int kK = kGemmDepth;
  // 8x8 fragments of one simdgroup.
  static constexpr constant int kFragmentsM = kM / kSimdgroupsM / 8;
  static constexpr constant int kFragmentsN = kN / kSimdgroupsN / 8;

  static constexpr constant bool kHasTotal = kSumDepth > 0;

  // Loops over fragments are unrolled, and functions inlined (METAL_FUNC), so that these arrays lie in registers.
  simdgroup_matrix<float, 8, 8> sum[kFragmentsM][kFragmentsN];
  float2 total[kHasTotal ? kFragmentsM : 1][kHasTotal ? kFragmentsN : 1];  // this lane's elements of each fragment
  int first_row, first_column;                                             // of this simdgroup
  int row, column;  // in the tile, of this lane's first element of fragment (0, 0); the second is its right neighbour
  bool idle;
  int from_a, from_b;  // where this simdgroup's fragments lie in the tiles
  int depth = 0;       // of sum

  // `rows`: how many of the tile's exist. A simdgroup that has none of them multiplies nothing.
  METAL_FUNC TileGemm(uint simdgroup, uint lane, int rows = kM) {
#pragma unroll
    for (int i = 0; i < kFragmentsM; ++i) {
#pragma unroll
      for (int j = 0; j < kFragmentsN; ++j) {
        sum[i][j] = make_filled_simdgroup_matrix<float, 8, 8>(0.0f);
        if (kHasTotal) {
          total[i][j] = 0;
        }
      }
    }
    first_row = int(simdgroup / kSimdgroupsN) * kFragmentsM * 8;
    first_column = int(simdgroup % kSimdgroupsN) * kFragmentsN * 8;
    idle = first_row >= rows;
    from_a = TileA::index(0, first_row);
    from_b = TileB::index(0, first_column);
    row = first_row + (int(lane) / 4 & 4) + int(lane) / 2 % 4;
    column = first_column + (int(lane) / 4 & 2) * 2 + int(lane) % 2 * 2;
  }

  // `columns`: a bit for each 8 columns of the tile that take part.
  METAL_FUNC void multiply(threadgroup const typename TileA::Vector* a, threadgroup const typename TileB::Vector* b,
                           uint columns) {
    multiply(reinterpret_cast<threadgroup const Staged*>(a), reinterpret_cast<threadgroup const Staged*>(b), columns);
  }

  METAL_FUNC void multiply(threadgroup const Staged* a, threadgroup const Staged* b, uint columns) {
    if (idle) {
      return;
    }
    a += from_a;
    b += from_b;
    columns >>= uint(first_column) / 8;
    simdgroup_matrix<Staged, 8, 8> fragment_a[kK / 8][kFragmentsM], fragment_b;
#pragma unroll
    for (int k = 0; k < kK / 8; ++k) {
#pragma unroll
      for (int i = 0; i < kFragmentsM; ++i) {
        simdgroup_load(fragment_a[k][i], a + TileA::index(k * 8, i * 8), TileA::kStride, ulong2(0), !TileA::kIsAlongK);
      }
    }
#pragma unroll
    for (int j = 0; j < kFragmentsN; ++j) {
      if (columns & 1u << j) {
#pragma unroll
        for (int k = 0; k < kK / 8; ++k) {
          simdgroup_load(fragment_b, b + TileB::index(k * 8, j * 8), TileB::kStride, ulong2(0), TileB::kIsAlongK);
#pragma unroll
          for (int i = 0; i < kFragmentsM; ++i) {
            simdgroup_multiply_accumulate(sum[i][j], fragment_a[k][i], fragment_b, sum[i][j]);
          }
        }
      }
    }
    depth += kK;
    if (kHasTotal && depth == kSumDepth) {
      add_to_total();
    }
  }

  METAL_FUNC void add_to_total() {
#pragma unroll
    for (int i = 0; i < kFragmentsM; ++i) {
#pragma unroll
      for (int j = 0; j < kFragmentsN; ++j) {
        total[i][j] += float2(sum[i][j].thread_elements());
        sum[i][j] = make_filled_simdgroup_matrix<float, 8, 8>(0.0f);
      }
    }
    depth = 0;
  }

  // This lane's two elements of a fragment, after the last multiply().
  METAL_FUNC float2 value(int i, int j) {
    const float2 last = float2(sum[i][j].thread_elements());
    return kHasTotal ? total[i][j] + last : last;
  }
};
