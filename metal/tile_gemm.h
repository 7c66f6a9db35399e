// A threadgroup's tile of a matrix product,  C[m][n] = sum over k of A[k][m] * B[k][n],  on simdgroup matrices.
// Both operands are staged through threadgroup memory with k as the slow index, whatever their layout in device memory.
#pragma once

#include <metal_simdgroup_matrix>
#include <metal_stdlib>

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

template <typename T, int kM, int kN, int kK, int kSimdgroupsM, int kSimdgroupsN>
struct TileGemm {
  using Staged = typename Staging<T>::type;
  static constexpr constant int kThreads = 32 * kSimdgroupsM * kSimdgroupsN;
  // Rows are padded by 16 bytes, so that the 8 rows of a fragment lie in different banks.
  static constexpr constant int kPad = 16 / sizeof(Staged);
  static constexpr constant int kStrideA = kM + kPad;
  static constexpr constant int kStrideB = kN + kPad;
  // 8x8 fragments of one simdgroup.
  static constexpr constant int kFragmentsM = kM / kSimdgroupsM / 8;
  static constexpr constant int kFragmentsN = kN / kSimdgroupsN / 8;

  // A float32 sum over thousands of products loses digits to its own size: every kSumDepth, what has been summed is
  // added to a total, so that the error grows with the square root of 256 and not of the whole depth.
  static constexpr constant int kSumDepth = 256;

  // Loops over fragments are unrolled, so that these arrays lie in registers.
  simdgroup_matrix<float, 8, 8> sum[kFragmentsM][kFragmentsN];
  float2 total[kFragmentsM][kFragmentsN];  // this lane's elements of each fragment: the result, after add_to_total()
  int row, column;  // in the tile, of this lane's first element of fragment (0, 0); the second is its right neighbour
  int depth = 0;    // of sum

  TileGemm(uint simdgroup, uint lane) {
#pragma unroll
    for (int i = 0; i < kFragmentsM; ++i) {
#pragma unroll
      for (int j = 0; j < kFragmentsN; ++j) {
        sum[i][j] = make_filled_simdgroup_matrix<float, 8, 8>(0.0f);
        total[i][j] = 0;
      }
    }
    row = int(simdgroup) / kSimdgroupsN * kFragmentsM * 8 + (int(lane) / 4 & 4) + int(lane) / 2 % 4;
    column = int(simdgroup) % kSimdgroupsN * kFragmentsN * 8 + (int(lane) / 4 & 2) * 2 + int(lane) % 2 * 2;
  }

  // Copies kK x kWidth elements of `view`, from (k, i) on, with neighbouring threads along k or along i.
  template <int kWidth, bool kAlongK, typename View>
  static void stage(threadgroup Staged* tile, View view, int k, int i, uint thread_index) {
#pragma unroll
    for (int e = int(thread_index); e < kK * kWidth; e += kThreads) {
      const int tile_k = kAlongK ? e % kK : e / kWidth;
      const int tile_i = kAlongK ? e / kK : e % kWidth;
      tile[tile_k * (kWidth + kPad) + tile_i] = Staged(view.at(k, tile_k, i, tile_i));
    }
  }

  void multiply(threadgroup const Staged* a, threadgroup const Staged* b, uint simdgroup) {
    a += int(simdgroup) / kSimdgroupsN * kFragmentsM * 8;
    b += int(simdgroup) % kSimdgroupsN * kFragmentsN * 8;
#pragma unroll
    for (int k = 0; k < kK; k += 8) {
      simdgroup_matrix<Staged, 8, 8> fragment_a[kFragmentsM], fragment_b[kFragmentsN];
#pragma unroll
      for (int i = 0; i < kFragmentsM; ++i) {
        simdgroup_load(fragment_a[i], a + k * kStrideA + i * 8, kStrideA, ulong2(0), true);
      }
#pragma unroll
      for (int j = 0; j < kFragmentsN; ++j) {
        simdgroup_load(fragment_b[j], b + k * kStrideB + j * 8, kStrideB);
      }
#pragma unroll
      for (int i = 0; i < kFragmentsM; ++i) {
#pragma unroll
        for (int j = 0; j < kFragmentsN; ++j) {
          simdgroup_multiply_accumulate(sum[i][j], fragment_a[i], fragment_b[j], sum[i][j]);
        }
      }
    }
    depth += kK;
    if (depth == kSumDepth) {
      add_to_total();
    }
  }

  void add_to_total() {
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
};
