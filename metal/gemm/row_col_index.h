// The gathered operand of both gradients, for any stride, padding, dilation and kernel.
//
// Input position m = (d, h, w) reaches the output through column j = (o, kd, kh, kw) of the weight, as it lies in
// memory, at Y[m][j]: the gradient of the output at offset(m) + offset(j), or nowhere, where
// m * stride + k * dilation - padding is outside. With X[c][m] the input and W[c][j] the weight:
//     input grad     X[c][m] = sum over j of W[c][j] * Y[m][j]
//     weight grad    W[c][j] = sum over m of X[c][m] * Y[m][j]      (and over n)
#pragma once

#include <metal_stdlib>

#include "../coord.h"
#include "../params.h"

using namespace metal;

// ceil(distance / step), for distance >= 0.
METAL_FUNC int steps_until(int distance, int step) { return step == 1 ? distance : (distance + step - 1) / step; }

// Bit k: tap k brings `input` to an output inside.
METAL_FUNC uint valid_taps(constant Axis& axis, int input) {
  const int first = input * axis.stride - axis.padding;
  const uint before = uint(steps_until(max(-first, 0), axis.dilation));
  const uint until = uint(steps_until(max(axis.output - first, 0), axis.dilation));
  const uint below = (1u << min(until, uint(axis.taps))) - 1;
  return before < uint(axis.taps) ? below >> before << before : 0;
}

// One word of three masks, which have a bit for each tap of an axis.
METAL_FUNC uint join_masks(constant KernelParams& p, uint d, uint h, uint w) {
  return d | h << p.depth.taps | w << (p.depth.taps + p.height.taps);
}

// No valid_taps have it.
constant uint kNoTap = 1u << kMaxTapBits;

METAL_FUNC bool are_valid(uint valid_taps, uint tap_mask) { return (valid_taps & tap_mask) == tap_mask; }

// A row m of Y: offset(m) in X and in Y, each within a channel, and the taps that reach an output from there. Where
// p.non_overlapping all do, and the masks are 0.
struct RowIndex {
  int x, y;
  uint valid_taps;
};

METAL_FUNC RowIndex row_index(constant KernelParams& p, Coord at) {
  uint taps = 0;
  if (!p.non_overlapping) {
    taps = join_masks(p, valid_taps(p.depth, at.d), valid_taps(p.height, at.h), valid_taps(p.width, at.w));
  }
  return {offset_of(p.input, at), output_of_input(p, at), taps};
}

// A column j of Y: offset(j), and a bit for its tap along each axis; kNoTap of a column past the group's last.
struct ColIndex {
  int y;
  uint tap_mask;
};

METAL_FUNC ColIndex col_index(constant KernelParams& p, Coord at) {
  uint tap_mask = 0;
  if (!p.non_overlapping) {
    tap_mask = join_masks(p, 1u << at.d, 1u << at.h, 1u << at.w);
  }
  return {at.outer * int(p.output.channel) + output_of_tap(p, at), at.outer < p.out_channels ? tap_mask : kNoTap};
}

// Rows (columns) whose indices are computed at a time: one by a thread.
enum { kIndexBlock = 64 };

// Computes the next kIndexBlock of them. `own` is this thread's position (column), `step` that of kIndexBlock.
METAL_FUNC void fill_row_block(threadgroup RowIndex* block, constant KernelParams& p, thread Coord& own,
                               thread const Coord& step, uint thread_index) {
  if (thread_index < kIndexBlock) {
    block[thread_index] = row_index(p, own);
    advance(own, step, p.inputs);
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
}

METAL_FUNC void fill_col_block(threadgroup ColIndex* block, constant KernelParams& p, thread Coord& own,
                               thread const Coord& step, uint thread_index) {
  if (thread_index < kIndexBlock) {
    block[thread_index] = col_index(p, own);
    advance(own, step, p.taps);
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
}
