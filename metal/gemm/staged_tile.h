// The layout of an operand in threadgroup memory.
#pragma once

#include <metal_stdlib>

#include "fragment.h"

using namespace metal;

// An operand as staged: kRows rows or columns of the product, and kDepth deep. Along k the elements of one row (column)
// are neighbours, else those of one k. Lines are padded by 16 bytes, so that the 8 lines of a fragment lie in different
// banks.
template <typename T, int kRows, int kDepth, bool kAlongK>
struct StagedTile {
  using Element = typename Staging<T>::type;
  using Vector = vec<Element, 4>;  // of which a tile is made, so that its lines are aligned to them
  static constexpr constant int kK = kDepth;
  static constexpr constant int kWidth = kRows;
  static constexpr constant bool kIsAlongK = kAlongK;
  static constexpr constant int kStride = (kAlongK ? kK : kRows) + 16 / sizeof(Element);
  static constexpr constant int kVectors = (kAlongK ? kRows : kK) * kStride / 4;

  static constexpr int index(int k, int i) { return kAlongK ? i * kStride + k : k * kStride + i; }

  METAL_FUNC static threadgroup Element* at(threadgroup Vector* tile, int k, int i) {
    return reinterpret_cast<threadgroup Element*>(tile) + index(k, i);
  }

  // Of neighbours, the first with an even index.
  METAL_FUNC static void put2(threadgroup Element* at, vec<Element, 2> pair) {
    *reinterpret_cast<threadgroup vec<Element, 2>*>(at) = pair;
  }
};
