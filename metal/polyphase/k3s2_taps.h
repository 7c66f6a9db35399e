// The taps of kernel 3, stride 2, padding 1, which the compiler knows: no test is left in the loop.
#pragma once

#include <metal_stdlib>

#include "../common.h"
#include "../coord.h"
#include "../params.h"
#include "epilogue.h"
#include "loader.h"
#include "phase.h"

using namespace metal;

// Along an axis, phase 0 has tap 1 with shift 0, phase 1 has taps 2 and 0 with shifts 0 and 1. A phase, or shift, of
// three axes is a number of three bits, the depth's the highest. The 8 columns of fragments are the 8 phases.
constexpr uint k3s2_taps_of_phase(int phase) { return (1 + (phase >> 2)) * (1 + (phase >> 1 & 1)) * (1 + (phase & 1)); }
constexpr bool k3s2_has_tap(int phase, int shift) { return (shift & ~phase) == 0; }
constexpr int k3s2_tap_of_axis(int phase, int shift) { return phase + 1 - 2 * shift; }
constexpr int k3s2_tap(int phase, int shift) {
  return (k3s2_tap_of_axis(phase >> 2, shift >> 2) * 3 + k3s2_tap_of_axis(phase >> 1 & 1, shift >> 1 & 1)) * 3 +
         k3s2_tap_of_axis(phase & 1, shift & 1);
}

struct K3S2Taps {
  // Not empty: no variable without members has been seen in threadgroup memory.
  struct Tables {
    int unused;
  };

  int pitch_d, pitch_h, pitch_w;
  int steps = 0;

  METAL_FUNC K3S2Taps(constant KernelParams&, constant PolyphaseTile& t) thread {
    pitch_d = t.pitch.d;
    pitch_h = t.pitch.h;
    pitch_w = t.pitch.w;
  }

  METAL_FUNC static int filter_size(constant KernelParams&) { return 27; }

  METAL_FUNC static void fill_tables(threadgroup Tables&, constant KernelParams&, int, int, int) {}

  // The tap of this lane. All 27 are staged at a time.
  METAL_FUNC static LaneTap next_block(threadgroup Tables&, constant KernelParams& p, constant PolyphaseTile&, Coord,
                                       int column_tile, int, int lane) {
    return {27, column_tile * 8 * 27 + lane, p.out_channels - column_tile * 8};
  }

  // x points to each row of fragments at shift 0.
  template <int kRows, typename MMA>
  METAL_FUNC void multiply(thread MMA& mma, threadgroup const Tables&,
                           threadgroup const typename MMA::Element* const thread* x,
                           threadgroup const typename MMA::Element* w) thread {
#pragma unroll
    for (int shift = 0; shift < 8; ++shift) {
      mma.template load_x<kRows>(x, (shift & 4 ? pitch_d : 0) + (shift & 2 ? pitch_h : 0) + (shift & 1 ? pitch_w : 0));
#pragma unroll
      for (int phase = 0; phase < kPolyphaseFragsN; ++phase) {
        if (k3s2_has_tap(phase, shift)) {
          mma.template multiply<kRows>(phase, w + k3s2_tap(phase, shift) * 8 * kPolyphaseBK);
        }
      }
    }
    // A phase of n taps has summed 8 * n products: flush every 64.
    ++steps;
#pragma unroll
    for (int phase = 0; phase < kPolyphaseFragsN; ++phase) {
      if (steps % (8 / k3s2_taps_of_phase(phase)) == 0) {
        mma.template flush<kRows>(phase);
      }
    }
  }

  // Stores a row of this lane: two channels, of each both phases along the width at a time.
  template <typename T>
  METAL_FUNC static void store(device T* y_row, thread const float2* value, device const T* bias,
                               constant KernelParams& p, threadgroup const Tables&, int column_tile, int column,
                               uint last) {
    const int o = column_tile * 8 + column;
    const uint beyond_d = last_is_beyond(p.depth, 1), beyond_h = last_is_beyond(p.height, 1) << 1;
    const bool both = !((last & 4) && last_is_beyond(p.width, 1));
#pragma unroll
    for (int e = 0; e < 2; ++e) {
      if (o + e < p.out_channels) {
        const float added = has_bias ? float(bias[o + e]) : 0;
        device T* y = y_row + (o + e) * int(p.output.channel);
#pragma unroll
        for (int phase = 0; phase < kPolyphaseFragsN; phase += 2) {
          if ((last & ((phase & 4 ? beyond_d : 0) | (phase & 2 ? beyond_h : 0))) == 0) {
            store_pair(y + ((phase & 4 ? p.output.depth : 0) + (phase & 2 ? p.output.height : 0)), p.output.width, both,
                       value[phase][e] + added, value[phase + 1][e] + added);
          }
        }
      }
    }
  }

  // Every phase has a tap.
  template <typename T>
  METAL_FUNC static void store_rest(device T*, device const T*, constant KernelParams&, int, thread const int*,
                                    thread const uint*, int) {}
};
