// A simdgroup's fragments of the forward pass by phases.
#pragma once

#include <metal_simdgroup_matrix>
#include <metal_stdlib>

#include "../coord.h"
#include "../gemm/fragment.h"
#include "../params.h"
#include "phase.h"

using namespace metal;

// The rows of the product that a lane has: one of each row of fragments of its simdgroup. Rows are the q of a box,
// flattened.
template <typename Element>
struct LaneRows {
  threadgroup const Element* x[kPolyphaseFragsM];  // where the inputs of the fragment's first row are staged
  int y[kPolyphaseFragsM];                         // the offset of output q * stride within a channel
  uint last[kPolyphaseFragsM];                     // axis_mask(): q is the last quotient; or kNoOutput

  METAL_FUNC LaneRows(constant KernelParams& p, constant PolyphaseTile& t, Coord box, threadgroup const Element* staged,
                      int simdgroup, uint lane) thread {
    constant Axis &depth = p.depth, &height = p.height, &width = p.width;
#pragma unroll
    for (int i = 0; i < kPolyphaseFragsM; ++i) {
      const int row = (simdgroup * t.fragment_rows + i) * 8 + fragment_row(lane);
      const bool exists = i < t.fragment_rows && row < t.rows;
      const Coord at = unravel_small(exists ? row : 0, t.box, t.box_reciprocal);
      const Coord q = {0, box.d + at.d, box.h + at.h, box.w + at.w};
      x[i] = staged + simd_broadcast((at.d * t.staged.h + at.h) * t.staged.w + at.w, 0) * kPolyphaseBK;
      y[i] = offset_of(p.output_of_input, q);
      last[i] = exists && q.d < depth.quotients && q.h < height.quotients && q.w < width.quotients
                    ? axis_mask(q.d == depth.quotients - 1, q.h == height.quotients - 1, q.w == width.quotients - 1)
                    : kNoOutput;
    }
  }
};

// Sums are flushed to totals, so that the rounding error of a long sum is that of a short one and of the flushes. How
// often is for K3S2Taps and LookupTaps to say.
template <typename ElementType>
struct PolyphaseMMA {
  using Element = ElementType;
  // Loops over fragments are unrolled, and functions inlined (METAL_FUNC), so that these arrays lie in registers.
  simdgroup_matrix<float, 8, 8> sum[kPolyphaseFragsM][kPolyphaseFragsN];
  simdgroup_matrix<float, 8, 8> total[kPolyphaseFragsM][kPolyphaseFragsN];
  simdgroup_matrix<Element, 8, 8> x_frag[kPolyphaseFragsM];

  METAL_FUNC PolyphaseMMA() thread {
#pragma unroll
    for (int i = 0; i < kPolyphaseFragsM; ++i) {
#pragma unroll
      for (int f = 0; f < kPolyphaseFragsN; ++f) {
        sum[i][f] = make_filled_simdgroup_matrix<float, 8, 8>(0.0f);
        total[i][f] = make_filled_simdgroup_matrix<float, 8, 8>(0.0f);
      }
    }
  }

  // Loads the inputs of kRows rows of fragments at one shift, which lies `offset` from the first.
  template <int kRows>
  METAL_FUNC void load_x(threadgroup const Element* const thread* x, int offset) thread {
#pragma unroll
    for (int i = 0; i < kRows; ++i) {
      simdgroup_load(x_frag[i], x[i] + offset, kPolyphaseBK);
    }
  }

  // sum[i][f] += x[i] * w, for one tap of column f. The weights of a tap are [channel][output channel].
  template <int kRows>
  METAL_FUNC void multiply(int f, threadgroup const Element* w) thread {
    simdgroup_matrix<Element, 8, 8> w_frag;
    simdgroup_load(w_frag, w, 8);
#pragma unroll
    for (int i = 0; i < kRows; ++i) {
      simdgroup_multiply_accumulate(sum[i][f], x_frag[i], w_frag, sum[i][f]);
    }
  }

  template <int kRows>
  METAL_FUNC void flush(int f) thread {
#pragma unroll
    for (int i = 0; i < kRows; ++i) {
      flush_to_total(sum[i][f], total[i][f]);
    }
  }

  // This lane's two elements of a fragment.
  METAL_FUNC float2 value(int i, int f) thread { return elements(total[i][f]) + elements(sum[i][f]); }
};
