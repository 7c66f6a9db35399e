// The forward pass of ConvTranspose3d as a matrix product, for any stride, padding, dilation and kernel.
//
// Outputs o = q * stride + phase of one phase meet the same taps, and by each of these the input q + shift (per axis).
// The rows of the product are the positions q of a box; its columns, in fragments of 8, are 8 output channels of one
// phase: a tile has 8 such fragments, which are all phases of a stride of 2. For every shift, the fragments whose phase
// has a tap of this shift are multiplied: no product with an inserted zero is formed. Phases that no tap reaches
// (kernel below stride) have no columns; their outputs hold the bias alone.
//
// Everything that overlapping taps share is staged once for 8 input channels: the inputs of the box with its halo, and
// the weights of all taps. A kernel with more taps than are staged at a time takes several blocks of shifts.

#include <metal_simdgroup_matrix>
#include <metal_stdlib>

#include "common.h"
#include "coord.h"
#include "gemm/fragment.h"
#include "load_store.h"
#include "params.h"

using namespace metal;

constant constexpr int kPhaseColumns = 8;  // fragments of a tile, and of a simdgroup

// Of the phases that a tap reaches, in the order of the first taps that reach them.
METAL_FUNC int phase_of(constant Axis& axis, int index) {
  const int start = (index * axis.dilation - axis.padding) % axis.stride;
  return start < 0 ? start + axis.stride : start;
}

METAL_FUNC bool is_reached(constant Axis& axis, int phase, constant FastDivmod& phases) {
  bool reached = false;
  for (int i = 0; i < phases.value; ++i) {
    reached |= phase_of(axis, i) == phase;
  }
  return reached;
}

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
template <typename Element, bool kK3S2>
struct PhaseSums {
  // Loops over fragments are unrolled, and functions inlined (METAL_FUNC), so that these arrays lie in registers.
  simdgroup_matrix<float, 8, 8> sum[kPolyphaseRows][kPhaseColumns];
  simdgroup_matrix<float, 8, 8> total[kPolyphaseRows][kPhaseColumns];
  int steps = 0;
  const int sum_steps;  // of a kernel other than k3s2, until the sums are 64 deep

  METAL_FUNC explicit PhaseSums(int until) thread : sum_steps(until) {
#pragma unroll
    for (int i = 0; i < kPolyphaseRows; ++i) {
#pragma unroll
      for (int f = 0; f < kPhaseColumns; ++f) {
        sum[i][f] = make_filled_simdgroup_matrix<float, 8, 8>(0.0f);
        total[i][f] = make_filled_simdgroup_matrix<float, 8, 8>(0.0f);
      }
    }
  }

  template <int kRows>
  METAL_FUNC void multiply_column(int f, thread simdgroup_matrix<Element, 8, 8>* x,
                                  threadgroup const Element* w) thread {
    simdgroup_matrix<Element, 8, 8> w_fragment;
    simdgroup_load(w_fragment, w, 8);
#pragma unroll
    for (int i = 0; i < kRows; ++i) {
      simdgroup_multiply_accumulate(sum[i][f], x[i], w_fragment, sum[i][f]);
    }
  }

  // All taps of a kernel of 3. `x`: of each row of fragments; `pitch`: from one shift to the next.
  template <int kRows>
  METAL_FUNC void multiply(threadgroup const Element* const thread* x, threadgroup const Element* w,
                           Extent pitch) thread {
    simdgroup_matrix<Element, 8, 8> x_fragment[kPolyphaseRows];
#pragma unroll
    for (int shift = 0; shift < 8; ++shift) {
      const int offset = (shift & 4 ? pitch.d : 0) + (shift & 2 ? pitch.h : 0) + (shift & 1 ? pitch.w : 0);
#pragma unroll
      for (int i = 0; i < kRows; ++i) {
        simdgroup_load(x_fragment[i], x[i] + offset, kPolyphaseBK);
      }
#pragma unroll
      for (int phase = 0; phase < kPhaseColumns; ++phase) {
        if (has_tap(phase, shift)) {
          multiply_column<kRows>(phase, x_fragment, w + tap_of_bits(phase, shift) * 8 * kPolyphaseBK);
        }
      }
    }
  }

  // The taps of `count` shifts, one after another.
  template <int kRows>
  METAL_FUNC void multiply(threadgroup const Element* const thread* x, threadgroup const Element* w,
                           threadgroup const uint* having, threadgroup const int* shift_offset, int count) thread {
    simdgroup_matrix<Element, 8, 8> x_fragment[kPolyphaseRows];
    for (int shift = 0; shift < count; ++shift) {
      const uint fragments = having[shift];
      if (fragments == 0) {
        continue;
      }
      const int offset = shift_offset[shift];
#pragma unroll
      for (int i = 0; i < kRows; ++i) {
        simdgroup_load(x_fragment[i], x[i] + offset, kPolyphaseBK);
      }
#pragma unroll
      for (int f = 0; f < kPhaseColumns; ++f) {
        if (fragments & 1u << f) {
          multiply_column<kRows>(f, x_fragment, w);
          w += 8 * kPolyphaseBK;
        }
      }
    }
  }

  // After each multiply(). Phases of a kernel of 3 have from one tap to 8.
  template <int kRows>
  METAL_FUNC void next_step() thread {
    ++steps;
    if (!kK3S2 && steps < sum_steps) {
      return;
    }
#pragma unroll
    for (int f = 0; f < kPhaseColumns; ++f) {
      if (!kK3S2 || steps % (8 / taps_of_phase(f)) == 0) {
        add_to_total<kRows>(f);
      }
    }
    if (!kK3S2) {
      steps = 0;
    }
  }

  template <int kRows>
  METAL_FUNC void add_to_total(int f) thread {
#pragma unroll
    for (int i = 0; i < kRows; ++i) {
      move_to_total(sum[i][f], total[i][f]);
    }
  }

  // This lane's two elements of a fragment, after the last step.
  METAL_FUNC float2 value(int i, int f) thread { return elements(total[i][f]) + elements(sum[i][f]); }
};

// What a kernel other than k3s2 looks up: of each fragment of a tile its output channels and phase, and of the shifts
// that are staged at a time, one to a lane, the fragments that have a tap, and the taps in their order.
template <bool kUsed>
struct PhaseTables {
  static constexpr constant int kShifts = kUsed ? kMaxTapBits : 1, kFragments = kUsed ? kPhaseColumns : 1;
  static constexpr constant int kLanes = kUsed ? 32 : 1;
  // Of each fragment, its tap along an axis for every shift along that axis, those of height behind those of depth, and
  // so on; and for every shift, which fragments have a tap.
  short taps[kShifts * kFragments];
  uint having_along[kShifts];
  int channel[kFragments], offset[kFragments];
  uint beyond[kFragments];
  uint having[kLanes];
  int shift_offset[kLanes];
  int tap_offset[kLanes], tap_channel[kLanes];
  int tap_count;
};

// Of a column of fragments: its output channels / 8, and its phase.
METAL_FUNC Place phase_of_column(constant KernelParams& p, int column) {
  const Place at = place_of(column, p.phases);
  return {at.outer, phase_of(p.depth, at.d), phase_of(p.height, at.h), phase_of(p.width, at.w)};
}

template <bool kUsed>
METAL_FUNC void fill_fragments(threadgroup PhaseTables<kUsed>& tables, constant KernelParams& p, int column_tile,
                               int thread_index, int threads) {
  constant Axis &depth = p.depth, &height = p.height, &width = p.width;
  const int shifts_dh = depth.shifts + height.shifts, all_shifts = shifts_dh + width.shifts;
  for (int e = thread_index; e < all_shifts * kPhaseColumns; e += threads) {
    const int s = e / kPhaseColumns;
    const Place phase = phase_of_column(p, column_tile * kPhaseColumns + e % kPhaseColumns);
    tables.taps[e] = short(phase.outer * 8 >= p.out_channels ? -1
                           : s < depth.shifts                ? tap_of(depth, phase.d, depth.first_shift + s)
                           : s < shifts_dh ? tap_of(height, phase.h, height.first_shift + s - depth.shifts)
                                           : tap_of(width, phase.w, width.first_shift + s - shifts_dh));
  }
  for (int f = thread_index; f < kPhaseColumns; f += threads) {
    const Place phase = phase_of_column(p, column_tile * kPhaseColumns + f);
    tables.channel[f] = phase.outer * 8;
    tables.offset[f] = phase.outer * 8 * int(p.output.channel) + offset_of(p.output, phase);
    tables.beyond[f] =
        joined(last_is_beyond(depth, phase.d), last_is_beyond(height, phase.h), last_is_beyond(width, phase.w), 1, 1) |
        kNoBits;
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  for (int s = thread_index; s < all_shifts; s += threads) {
    uint having = 0;
    for (int f = 0; f < kPhaseColumns; ++f) {
      having |= uint(tables.taps[s * kPhaseColumns + f] >= 0) << f;
    }
    tables.having_along[s] = having;
  }
}

// By one simdgroup: the shifts from `first` on.
template <bool kUsed>
METAL_FUNC void fill_shifts(threadgroup PhaseTables<kUsed>& tables, constant KernelParams& p, constant PolyphaseTile& t,
                            Place first, int lane) {
  const int shifts_d = p.depth.shifts, shifts_dh = shifts_d + p.height.shifts;
  const int row = lane / t.shifts.w, plane = row / t.shifts.h;
  const Place at = {0, plane, row - plane * t.shifts.h, lane - row * t.shifts.w};
  const int d = first.d + at.d, h = first.h + at.h, w = first.w + at.w;
  uint having = 0;
  if (at.d < t.shifts.d && d < shifts_d && h < p.height.shifts && w < p.width.shifts) {
    having = tables.having_along[d] & tables.having_along[shifts_d + h] & tables.having_along[shifts_dh + w];
  }
  tables.having[lane] = having;
  tables.shift_offset[lane] = at.d * t.pitch.d + at.h * t.pitch.h + at.w * t.pitch.w;
  int tap = int(simd_prefix_exclusive_sum(popcount(having)));
  for (int f = 0; f < kPhaseColumns; ++f) {
    if (having & 1u << f) {
      tables.tap_offset[tap] =
          tables.channel[f] * taps_per_filter(p) + tap_index(p, tables.taps[d * kPhaseColumns + f],
                                                             tables.taps[(shifts_d + h) * kPhaseColumns + f],
                                                             tables.taps[(shifts_dh + w) * kPhaseColumns + f]);
      tables.tap_channel[tap] = tables.channel[f];
      ++tap;
    }
  }
  if (lane == 31) {
    tables.tap_count = tap;
  }
}

// Outputs that no tap reaches hold the bias alone: of the rows of a tile, and of the channels whose first column it
// has. `y_row`, `last`: of each row of this lane; `column`: its first in a fragment.
template <typename T>
METAL_FUNC void store_unreached(device T* y, device const T* bias, constant KernelParams& p, int column_tile,
                                thread const int* y_row, thread const uint* last, int column) {
  constant Axis &depth = p.depth, &height = p.height, &width = p.width;
  const int phases = p.phases.d.value * p.phases.h.value * p.phases.w.value, y_channel = int(p.output.channel);
  const int first = (column_tile * kPhaseColumns + phases - 1) / phases * 8 + column;
  const int end = min(p.out_channels, ((column_tile + 1) * kPhaseColumns + phases - 1) / phases * 8);
  if (first >= end) {
    return;
  }
  for (int d = 0; d < depth.stride; ++d) {
    for (int h = 0; h < height.stride; ++h) {
      for (int w = 0; w < width.stride; ++w) {
        if (is_reached(depth, d, p.phases.d) && is_reached(height, h, p.phases.h) && is_reached(width, w, p.phases.w)) {
          continue;
        }
        const uint beyond =
            joined(last_is_beyond(depth, d), last_is_beyond(height, h), last_is_beyond(width, w), 1, 1) | kNoBits;
#pragma unroll
        for (int i = 0; i < kPolyphaseRows; ++i) {
          if ((last[i] & beyond) != 0) {
            continue;
          }
          device T* y_o = y + (first * y_channel + offset_of(p.output, {0, d, h, w}) + y_row[i]);
          for (int o = first; o < end; o += 8) {
            y_o[0] = has_bias ? bias[o] : T(0);
            if (o + 1 < end) {
              y_o[y_channel] = has_bias ? bias[o + 1] : T(0);
            }
            y_o += 8 * y_channel;
          }
        }
      }
    }
  }
}

// Both phases along the width of two channels, of a row of k3s2.
template <typename T>
METAL_FUNC void store_k3s2(device T* y_row, thread const float2* value, device const T* bias, constant KernelParams& p,
                           int o, uint last) {
  const uint beyond_d = last_is_beyond(p.depth, 1), beyond_h = last_is_beyond(p.height, 1) << 1;
  const bool two = !((last & 4) && last_is_beyond(p.width, 1));
#pragma unroll
  for (int e = 0; e < 2; ++e) {
    if (o + e < p.out_channels) {
      const float added = has_bias ? float(bias[o + e]) : 0;
      device T* y = y_row + (o + e) * int(p.output.channel);
#pragma unroll
      for (int phase = 0; phase < kPhaseColumns; phase += 2) {
        if ((last & ((phase & 4 ? beyond_d : 0) | (phase & 2 ? beyond_h : 0))) == 0) {
          store_two(y + ((phase & 4 ? p.output.depth : 0) + (phase & 2 ? p.output.height : 0)), p.output.width, two,
                    value[phase][e] + added, value[phase + 1][e] + added);
        }
      }
    }
  }
}

// Multiplies what is staged by kRows rows of fragments.
template <int kRows, typename Element, bool kK3S2>
METAL_FUNC void multiply_staged(thread PhaseSums<Element, kK3S2>& sums, threadgroup PhaseTables<!kK3S2>& tables,
                                threadgroup const Element* const thread* x, threadgroup const Element* w, Extent pitch,
                                int shifts) {
  if (kK3S2) {
    sums.template multiply<kRows>(x, w, pitch);
  } else {
    sums.template multiply<kRows>(x, w, tables.having, tables.shift_offset, shifts);
  }
  sums.template next_step<kRows>();
}

// threadgroups: x and y = tile of (o, phase) and box of q, in the tile's order, z = (n, group)
template <typename T, bool kK3S2>
[[kernel, max_total_threads_per_threadgroup(kThreads)]] void conv_transpose3d_forward_polyphase_gemm(
    device const T* input [[buffer(kInputBuffer)]], device const T* weight [[buffer(kWeightBuffer)]],
    device T* output [[buffer(kOutputBuffer)]], constant KernelParams& p [[buffer(kParamsBuffer)]],
    constant uint& first [[buffer(kZOffsetBuffer)]], constant PolyphaseTile& t [[buffer(kPolyphaseTileBuffer)]],
    device const T* bias [[buffer(kBiasBuffer), function_constant(has_bias)]],
    uint3 tile [[threadgroup_position_in_grid]], uint thread_index [[thread_index_in_threadgroup]],
    uint simdgroup_index [[simdgroup_index_in_threadgroup]], uint lane_index [[thread_index_in_simdgroup]],
    uint simdgroup_count [[simdgroups_per_threadgroup]]) {
  using Element = typename Staging<T>::type;
  threadgroup vec<Element, 4> staged[kMaxPolyphaseElements / 4];
  threadgroup PhaseTables<!kK3S2> tables;

  constant Axis &depth = p.depth, &height = p.height, &width = p.width;
  const int simdgroup = int(simdgroup_index), simdgroups = int(simdgroup_count), lane = int(lane_index);
  const int threads = simdgroups * 32;
  const SampleGroup z = sample_group(p, int(tile.z + first));
  const int column_tile = int(t.boxes_first ? tile.y : tile.x), box_tile = int(t.boxes_first ? tile.x : tile.y);
  const int box_row = div(box_tile, t.boxes.w), box_d = div(box_row, t.boxes.h);
  const Place box = {0, box_d * t.box.d, (box_row - box_d * t.boxes.h.value) * t.box.h,
                     (box_tile - box_row * t.boxes.w.value) * t.box.w};
  if (!kK3S2) {
    fill_fragments(tables, p, column_tile, int(thread_index), threads);
  }

  // The row of each fragment that this lane has: where its outputs begin, and along which axes it is the last; and
  // where the inputs of the fragment's first row are staged.
  threadgroup Element *x_tile = reinterpret_cast<threadgroup Element*>(staged),
                      *w_tile = x_tile + t.positions * kPolyphaseBK;
  threadgroup const Element* x_row[kPolyphaseRows];
  int y_offset[kPolyphaseRows];
  uint last[kPolyphaseRows];
#pragma unroll
  for (int i = 0; i < kPolyphaseRows; ++i) {
    const int row = (simdgroup * t.fragment_rows + i) * 8 + int((lane_index / 4 & 4) + lane_index / 2 % 4);
    const bool exists = i < t.fragment_rows && row < t.rows;
    const Place at = small_place_of(exists ? row : 0, t.box, t.box_reciprocal);
    const Place q = {0, box.d + at.d, box.h + at.h, box.w + at.w};
    x_row[i] = x_tile + simd_broadcast((at.d * t.staged.h + at.h) * t.staged.w + at.w, 0) * kPolyphaseBK;
    y_offset[i] = offset_of(p.output_of_input, q);
    last[i] = exists && q.d < depth.quotients && q.h < height.quotients && q.w < width.quotients
                  ? joined(q.d == depth.quotients - 1, q.h == height.quotients - 1, q.w == width.quotients - 1, 1, 1)
                  : kNoBits;
  }

  const int filter = kK3S2 ? 27 : taps_per_filter(p), w_channel = p.columns;
  const long x_channel = p.input.channel;
  device const T* x = input + offset(p.input, z.n, z.group * p.in_channels);
  device const T* w = weight + (z.group * p.in_channels + simdgroup) * w_channel;
  threadgroup Element *x_own = x_tile + thread_index * kPolyphaseBK,
                      *w_own = w_tile + (lane * kPolyphaseBK + simdgroup) * 8;
  const Extent pitch = t.pitch;
  const int shifts = t.shifts.d * t.shifts.h * t.shifts.w;
  int sum_steps = 0;
  if (!kK3S2) {
    const int taps_of_output = ((depth.taps - 1) / depth.tap_step + 1) * ((height.taps - 1) / height.tap_step + 1) *
                               ((width.taps - 1) / width.tap_step + 1);
    sum_steps = max(8 / taps_of_output, 1);
  }
  // The last simdgroup may have fewer rows.
  const int fragment_rows = min(t.fragment_rows, int(uint(t.rows + 7) / 8) - simdgroup * t.fragment_rows);
  PhaseSums<Element, kK3S2> sums(sum_steps);
  for (int sd = 0; sd < depth.shifts; sd += t.shifts.d) {
    for (int sh = 0; sh < height.shifts; sh += t.shifts.h) {
      for (int sw = 0; sw < width.shifts; sw += t.shifts.w) {
        // The tap whose weights this lane stages, of the channels that its simdgroup stages.
        int taps = 27, w_offset = column_tile * 8 * filter + lane, outputs = p.out_channels - column_tile * 8;
        if (!kK3S2) {
          threadgroup_barrier(mem_flags::mem_threadgroup);
          if (simdgroup == 0) {
            fill_shifts(tables, p, t, {0, sd, sh, sw}, lane);
          }
          threadgroup_barrier(mem_flags::mem_threadgroup);
          taps = tables.tap_count;
          w_offset = lane < taps ? tables.tap_offset[lane] : 0;
          outputs = lane < taps ? p.out_channels - tables.tap_channel[lane] : 0;
        }
        // The positions that this thread stages; what is outside of the input stays zero.
        const Place start = {0, box.d + depth.first_shift + sd, box.h + height.first_shift + sh,
                             box.w + width.first_shift + sw};
        int x_offset[kPolyphasePositions];
#pragma unroll
        for (int i = 0; i < kPolyphasePositions; ++i) {
          x_offset[i] = -1;
          const int position = int(thread_index) + i * threads;
          if (position < t.positions) {
            Place at = small_place_of(position, t.staged, t.staged_reciprocal);
            if (t.copies > 1) {
              const int copy = at.d / t.staged.d, copy_w = copy / t.copies_h;
              at = {0, at.d - copy * t.staged.d, at.h + copy - copy_w * t.copies_h, at.w + copy_w};
            }
            at = {0, start.d + at.d, start.h + at.h, start.w + at.w};
            if (uint(at.d) < uint(depth.input) && uint(at.h) < uint(height.input) && uint(at.w) < uint(width.input)) {
              x_offset[i] = offset_of(p.input, at);
            } else {
              stage_row(x_tile + position * kPolyphaseBK, x, 0, 0);
            }
          }
        }

        device const T *x_c = x, *w_c = w + w_offset;
        for (int c = p.in_channels; c > 0; c -= kPolyphaseBK) {
          threadgroup Element* x_to = x_own;
#pragma unroll
          for (int i = 0; i < kPolyphasePositions; ++i) {
            if (x_offset[i] >= 0) {
              stage_row(x_to, x_c + x_offset[i], x_channel, c);
            }
            x_to += threads * kPolyphaseBK;
          }
          if (lane < taps) {
            device const T* w_from = w_c;
            threadgroup Element* w_to = w_own;
            for (int k = simdgroup; k < kPolyphaseBK; k += simdgroups) {
              stage_row(w_to, w_from, filter, k < c ? outputs : 0);
              w_from += simdgroups * w_channel;
              w_to += simdgroups * 8;
            }
          }
          x_c += kPolyphaseBK * x_channel;
          w_c += kPolyphaseBK * w_channel;
          threadgroup_barrier(mem_flags::mem_threadgroup);
          if (fragment_rows == 1) {
            multiply_staged<1>(sums, tables, x_row, w_tile, pitch, shifts);
          } else {
            multiply_staged<kPolyphaseRows>(sums, tables, x_row, w_tile, pitch, shifts);
          }
          threadgroup_barrier(mem_flags::mem_threadgroup);
        }
      }
    }
  }

  // Two neighbouring columns of each fragment, in this lane's row.
  const int column = int((lane_index / 4 & 2) * 2 + lane_index % 2 * 2);
  const int y_channel = int(p.output.channel), out_channels = p.out_channels;
  device const T* own_bias = nullptr;
  if (has_bias) {
    own_bias = bias + z.group * out_channels;
  }
  device T* y = output + offset(p.output, z.n, z.group * out_channels);
#pragma unroll
  for (int i = 0; i < kPolyphaseRows; ++i) {
    float2 value[kPhaseColumns];
#pragma unroll
    for (int f = 0; f < kPhaseColumns; ++f) {
      value[f] = sums.value(i, f);
    }
    if (last[i] & kNoBits) {
      continue;
    }
    device T* y_row = y + y_offset[i];
    if (kK3S2) {
      store_k3s2(y_row, value, own_bias, p, column_tile * 8 + column, last[i]);
    } else {
#pragma unroll
      for (int f = 0; f < kPhaseColumns; ++f) {
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          const int o = tables.channel[f] + column + e;
          if (o < out_channels && (last[i] & tables.beyond[f]) == 0) {
            y_row[tables.offset[f] + (column + e) * y_channel] = T(value[f][e] + (has_bias ? float(own_bias[o]) : 0));
          }
        }
      }
    }
  }
  if (!kK3S2 &&
      (p.phases.d.value < depth.stride || p.phases.h.value < height.stride || p.phases.w.value < width.stride)) {
    store_unreached(y, own_bias, p, column_tile, y_offset, last, column);
  }
}

INSTANTIATE_AS("conv_transpose3d_forward_polyphase_gemm", conv_transpose3d_forward_polyphase_gemm<ELEMENT, false>)
INSTANTIATE_AS("conv_transpose3d_forward_polyphase_gemm_k3s2", conv_transpose3d_forward_polyphase_gemm<ELEMENT, true>)
