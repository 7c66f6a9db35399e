// What the forward pass by phases stages in threadgroup memory: 8 input channels of the positions of a box and its
// halo, and of the weights of the taps, 8 output channels each.
#pragma once

#include <metal_stdlib>

#include "../coord.h"
#include "../params.h"
#include "phase.h"

using namespace metal;

// Stages 8 elements that lie `step` apart; only the first `count` exist, the others are zero.
template <typename Element, typename T, typename Step>
METAL_FUNC void load_8(threadgroup Element* dst, device const T* src, Step step, int count) {
  vec<Element, 4> half_row[2];
  if (count >= 8) {
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      half_row[i / 4][i % 4] = Element(*src);
      src += step;
    }
  } else {
    half_row[0] = half_row[1] = 0;
#pragma unroll
    for (int i = 0; i < 7; ++i) {
      if (i < count) {
        half_row[i / 4][i % 4] = Element(*src);
        src += step;
      }
    }
  }
  threadgroup vec<Element, 4>* half_rows = reinterpret_cast<threadgroup vec<Element, 4>*>(dst);
  half_rows[0] = half_row[0];
  half_rows[1] = half_row[1];
}

// Stages the inputs: 8 channels of each position. A thread has every threads-th position.
template <typename T, typename Element>
struct InputLoader {
  int offset[kPolyphasePositions];  // of this thread's positions in a channel; -1: outside of the input, or none
  threadgroup Element* dst;
  int position, step;  // this thread's first position, and from one to the next

  METAL_FUNC InputLoader(threadgroup Element* staged, int thread_index, int threads) thread {
    dst = staged + thread_index * kPolyphaseBK;
    position = thread_index;
    step = threads;
  }

  // Goes to the positions from `start` on. What lies outside of the input is staged here, as zeros.
  METAL_FUNC void find(constant KernelParams& p, constant PolyphaseTile& t, Coord start, device const T* x) thread {
#pragma unroll
    for (int i = 0; i < kPolyphasePositions; ++i) {
      offset[i] = -1;
      if (position + i * step < t.positions) {
        Coord at = unravel_small(position + i * step, t.staged, t.staged_reciprocal);
        if (t.copies > 1) {
          const int copy = at.d / t.staged.d, copy_w = copy / t.copies_h;
          at = {0, at.d - copy * t.staged.d, at.h + copy - copy_w * t.copies_h, at.w + copy_w};
        }
        at = {0, start.d + at.d, start.h + at.h, start.w + at.w};
        if (uint(at.d) < uint(p.depth.input) && uint(at.h) < uint(p.height.input) && uint(at.w) < uint(p.width.input)) {
          offset[i] = offset_of(p.input, at);
        } else {
          load_8(dst + i * step * kPolyphaseBK, x, 0, 0);
        }
      }
    }
  }

  // Stages the 8 channels from x on, of which `channels` exist.
  METAL_FUNC void load_safe(device const T* x, long channel_stride, int channels) const thread {
    threadgroup Element* to = dst;
#pragma unroll
    for (int i = 0; i < kPolyphasePositions; ++i) {
      if (offset[i] >= 0) {
        load_8(to, x + offset[i], channel_stride, channels);
      }
      to += step * kPolyphaseBK;
    }
  }
};

// The tap whose weights a lane stages: [8][8] input and output channels, of which `outputs` exist. `offset`: from the
// first weight of the group; `count`: taps that are staged, the first of them by lane 0.
struct LaneTap {
  int count, offset, outputs;
};

// Stages the weights of this lane's tap for 8 input channels from w on, of which `channels` exist. A simdgroup has
// every simdgroups-th channel, from that of `dst` and `w` on.
template <typename T, typename Element>
METAL_FUNC void load_weights(threadgroup Element* dst, device const T* w, int filter_size, int channel_stride,
                             int outputs, int channels, int simdgroup, int simdgroups) {
  for (int k = simdgroup; k < kPolyphaseBK; k += simdgroups) {
    load_8(dst, w, filter_size, k < channels ? outputs : 0);
    w += simdgroups * channel_stride;
    dst += simdgroups * 8;
  }
}
