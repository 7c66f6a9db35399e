// 8x8 fragments of a matrix product.
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

// This lane's two elements of a fragment, the first of 64 that the type of thread_elements() has.
METAL_FUNC float2 elements(thread simdgroup_matrix<float, 8, 8>& matrix) {
  return float2(matrix.thread_elements()[0], matrix.thread_elements()[1]);
}

METAL_FUNC void put_elements(thread simdgroup_matrix<float, 8, 8>& matrix, float2 value) {
  matrix.thread_elements()[0] = value.x;
  matrix.thread_elements()[1] = value.y;
}

// Adds what has been summed to a total, and begins anew.
METAL_FUNC void move_to_total(thread simdgroup_matrix<float, 8, 8>& sum, thread simdgroup_matrix<float, 8, 8>& total) {
  put_elements(total, elements(total) + elements(sum));
  sum = make_filled_simdgroup_matrix<float, 8, 8>(0.0f);
}
