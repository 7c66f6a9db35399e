// Fragments: the 8x8 matrices that a simdgroup multiplies.
#pragma once

#include <metal_simdgroup_matrix>
#include <metal_stdlib>

using namespace metal;

// The type that elements are staged and multiplied as. bfloat is widened: before Apple9 its arithmetic is emulated.
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

// This lane's two elements of a fragment. The type of thread_elements() has 64, of which these are the first.
METAL_FUNC float2 elements(thread simdgroup_matrix<float, 8, 8>& matrix) {
  return float2(matrix.thread_elements()[0], matrix.thread_elements()[1]);
}

METAL_FUNC void put_elements(thread simdgroup_matrix<float, 8, 8>& matrix, float2 value) {
  matrix.thread_elements()[0] = value.x;
  matrix.thread_elements()[1] = value.y;
}

// total += sum; sum = 0.
METAL_FUNC void flush_to_total(thread simdgroup_matrix<float, 8, 8>& sum, thread simdgroup_matrix<float, 8, 8>& total) {
  put_elements(total, elements(total) + elements(sum));
  sum = make_filled_simdgroup_matrix<float, 8, 8>(0.0f);
}

// The row and the first column of this lane's elements; the second element is to the right of the first.
METAL_FUNC int fragment_row(uint lane) { return int((lane / 4 & 4) + lane / 2 % 4); }
METAL_FUNC int fragment_column(uint lane) { return int((lane / 4 & 2) * 2 + lane % 2 * 2); }
