// The forward pass of ConvTranspose3d as a matrix product, for any stride, padding, dilation and kernel.
//
// Outputs o = q * stride + phase of one phase meet the same taps, and by each of these the input q + shift (per axis).
// The rows of the product are the positions q of a box; its columns, in fragments of 8, are 8 output channels of one
// phase: a tile has 8 such fragments, which are all phases of a stride of 2. For every shift, the fragments whose phase
// has a tap of this shift are multiplied: no product with an inserted zero is formed.
//
// Everything that overlapping taps share is staged once for 8 input channels: the inputs of the box with its halo, and
// the weights of all taps. A kernel with more taps than are staged at a time takes several blocks of shifts.

#include <metal_simdgroup_matrix>
#include <metal_stdlib>

#include "conv_transpose3d_params.h"
#include "places.h"
#include "staging.h"
#include "tile_gemm.h"

using namespace metal;

constant constexpr int kPhaseRows = 2, kPhaseColumns = 8;  // fragments of a simdgroup

// The tap that carries input q + shift to output q * stride + phase; negative where there is none.
METAL_FUNC int tap_of(constant Axis& axis, int phase, int shift) {
  const int scaled = phase + axis.padding - shift * axis.stride;
  const int tap = scaled / axis.dilation;
  return scaled >= 0 && tap < axis.taps && tap * axis.dilation == scaled ? tap : -1;
}

// Whether an output of this phase lies beyond the end where q is the last quotient.
METAL_FUNC bool last_is_beyond(constant Axis& axis, int phase) {
  return (axis.quotients - 1) * axis.stride + phase >= axis.output;
}

// Of kernel 3, stride 2, padding 1: phase 0 has tap 1 with shift 0, phase 1 has taps 2 and 0 with shifts 0 and 1.
// Phases and shifts of the three axes as bits, depth's the highest.
constexpr uint taps_of_phase(int phase) { return (1 + (phase >> 2)) * (1 + (phase >> 1 & 1)) * (1 + (phase & 1)); }
constexpr bool has_tap(int phase, int shift) { return (shift & ~phase) == 0; }
constexpr int tap_of_axis(int phase, int shift) { return phase + 1 - 2 * shift; }
constexpr int tap_of_bits(int phase, int shift) {
  return (tap_of_axis(phase >> 2, shift >> 2) * 3 + tap_of_axis(phase >> 1 & 1, shift >> 1 & 1)) * 3 +
         tap_of_axis(phase & 1, shift & 1);
}

// a / n for small numbers, by 65536 / n + 1.
METAL_FUNC int small_quotient(int a, int reciprocal) { return int(uint(a) * uint(reciprocal) >> 16); }

// With as many planes as there are.
METAL_FUNC Place small_place_of(int index, constant Extent& size, constant Extent& reciprocal) {
  const int row = small_quotient(index, reciprocal.w), plane = small_quotient(row, reciprocal.h);
  return {0, plane, row - plane * size.h, index - row * size.w};
}

// Stages a row of 8 elements that lie `step` apart; only the first `count` exist, the others are zero.
template <typename Element, typename T, typename Step>
METAL_FUNC void stage_row(threadgroup Element* to, device const T* from, Step step, int count) {
  vec<Element, 4> half_row[2];
  if (count >= 8) {
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      half_row[i / 4][i % 4] = Element(*from);
      from += step;
    }
  } else {
    half_row[0] = half_row[1] = 0;
#pragma unroll
    for (int i = 0; i < 7; ++i) {
      if (i < count) {
        half_row[i / 4][i % 4] = Element(*from);
        from += step;
      }
    }
  }
  threadgroup vec<Element, 4>* half_rows = reinterpret_cast<threadgroup vec<Element, 4>*>(to);
  half_rows[0] = half_row[0];
  half_rows[1] = half_row[1];
}

// Stores a value, and another at the next place along the width where there is one.
template <typename T>
METAL_FUNC void store_two(device T* to, int step, bool both, float first, float second) {
  if (both && step == 1) {
    store2(to, float2(first, second));
    return;
  }
  to[0] = T(first);
  if (both) {
    to[step] = T(second);
  }
}

// A simdgroup's fragments of the output. A float32 sum over thousands of products loses digits to its own size: what
// has been summed is added to a total, so that the error grows with the square root of a sum's depth.
template <typename Element, bool kThreeTaps>
struct PhaseSums {
  // Loops over fragments are unrolled, and functions inlined (METAL_FUNC), so that these arrays lie in registers.
  simdgroup_matrix<float, 8, 8> sum[kPhaseRows][kPhaseColumns];
  float2 total[kPhaseRows][kPhaseColumns];  // this lane's elements of each fragment
  uint steps = 0;

  METAL_FUNC PhaseSums() {
#pragma unroll
    for (int i = 0; i < kPhaseRows; ++i) {
#pragma unroll
      for (int f = 0; f < kPhaseColumns; ++f) {
        sum[i][f] = make_filled_simdgroup_matrix<float, 8, 8>(0.0f);
        total[i][f] = 0;
      }
    }
  }

  METAL_FUNC void multiply_column(int f, thread simdgroup_matrix<Element, 8, 8>* x, threadgroup const Element* w) {
    simdgroup_matrix<Element, 8, 8> w_fragment;
    simdgroup_load(w_fragment, w, 8);
#pragma unroll
    for (int i = 0; i < kPhaseRows; ++i) {
      simdgroup_multiply_accumulate(sum[i][f], x[i], w_fragment, sum[i][f]);
    }
  }

  // All taps of a kernel of 3. `x`: of each row of fragments; `pitch`: from one shift to the next.
  METAL_FUNC void multiply(thread threadgroup const Element* const* x, threadgroup const Element* w, Extent pitch) {
    simdgroup_matrix<Element, 8, 8> x_fragment[kPhaseRows];
#pragma unroll
    for (int shift = 0; shift < 8; ++shift) {
      const int offset = (shift & 4 ? pitch.d : 0) + (shift & 2 ? pitch.h : 0) + (shift & 1 ? pitch.w : 0);
#pragma unroll
      for (int i = 0; i < kPhaseRows; ++i) {
        simdgroup_load(x_fragment[i], x[i] + offset, kPhaseDepth);
      }
#pragma unroll
      for (int phase = 0; phase < kPhaseColumns; ++phase) {
        if (has_tap(phase, shift)) {
          multiply_column(phase, x_fragment, w + tap_of_bits(phase, shift) * 8 * kPhaseDepth);
        }
      }
    }
  }

  // The taps of `count` shifts, one after another.
  METAL_FUNC void multiply(thread threadgroup const Element* const* x, threadgroup const Element* w,
                           threadgroup const uint* having, threadgroup const int* shift_offset, int count) {
    simdgroup_matrix<Element, 8, 8> x_fragment[kPhaseRows];
    for (int shift = 0; shift < count; ++shift) {
      const uint fragments = having[shift];
      if (fragments == 0) {
        continue;
      }
      const int offset = shift_offset[shift];
#pragma unroll
      for (int i = 0; i < kPhaseRows; ++i) {
        simdgroup_load(x_fragment[i], x[i] + offset, kPhaseDepth);
      }
#pragma unroll
      for (int f = 0; f < kPhaseColumns; ++f) {
        if (fragments & 1u << f) {
          multiply_column(f, x_fragment, w);
          w += 8 * kPhaseDepth;
        }
      }
    }
  }

  // After each multiply(). Of a kernel of 3 all sums are 64 deep: a phase has up to 8 taps.
  METAL_FUNC void next_step() {
    ++steps;
#pragma unroll
    for (int f = 0; f < kPhaseColumns; ++f) {
      if (!kThreeTaps || steps % (8 / taps_of_phase(f)) == 0) {
        add_to_total(f);
      }
    }
  }

  METAL_FUNC void add_to_total(int f) {
#pragma unroll
    for (int i = 0; i < kPhaseRows; ++i) {
      total[i][f] += float2(sum[i][f].thread_elements());
      sum[i][f] = make_filled_simdgroup_matrix<float, 8, 8>(0.0f);
    }
  }

  // This lane's two elements of a fragment, after the last step.
  METAL_FUNC float2 value(int i, int f) { return total[i][f] + float2(sum[i][f].thread_elements()); }
};

// threadgroups: x, y = tile of (o, phase), box of q or the other way round, z = (n, group)
template <typename T, bool kThreeTaps>
[[kernel]] void conv_transpose3d_forward_phases_gemm(
    device const T* input [[buffer(kInputBuffer)]], device const T* weight [[buffer(kWeightBuffer)]],
    device T* output [[buffer(kOutputBuffer)]], constant ConvTranspose3dParams& p [[buffer(kParamsBuffer)]],
    constant uint& first [[buffer(kFirstBuffer)]], constant PhaseTile& t [[buffer(kPhaseTileBuffer)]],
    device const T* bias [[buffer(kBiasBuffer), function_constant(has_bias)]],
    threadgroup typename Staging<T>::type* staged [[threadgroup(0)]], uint3 tile [[threadgroup_position_in_grid]],
    uint thread_index [[thread_index_in_threadgroup]], uint simdgroup_index [[simdgroup_index_in_threadgroup]],
    uint lane_index [[thread_index_in_simdgroup]], uint simdgroup_count [[simdgroups_per_threadgroup]]) {
  using Element = typename Staging<T>::type;
  constexpr int kK = kPhaseDepth, kFragment = 8 * kK;
  constexpr int kTables = kThreeTaps ? 1 : kMaxReachBits;
  // Of each fragment: its tap along an axis for every shift along that axis, those of height behind those of depth, and
  // so on; and for every shift, which fragments have a tap.
  threadgroup short axis_taps[kTables * kPhaseColumns];
  threadgroup uint having_along[kTables];
  threadgroup int channels[kPhaseColumns], fragment_offset[kPhaseColumns];
  threadgroup uint beyond[kPhaseColumns];
  // Of the shifts of a block: the fragments that have a tap, and how far the input is from the position. Of the taps:
  // ...
  threadgroup uint having[kMaxPhaseTaps];
  threadgroup int shift_offset[kMaxPhaseTaps], tap_offset[kMaxPhaseTaps], tap_channels[kMaxPhaseTaps];
  threadgroup int tap_count;

  constant Axis &depth = p.depth, &height = p.height, &width = p.width;
  const int simdgroup = int(simdgroup_index), simdgroups = int(simdgroup_count), lane = int(lane_index);
  const SampleGroup z = sample_group(p, int(tile.z + first));
  const int n = z.n, group = z.group;
  const int column_tile = int(t.boxes_first ? tile.y : tile.x);
  const uint box_tile = t.boxes_first ? tile.x : tile.y;
  const int filter = taps_per_filter(p), c_stride = p.out_channels * filter;
  const long x_channel = p.input.channel, x_step = kK * x_channel;
  const int shifts_dh = depth.shifts + height.shifts, all_shifts = shifts_dh + width.shifts;
  threadgroup Element *x_tile = staged, *w_tile = staged + t.positions * kK;

  const uint box_row = box_tile / uint(t.boxes.w), box_d = box_row / uint(t.boxes.h);
  const Place box = {0, int(box_d) * t.box.d, int(box_row - box_d * uint(t.boxes.h)) * t.box.h,
                     int(box_tile - box_row * uint(t.boxes.w)) * t.box.w};

  if (!kThreeTaps) {
    for (int e = int(thread_index); e < all_shifts * kPhaseColumns; e += simdgroups * 32) {
      const int s = e / kPhaseColumns;
      const Place phase = place_of(column_tile * kPhaseColumns + e % kPhaseColumns, p.phases);
      axis_taps[e] = short(phase.outer * 8 >= p.out_channels ? -1
                           : s < depth.shifts                ? tap_of(depth, phase.d, depth.first_shift + s)
                           : s < shifts_dh ? tap_of(height, phase.h, height.first_shift + s - depth.shifts)
                                           : tap_of(width, phase.w, width.first_shift + s - shifts_dh));
    }
    if (int(thread_index) < kPhaseColumns) {
      const Place phase = place_of(column_tile * kPhaseColumns + int(thread_index), p.phases);
      channels[thread_index] = phase.outer * 8;
      fragment_offset[thread_index] = phase.outer * 8 * int(p.output.channel) + offset_of(p.output, phase);
      beyond[thread_index] =
          joined(last_is_beyond(depth, phase.d), last_is_beyond(height, phase.h), last_is_beyond(width, phase.w), 1, 1);
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    for (int s = int(thread_index); s < all_shifts; s += simdgroups * 32) {
      uint fragments = 0;
      for (int f = 0; f < kPhaseColumns; ++f) {
        fragments |= uint(axis_taps[s * kPhaseColumns + f] >= 0) << f;
      }
      having_along[s] = fragments;
    }
  }

  // Of this simdgroup's rows: where the inputs of each fragment's first lie in the tile.
  threadgroup const Element* x_row[kPhaseRows];
#pragma unroll
  for (int i = 0; i < kPhaseRows; ++i) {
    const int row = (simdgroup * kPhaseRows + i) * 8;
    const Place at = small_place_of(row < t.rows ? row : 0, t.box, t.box_reciprocal);
    x_row[i] = x_tile + ((at.d * t.staged.h + at.h) * t.staged.w + at.w) * kK;
  }

  const Place start = {0, box.d + depth.first_shift, box.h + height.first_shift, box.w + width.first_shift};
  device const T* x = input + offset(p.input, n, group * p.in_channels);
  device const T* w = weight + (group * p.in_channels + simdgroup) * c_stride;
  threadgroup Element *x_own = x_tile + thread_index * kK, *w_own = w_tile + lane * kFragment + simdgroup * 8;
  const int threads = simdgroups * 32, next_own = threads * kK;
  const int w_next = kK * c_stride, w_step = simdgroups * c_stride, w_next_own = simdgroups * 8,
            in_channels = p.in_channels;
  const Extent pitch = {t.pitch.d * kK, t.pitch.h * kK, t.pitch.w * kK};
  PhaseSums<Element, kThreeTaps> sums;
  for (int sd = 0; sd < depth.shifts; sd += t.shifts.d) {
    for (int sh = 0; sh < height.shifts; sh += t.shifts.h) {
      for (int sw = 0; sw < width.shifts; sw += t.shifts.w) {
        // The positions that this thread stages; those outside of the input stay zero.
        int x_offset[kOwnPhasePositions];
#pragma unroll
        for (int i = 0; i < kOwnPhasePositions; ++i) {
          const int e = int(thread_index) + i * simdgroups * 32;
          x_offset[i] = -1;
          if (e < t.positions) {
            Place at = small_place_of(e, t.staged, t.staged_reciprocal);
            if (t.copies > 1) {
              const int copy = at.d / t.staged.d, copy_w = copy / t.copies_h;
              at.d -= copy * t.staged.d;
              at.h += copy - copy_w * t.copies_h;
              at.w += copy_w;
            }
            at.d += start.d + sd;
            at.h += start.h + sh;
            at.w += start.w + sw;
            if (uint(at.d) < uint(depth.input) && uint(at.h) < uint(height.input) && uint(at.w) < uint(width.input)) {
              x_offset[i] = offset_of(p.input, at);
            } else {
              stage_row(x_tile + e * kK, x, 0, 0);
            }
          }
        }
        // And the tap whose weights it stages, of the channels that its simdgroup stages.
        int w_offset = column_tile * 8 * filter + lane, w_channels = p.out_channels - column_tile * 8, taps = 27;
        if (!kThreeTaps) {
          threadgroup_barrier(mem_flags::mem_threadgroup);
          if (simdgroup == 0) {
            const int lane_h = lane / t.shifts.w, lane_d = lane_h / t.shifts.h;
            const int d = sd + lane_d, h = sh + lane_h - lane_d * t.shifts.h, v = sw + lane - lane_h * t.shifts.w;
            uint fragments = 0;
            if (lane_d < t.shifts.d && d < depth.shifts && h < height.shifts && v < width.shifts) {
              fragments = having_along[d] & having_along[depth.shifts + h] & having_along[shifts_dh + v];
            }
            having[lane] = fragments;
            shift_offset[lane] = (d - sd) * pitch.d + (h - sh) * pitch.h + (v - sw) * pitch.w;
            int tap = int(simd_prefix_exclusive_sum(popcount(fragments)));
            for (int f = 0; f < kPhaseColumns; ++f) {
              if (fragments & 1u << f) {
                tap_offset[tap] = channels[f] * filter + tap_index(p, axis_taps[d * kPhaseColumns + f],
                                                                   axis_taps[(depth.shifts + h) * kPhaseColumns + f],
                                                                   axis_taps[(shifts_dh + v) * kPhaseColumns + f]);
                tap_channels[tap] = p.out_channels - channels[f];
                ++tap;
              }
            }
            if (lane == 31) {
              tap_count = tap;
            }
          }
          threadgroup_barrier(mem_flags::mem_threadgroup);
          taps = tap_count;
          w_offset = lane < taps ? tap_offset[lane] : 0;
          w_channels = lane < taps ? tap_channels[lane] : 0;
        }

        device const T *x_c = x, *w_c = w + w_offset;
        const int count = t.shifts.d * t.shifts.h * t.shifts.w;
        for (int c = in_channels; c > 0; c -= kK) {
          threadgroup Element* x_to = x_own;
#pragma unroll
          for (int i = 0; i < kOwnPhasePositions; ++i) {
            if (x_offset[i] >= 0) {
              stage_row(x_to, x_c + x_offset[i], x_channel, c);
            }
            x_to += next_own;
          }
          x_c += x_step;
          if (lane < taps) {
            device const T* w_from = w_c;
            threadgroup Element* w_to = w_own;
            for (int k = simdgroup; k < kK; k += simdgroups) {
              stage_row(w_to, w_from, filter, k < c ? w_channels : 0);
              w_from += w_step;
              w_to += w_next_own;
            }
          }
          w_c += w_next;
          threadgroup_barrier(mem_flags::mem_threadgroup);
          if (kThreeTaps) {
            sums.multiply(x_row, w_tile, pitch);
          } else {
            sums.multiply(x_row, w_tile, having, shift_offset, count);
          }
          sums.next_step();
          threadgroup_barrier(mem_flags::mem_threadgroup);
        }
      }
    }
  }

  // A lane has two neighbouring columns of one row of each fragment.
  const int row_of_lane = int((lane_index / 4 & 4) + lane_index / 2 % 4);
  const int column = int((lane_index / 4 & 2) * 2 + lane_index % 2 * 2);
  const int y_channel = int(p.output.channel), o = column_tile * 8 + column;
  device T* y = output + offset(p.output, n, group * p.out_channels);
  if (kThreeTaps) {
    y += o * y_channel;
  }
  float2 own_bias = 0;
  if (kThreeTaps && has_bias && o < p.out_channels) {
    own_bias = {float(bias[group * p.out_channels + o]),
                float(bias[group * p.out_channels + min(o + 1, p.out_channels - 1)])};
  }
#pragma unroll
  for (int i = 0; i < kPhaseRows; ++i) {
    float2 value[kPhaseColumns];
#pragma unroll
    for (int f = 0; f < kPhaseColumns; ++f) {
      value[f] = sums.value(i, f);
    }
    const int row = (simdgroup * kPhaseRows + i) * 8 + row_of_lane;
    const Place at = small_place_of(row, t.box, t.box_reciprocal);
    const Place q = {0, box.d + at.d, box.h + at.h, box.w + at.w};
    if (row < t.rows && q.d < depth.quotients && q.h < height.quotients && q.w < width.quotients) {
      const Place at_o = {0, q.d * depth.stride, q.h * height.stride, q.w * width.stride};
      device T* y_row = y + offset_of(p.output, at_o);
      if (kThreeTaps) {
        const bool two_d = at_o.d + 1 < depth.output, two_h = at_o.h + 1 < height.output;
        const bool two_w = at_o.w + 1 < width.output;
#pragma unroll
        for (int f = 0; f < kPhaseColumns; f += 2) {
          if ((two_d || f < 4) && (two_h || f % 4 < 2)) {
            device T* to = y_row + ((f < 4 ? 0 : p.output.depth) + (f % 4 < 2 ? 0 : p.output.height));
            if (o < p.out_channels) {
              store_two(to, p.output.width, two_w, value[f].x + own_bias.x, value[f + 1].x + own_bias.x);
            }
            if (o + 1 < p.out_channels) {
              store_two(to + y_channel, p.output.width, two_w, value[f].y + own_bias.y, value[f + 1].y + own_bias.y);
            }
          }
        }
      } else {
        const uint last =
            joined(q.d == depth.quotients - 1, q.h == height.quotients - 1, q.w == width.quotients - 1, 1, 1);
#pragma unroll
        for (int f = 0; f < kPhaseColumns; ++f) {
#pragma unroll
          for (int e = 0; e < 2; ++e) {
            const int any_o = channels[f] + column + e;
            if (any_o < p.out_channels && (last & beyond[f]) == 0) {
              const float any_bias = has_bias ? float(bias[group * p.out_channels + any_o]) : 0;
              y_row[fragment_offset[f] + (column + e) * y_channel] = T(value[f][e] + any_bias);
            }
          }
        }
      }
    }
  }
}

#define INSTANTIATE_FORWARD_PHASES(name, three_taps, type)                                                      \
  template [[host_name("conv_transpose3d_forward_" #name                                                        \
                       "_" #type)]] [[kernel]] decltype(conv_transpose3d_forward_phases_gemm<type, three_taps>) \
      conv_transpose3d_forward_phases_gemm<type, three_taps>;
#define INSTANTIATE_FORWARD_PHASES_OF(type)            \
  INSTANTIATE_FORWARD_PHASES(phases_gemm, false, type) \
  INSTANTIATE_FORWARD_PHASES(k3s2_gemm, true, type)

INSTANTIATE_FORWARD_PHASES_OF(ELEMENT)
