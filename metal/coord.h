// Flattened indices and the coordinates behind them, for the matrix kernels.
#pragma once

#include <metal_stdlib>

#include "params.h"

using namespace metal;

// A position of one channel, or (outer, then) a tap of one filter.
struct Place {
  int outer, d, h, w;
};

METAL_FUNC int div(int n, constant FastDivmod& by) { return int(mulhi(uint(n) * 2, by.multiplier) >> uint(by.shift)); }

// Of 0 <= index < 2^31.
METAL_FUNC Place place_of(int index, constant FastDivmods& size) {
  const int row = div(index, size.w), plane = div(row, size.h), outer = div(plane, size.d);
  return {outer, plane - outer * size.d.value, row - plane * size.h.value, index - row * size.w.value};
}

// Goes on by `by`, both within their sizes but for the outer ones: a third of the time of place_of().
METAL_FUNC void advance(thread Place& at, thread const Place& by, constant FastDivmods& size) {
  at.w += by.w;
  at.h += by.h;
  at.d += by.d;
  at.outer += by.outer;
  if (at.w >= size.w.value) {
    at.w -= size.w.value;
    ++at.h;
  }
  if (at.h >= size.h.value) {
    at.h -= size.h.value;
    ++at.d;
  }
  if (at.d >= size.d.value) {
    at.d -= size.d.value;
    ++at.outer;
  }
}

// What lies at z of a grid.
struct SampleGroup {
  int n, group;
};

METAL_FUNC SampleGroup sample_group(constant KernelParams& p, int z) {
  const int n = div(z, p.group);
  return {n, z - n * p.groups};
}

// Where a position lies within a channel.
METAL_FUNC int offset_of(constant Strides& strides, Place at) {
  return at.d * strides.depth + at.h * strides.height + at.w * strides.width;
}

METAL_FUNC int offset_of(constant Extent& steps, Place at) { return at.d * steps.d + at.h * steps.h + at.w * steps.w; }

// Where the output of an input position lies within a channel, less its tap, and what the tap adds.
METAL_FUNC int start_in_output(constant KernelParams& p, Place input) {
  return p.output_start + offset_of(p.output_of_input, input);
}
METAL_FUNC int offset_of_tap(constant KernelParams& p, Place tap) { return offset_of(p.output_of_tap, tap); }

METAL_FUNC int steps_until(int distance, int step) { return step == 1 ? distance : (distance + step - 1) / step; }

// Bit i < count: first + i * step lies in [0, end).
METAL_FUNC uint bits_within(int first, int step, int count, int end) {
  const uint before = uint(steps_until(max(-first, 0), step)), until = uint(steps_until(max(end - first, 0), step));
  const uint below = (1u << min(until, uint(count))) - 1;
  return before < uint(count) ? below >> before << before : 0;
}

// Three sets, of an axis each, in one word: the element (d, h, w) is in all three where all of its bits are.
METAL_FUNC uint joined(uint d, uint h, uint w, int bits_d, int bits_h) {
  return d | h << bits_d | w << (bits_d + bits_h);
}
METAL_FUNC uint bits_of(int d, int h, int w, int bits_d, int bits_h) {
  return joined(1u << d, 1u << h, 1u << w, bits_d, bits_h);
}
METAL_FUNC bool contains(uint set, uint bits) { return (set & bits) == bits; }

// What no set contains.
constant uint kNoBits = 1u << kMaxTapBits;
