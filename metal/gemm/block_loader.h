// From device memory to a tile in threadgroup memory, by vectors: a quarter of the loads and stores.
#pragma once

#include <metal_stdlib>

#include "../load_store.h"
#include "../params.h"

using namespace metal;

// Stages the lines of a StagedTile from lines that are contiguous in device memory, and `ld` elements apart. A thread
// moves one vector of every kLineStep-th line.
template <typename Tile, typename T>
struct BlockLoader {
  using Element = typename Tile::Element;
  static constexpr constant int kLines = Tile::kIsAlongK ? Tile::kWidth : Tile::kBK;
  static constexpr constant int kLength = Tile::kIsAlongK ? Tile::kBK : Tile::kWidth;
  static constexpr constant int kVectors = kLength / 4;  // of a line
  static constexpr constant int kLineStep = kGemmThreads / kVectors;

  device const T* src;  // of this thread's first vector
  threadgroup Element* dst;
  int line, column, src_step;

  METAL_FUNC BlockLoader(threadgroup typename Tile::Vector* tile, device const T* first, int ld,
                         uint thread_index) thread {
    line = int(thread_index / kVectors);
    column = int(thread_index % kVectors) * 4;
    src_step = kLineStep * ld;
    src = first + (line * ld + column);
    dst = reinterpret_cast<threadgroup Element*>(tile) + (line * Tile::kLd + column);
  }

  // Stages the first `length` elements of the first `lines` lines, and zeros in place of the others.
  METAL_FUNC void load_safe(int lines, int length) const thread {
    const bool all = lines >= kLines && length >= kLength;
    device const T* vector = src;
#pragma unroll
    for (int l = 0; l < kLines; l += kLineStep) {
      threadgroup Element* staged = dst + l * Tile::kLd;
      if (kLines % kLineStep != 0 && line + l >= kLines) {
        break;
      }
      if (all || (line + l < lines && column + 4 <= length)) {
        *reinterpret_cast<threadgroup typename Tile::Vector*>(staged) = load4(vector);
      } else if (line + l >= lines || column >= length) {
        *reinterpret_cast<threadgroup typename Tile::Vector*>(staged) = 0;
      } else {
        for (int i = 0; i < 4; ++i) {
          staged[i] = column + i < length ? Element(vector[i]) : Element(0);
        }
      }
      vector += src_step;
    }
  }
};
