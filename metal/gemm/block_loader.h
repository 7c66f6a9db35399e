// From device memory to a tile in threadgroup memory, by vectors: a quarter of the loads and stores.
#pragma once

#include <metal_stdlib>

#include "../load_store.h"
#include "../params.h"

using namespace metal;

// Stages lines of an operand that lie `line_step` apart, each of neighbours in memory: those along k of a tile's rows
// (columns), or those along its rows (columns) of every k. This thread moves one vector of every kLineStep-th line.
template <typename Tile, typename T>
struct LineStager {
  using Element = typename Tile::Element;
  static constexpr constant int kLines = Tile::kIsAlongK ? Tile::kWidth : Tile::kK;
  static constexpr constant int kLength = Tile::kIsAlongK ? Tile::kK : Tile::kWidth;
  static constexpr constant int kVectors = kLength / 4;
  static constexpr constant int kLineStep = kGemmThreads / kVectors;

  device const T* from;
  threadgroup Element* to;
  int line, column, step;

  METAL_FUNC LineStager(threadgroup typename Tile::Vector* tile, device const T* first, int line_step,
                        uint thread_index) thread {
    line = int(thread_index / kVectors);
    column = int(thread_index % kVectors) * 4;
    step = kLineStep * line_step;
    from = first + (line * line_step + column);
    to = reinterpret_cast<threadgroup Element*>(tile) + (line * Tile::kStride + column);
  }

  // Of the lines, the first `lines` exist, and of each the first `length` elements; the others are zero.
  METAL_FUNC void stage(int lines, int length) const thread {
    const bool all = lines >= kLines && length >= kLength;
    device const T* vector = from;
#pragma unroll
    for (int l = 0; l < kLines; l += kLineStep) {
      threadgroup Element* staged = to + l * Tile::kStride;
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
      vector += step;
    }
  }
};
