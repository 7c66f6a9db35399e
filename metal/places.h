// Flattened indices and the coordinates behind them, for the matrix kernels.
#pragma once

#include "conv_transpose3d_params.h"

// A position of one channel, or (outer, then) a tap of one filter.
struct Place {
  int outer, d, h, w;
};

struct Extent {
  int d, h, w;
};

inline Place place_of(int index, Extent size) {
  const int row = index / size.w, plane = row / size.h;
  return {plane / size.d, plane % size.d, row % size.h, index % size.w};
}

// place_of(a + b) from those of a and b, without a division.
inline Place sum_of(Place a, Place b, Extent size) {
  Place sum = {a.outer + b.outer, a.d + b.d, a.h + b.h, a.w + b.w};
  if (sum.w >= size.w) {
    sum.w -= size.w;
    ++sum.h;
  }
  if (sum.h >= size.h) {
    sum.h -= size.h;
    ++sum.d;
  }
  if (sum.d >= size.d) {
    sum.d -= size.d;
    ++sum.outer;
  }
  return sum;
}

inline int product(Extent size) { return size.d * size.h * size.w; }

inline Extent taps_of(constant ConvTranspose3dParams& p) { return {p.depth.taps, p.height.taps, p.width.taps}; }
inline Extent inputs_of(constant ConvTranspose3dParams& p) { return {p.depth.input, p.height.input, p.width.input}; }

// Where a position lies within a channel.
inline int offset_of(constant Strides& strides, Place at) {
  return at.d * strides.depth + at.h * strides.height + at.w * strides.width;
}

// Bit i: first + i * step lies in [0, end).
inline uint bits_within(int first, int step, int count, int end) {
  if (first >= 0 && first + (count - 1) * step < end) {
    return (1u << count) - 1;
  }
  uint bits = 0;
  for (int i = 0; i < count; ++i) {
    bits |= uint(uint(first + i * step) < uint(end)) << i;
  }
  return bits;
}

// Three sets, of an axis each, in one word: the element (d, h, w) is in all three where all of its bits are.
inline uint joined(uint d, uint h, uint w, int bits_d, int bits_h) { return d | h << bits_d | w << (bits_d + bits_h); }
inline uint bits_of(int d, int h, int w, int bits_d, int bits_h) {
  return joined(1u << d, 1u << h, 1u << w, bits_d, bits_h);
}
inline bool contains(uint set, uint bits) { return (set & bits) == bits; }

// What no set contains.
constant uint kNoBits = 1u << kMaxReachBits;
