// From device memory to a tile in threadgroup memory, by vectors: a quarter of the loads and stores.
#pragma once

#include <metal_stdlib>

#include "tile_gemm.h"

using namespace metal;

// Vectors at any address that suits their elements.
METAL_FUNC float2 load2(device const float* from) { return *reinterpret_cast<device const packed_float2*>(from); }
METAL_FUNC float4 load4(device const float* from) { return *reinterpret_cast<device const packed_float4*>(from); }
METAL_FUNC void store2(device float* to, float2 value) { *reinterpret_cast<device packed_float2*>(to) = value; }
METAL_FUNC void store4(device float* to, float4 value) { *reinterpret_cast<device packed_float4*>(to) = value; }

METAL_FUNC half2 load2(device const half* from) { return *reinterpret_cast<device const packed_half2*>(from); }
METAL_FUNC half4 load4(device const half* from) { return *reinterpret_cast<device const packed_half4*>(from); }
METAL_FUNC void store2(device half* to, float2 value) { *reinterpret_cast<device packed_half2*>(to) = half2(value); }
METAL_FUNC void store4(device half* to, float4 value) { *reinterpret_cast<device packed_half4*>(to) = half4(value); }

#if __METAL_VERSION__ >= 310
METAL_FUNC float2 load2(device const bfloat* from) {
  return float2(as_type<bfloat2>(ushort2(*reinterpret_cast<device const packed_ushort2*>(from))));
}
METAL_FUNC float4 load4(device const bfloat* from) {
  return float4(as_type<bfloat4>(ushort4(*reinterpret_cast<device const packed_ushort4*>(from))));
}
METAL_FUNC void store2(device bfloat* to, float2 value) {
  *reinterpret_cast<device packed_ushort2*>(to) = as_type<ushort2>(bfloat2(value));
}
METAL_FUNC void store4(device bfloat* to, float4 value) {
  *reinterpret_cast<device packed_ushort4*>(to) = as_type<ushort4>(bfloat4(value));
}
#endif

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
