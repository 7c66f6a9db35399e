// The gradients of ConvTranspose3d as matrix products, for any stride, padding, dilation and kernel.
//
// With m = (d, h, w) an input position and j = (o, kd, kh, kw) a column of the weight as it lies in memory, the input
// meets the output through it at Y[m][j], which lies at offset(m) + offset(j), or nowhere where m * stride + k *
// dilation - padding is outside of the output. With X[c][m] the input and W[c][j] the weight, all in place:
//     input grad     X[c][m] = sum over j of W[c][j] * Y[m][j]
//     weight grad    W[c][j] = sum over m of X[c][m] * Y[m][j]      (and over n: split-K, then a fixed-order sum)
#pragma once

#include <metal_stdlib>

#include "../coord.h"
#include "../params.h"

using namespace metal;

// An input position: where it lies within a channel of X and, less what its column adds, of Y; and the taps, along each
// axis, that reach an output from there. Where the kernel tiles the output all do, and nobody looks.
struct Position {
  int x, y;
  uint reaching;
};

METAL_FUNC uint taps_reaching(constant Axis& axis, int input) {
  return bits_within(input * axis.stride - axis.padding, axis.dilation, axis.taps, axis.output);
}

METAL_FUNC Position position_at(constant KernelParams& p, Place at) {
  uint reaching = 0;
  if (!p.non_overlapping) {
    reaching = joined(taps_reaching(p.depth, at.d), taps_reaching(p.height, at.h), taps_reaching(p.width, at.w),
                      p.depth.taps, p.height.taps);
  }
  return {offset_of(p.input, at), start_in_output(p, at), reaching};
}

// A column: where it lies in Y, less its row; and its tap, if it is a column of this group.
struct Column {
  int y;
  uint tap;
};

METAL_FUNC Column column_at(constant KernelParams& p, Place at) {
  uint tap = 0;
  if (!p.non_overlapping) {
    tap = bits_of(at.d, at.h, at.w, p.depth.taps, p.height.taps);
  }
  return {at.outer * int(p.output.channel) + offset_of_tap(p, at), at.outer < p.out_channels ? tap : kNoBits};
}

// Columns, or positions, are looked up for so many at a time, one by a thread.
enum { kAhead = 64 };
