// The taps of any kernel, which threads look up in tables.
#pragma once

#include <metal_stdlib>

#include "../common.h"
#include "../coord.h"
#include "../params.h"
#include "epilogue.h"
#include "loader.h"
#include "phase.h"

using namespace metal;

struct LookupTaps {
  struct Tables {
    // By shift along an axis, those of height behind those of depth, then those of width: the tap of each column of
    // fragments along this axis, or -1; and which columns have one, a bit each.
    short taps[kMaxTapBits * kPolyphaseFragsN];
    uint columns_along[kMaxTapBits];
    // By column of fragments: its first output channel, the offset of this and of its phase, and its beyond_mask().
    int channel[kPolyphaseFragsN], offset[kPolyphaseFragsN];
    uint beyond[kPolyphaseFragsN];
    // By shift of three axes, of the block that is staged: the columns that have a tap, and the offset of the inputs.
    uint columns[32];
    int shift_offset[32];
    // By tap of the block, in the order of shifts and then of columns: the offset of its weights, and the first output
    // channel.
    int tap_offset[kMaxPolyphaseTaps], tap_channel[kMaxPolyphaseTaps];
    int tap_count;
  };

  int shifts;       // of a block
  int flush_steps;  // until an output has summed 64 products
  int steps = 0;

  METAL_FUNC LookupTaps(constant KernelParams& p, constant PolyphaseTile& t) thread {
    constant Axis &depth = p.depth, &height = p.height, &width = p.width;
    const int taps_of_output = ((depth.taps - 1) / depth.tap_step + 1) * ((height.taps - 1) / height.tap_step + 1) *
                               ((width.taps - 1) / width.tap_step + 1);
    shifts = t.shifts.d * t.shifts.h * t.shifts.w;
    flush_steps = max(8 / taps_of_output, 1);
  }

  METAL_FUNC static int filter_size(constant KernelParams& p) { return taps_per_filter(p); }

  // Fills what holds for all blocks.
  METAL_FUNC static void fill_tables(threadgroup Tables& tables, constant KernelParams& p, int column_tile,
                                     int thread_index, int threads) {
    constant Axis &depth = p.depth, &height = p.height, &width = p.width;
    const int shifts_dh = depth.shifts + height.shifts, all_shifts = shifts_dh + width.shifts;
    for (int e = thread_index; e < all_shifts * kPolyphaseFragsN; e += threads) {
      const int s = e / kPolyphaseFragsN;
      const Coord phase = phase_of_column(p, column_tile * kPolyphaseFragsN + e % kPolyphaseFragsN);
      tables.taps[e] = short(phase.outer * 8 >= p.out_channels ? -1
                             : s < depth.shifts                ? tap_of(depth, phase.d, depth.first_shift + s)
                             : s < shifts_dh ? tap_of(height, phase.h, height.first_shift + s - depth.shifts)
                                             : tap_of(width, phase.w, width.first_shift + s - shifts_dh));
    }
    for (int f = thread_index; f < kPolyphaseFragsN; f += threads) {
      const Coord phase = phase_of_column(p, column_tile * kPolyphaseFragsN + f);
      tables.channel[f] = phase.outer * 8;
      tables.offset[f] = phase.outer * 8 * int(p.output.channel) + offset_of(p.output, phase);
      tables.beyond[f] = beyond_mask(p, phase);
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    for (int s = thread_index; s < all_shifts; s += threads) {
      uint columns = 0;
      for (int f = 0; f < kPolyphaseFragsN; ++f) {
        columns |= uint(tables.taps[s * kPolyphaseFragsN + f] >= 0) << f;
      }
      tables.columns_along[s] = columns;
    }
  }

  // Fills what holds for the block of shifts from `first` on, by one simdgroup, a shift a lane.
  METAL_FUNC static void fill_block(threadgroup Tables& tables, constant KernelParams& p, constant PolyphaseTile& t,
                                    Coord first, int lane) {
    const int shifts_d = p.depth.shifts, shifts_dh = shifts_d + p.height.shifts;
    const int row = lane / t.shifts.w, plane = row / t.shifts.h;
    const Coord at = {0, plane, row - plane * t.shifts.h, lane - row * t.shifts.w};
    const int d = first.d + at.d, h = first.h + at.h, w = first.w + at.w;
    uint columns = 0;
    if (at.d < t.shifts.d && d < shifts_d && h < p.height.shifts && w < p.width.shifts) {
      columns = tables.columns_along[d] & tables.columns_along[shifts_d + h] & tables.columns_along[shifts_dh + w];
    }
    tables.columns[lane] = columns;
    tables.shift_offset[lane] = at.d * t.pitch.d + at.h * t.pitch.h + at.w * t.pitch.w;
    int tap = int(simd_prefix_exclusive_sum(popcount(columns)));
    for (int f = 0; f < kPolyphaseFragsN; ++f) {
      if (columns & 1u << f) {
        tables.tap_offset[tap] =
            tables.channel[f] * taps_per_filter(p) + tap_index(p, tables.taps[d * kPolyphaseFragsN + f],
                                                               tables.taps[(shifts_d + h) * kPolyphaseFragsN + f],
                                                               tables.taps[(shifts_dh + w) * kPolyphaseFragsN + f]);
        tables.tap_channel[tap] = tables.channel[f];
        ++tap;
      }
    }
    if (lane == 31) {
      tables.tap_count = tap;
    }
  }

  // Goes to the block of shifts from `first` on. Returns the tap of this lane.
  METAL_FUNC static LaneTap next_block(threadgroup Tables& tables, constant KernelParams& p, constant PolyphaseTile& t,
                                       Coord first, int, int simdgroup, int lane) {
    threadgroup_barrier(mem_flags::mem_threadgroup);
    if (simdgroup == 0) {
      fill_block(tables, p, t, first, lane);
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    const int taps = tables.tap_count;
    return {taps, lane < taps ? tables.tap_offset[lane] : 0,
            lane < taps ? p.out_channels - tables.tap_channel[lane] : 0};
  }

  // x points to each row of fragments at the block's first shift.
  template <int kRows, typename MMA>
  METAL_FUNC void multiply(thread MMA& mma, threadgroup const Tables& tables,
                           threadgroup const typename MMA::Element* const thread* x,
                           threadgroup const typename MMA::Element* w) thread {
    for (int shift = 0; shift < shifts; ++shift) {
      const uint columns = tables.columns[shift];
      if (columns == 0) {
        continue;
      }
      mma.template load_x<kRows>(x, tables.shift_offset[shift]);
#pragma unroll
      for (int f = 0; f < kPolyphaseFragsN; ++f) {
        if (columns & 1u << f) {
          mma.template multiply<kRows>(f, w);
          w += 8 * kPolyphaseBK;
        }
      }
    }
    if (++steps < flush_steps) {
      return;
    }
    steps = 0;
#pragma unroll
    for (int f = 0; f < kPolyphaseFragsN; ++f) {
      mma.template flush<kRows>(f);
    }
  }

  // Stores a row of this lane: two channels of each column of fragments.
  template <typename T>
  METAL_FUNC static void store(device T* y_row, thread const float2* value, device const T* bias,
                               constant KernelParams& p, threadgroup const Tables& tables, int, int column, uint last) {
    const int y_channel = int(p.output.channel), out_channels = p.out_channels;
#pragma unroll
    for (int f = 0; f < kPolyphaseFragsN; ++f) {
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        const int o = tables.channel[f] + column + e;
        if (o < out_channels && (last & tables.beyond[f]) == 0) {
          y_row[tables.offset[f] + (column + e) * y_channel] = T(value[f][e] + (has_bias ? float(bias[o]) : 0));
        }
      }
    }
  }

  // Stores the phases that have no columns.
  template <typename T>
  METAL_FUNC static void store_rest(device T* y, device const T* bias, constant KernelParams& p, int column_tile,
                                    thread const int* y_row, thread const uint* last, int column) {
    if (p.phases.d.value < p.depth.stride || p.phases.h.value < p.height.stride || p.phases.w.value < p.width.stride) {
      store_unreached(y, bias, p, column_tile, y_row, last, column);
    }
  }
};
