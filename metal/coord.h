// Coordinates of flattened indices, and offsets of coordinates.
#pragma once

#include <metal_stdlib>

#include "params.h"

using namespace metal;

// A position of a volume, or a tap of a kernel. `outer` counts the volumes, or kernels, that a flattened index passes.
struct Coord {
  int outer, d, h, w;
};

// n / by, for 0 <= n < 2^31.
METAL_FUNC int div(int n, constant FastDivmod& by) { return int(mulhi(uint(n) * 2, by.multiplier) >> uint(by.shift)); }

// The coordinate of a flattened index, 0 <= index < 2^31.
METAL_FUNC Coord unravel(int index, constant FastDivmods& size) {
  const int row = div(index, size.w), plane = div(row, size.h), outer = div(plane, size.d);
  return {outer, plane - outer * size.d.value, row - plane * size.h.value, index - row * size.w.value};
}

// at += by, with carries. d, h and w of both lie within their sizes. It takes a third of the time of unravel().
METAL_FUNC void advance(thread Coord& at, thread const Coord& by, constant FastDivmods& size) {
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

// z of a grid enumerates (n, group) pairs. n is a sample, or a split.
struct BatchGroup {
  int n, group;
};

METAL_FUNC BatchGroup batch_group(constant KernelParams& p, int z) {
  const int n = div(z, p.group);
  return {n, z - n * p.groups};
}

// dot(at, strides): the offset of a position within a channel.
METAL_FUNC int offset_of(constant Strides& strides, Coord at) {
  return at.d * strides.depth + at.h * strides.height + at.w * strides.width;
}

METAL_FUNC int offset_of(constant Extent& steps, Coord at) { return at.d * steps.d + at.h * steps.h + at.w * steps.w; }

// The output that an input reaches through a tap lies at output_of_input() + output_of_tap() within a channel.
METAL_FUNC int output_of_input(constant KernelParams& p, Coord input) {
  return p.output_start + offset_of(p.output_of_input, input);
}
METAL_FUNC int output_of_tap(constant KernelParams& p, Coord tap) { return offset_of(p.output_of_tap, tap); }
