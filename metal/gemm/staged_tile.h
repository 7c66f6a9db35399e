// The layout of an operand in threadgroup memory.
#pragma once

#include <metal_stdlib>

#include "fragment.h"

using namespace metal;

// kTileWidth rows of A, or columns of B, of kTileK elements each. kAlongK: each row (column) is contiguous, so that a
// line runs along K; else the elements of each k are. 16 bytes of padding put the 8 lines of a fragment into different
// banks.
template <typename T, int kTileWidth, int kTileK, bool kAlongK>
struct StagedTile {
  using Element = typename Staging<T>::type;
  using Vector = vec<Element, 4>;  // lines are aligned to it
  static constexpr constant int kBK = kTileK;
  static constexpr constant int kWidth = kTileWidth;
  static constexpr constant bool kIsAlongK = kAlongK;
  static constexpr constant int kLd = (kAlongK ? kTileK : kTileWidth) + 16 / sizeof(Element);  // elements of a line
  static constexpr constant int kVectors = (kAlongK ? kTileWidth : kTileK) * kLd / 4;

  static constexpr int index(int k, int i) { return kAlongK ? i * kLd + k : k * kLd + i; }

  METAL_FUNC static threadgroup Element* at(threadgroup Vector* tile, int k, int i) {
    return reinterpret_cast<threadgroup Element*>(tile) + index(k, i);
  }

  // Stores two adjacent elements of a line. The index of the first is even, so that `at` is aligned to the pair.
  METAL_FUNC static void put2(threadgroup Element* at, vec<Element, 2> pair) {
    *reinterpret_cast<threadgroup vec<Element, 2>*>(at) = pair;
  }
};
