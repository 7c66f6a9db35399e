// Output phases: o = q * stride + phase along each axis. All outputs of one phase meet the same taps, and through each
// of these the input q + shift.
#pragma once

#include <metal_stdlib>

#include "../coord.h"
#include "../params.h"

using namespace metal;

// Columns of fragments of a tile, each of 8 output channels of one phase; and so of each simdgroup.
constant constexpr int kPolyphaseFragsN = 8;

// The phases that taps reach, in the order of the first taps that reach them: index 0 is that of tap 0.
METAL_FUNC int phase_of(constant Axis& axis, int index) {
  const int phase = (index * axis.dilation - axis.padding) % axis.stride;
  return phase < 0 ? phase + axis.stride : phase;
}

METAL_FUNC bool is_reached(constant Axis& axis, int phase, constant FastDivmod& phases) {
  bool reached = false;
  for (int i = 0; i < phases.value; ++i) {
    reached |= phase_of(axis, i) == phase;
  }
  return reached;
}

// The tap that brings input q + shift to output q * stride + phase; -1: there is none.
METAL_FUNC int tap_of(constant Axis& axis, int phase, int shift) {
  const int scaled = phase + axis.padding - shift * axis.stride;
  const int tap = scaled / axis.dilation;
  return scaled >= 0 && tap < axis.taps && tap * axis.dilation == scaled ? tap : -1;
}

// With the last quotient, outputs of this phase lie past the end.
METAL_FUNC bool last_is_beyond(constant Axis& axis, int phase) {
  return (axis.quotients - 1) * axis.stride + phase >= axis.output;
}

// A bit for each axis: whether q is the last quotient (of a row of the product), or whether the last is beyond (of a
// phase). An output with a bit of both lies past the end.
METAL_FUNC uint axis_mask(bool d, bool h, bool w) { return uint(d) | uint(h) << 1 | uint(w) << 2; }

// In the mask of a row that has no outputs, and in the masks of all phases.
constant constexpr uint kNoOutput = 1u << 3;

METAL_FUNC uint beyond_mask(constant KernelParams& p, Coord phase) {
  return axis_mask(last_is_beyond(p.depth, phase.d), last_is_beyond(p.height, phase.h),
                   last_is_beyond(p.width, phase.w)) |
         kNoOutput;
}

// A column of fragments: the phase, and in `outer` the output channels / 8.
METAL_FUNC Coord phase_of_column(constant KernelParams& p, int column) {
  const Coord at = unravel(column, p.phases);
  return {at.outer, phase_of(p.depth, at.d), phase_of(p.height, at.h), phase_of(p.width, at.w)};
}

// a / n for small a and n, with reciprocal = 65536 / n + 1.
METAL_FUNC int div_small(int a, int reciprocal) { return int(uint(a) * uint(reciprocal) >> 16); }

// unravel() for small indices and sizes. The depth has no end.
METAL_FUNC Coord unravel_small(int index, constant Extent& size, constant Extent& reciprocal) {
  const int row = div_small(index, reciprocal.w), plane = div_small(row, reciprocal.h);
  return {0, plane, row - plane * size.h, index - row * size.w};
}
