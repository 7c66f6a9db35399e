// Stores of the forward pass by phases.
#pragma once

#include <metal_stdlib>

#include "../common.h"
#include "../coord.h"
#include "../load_store.h"
#include "../params.h"
#include "phase.h"

using namespace metal;

// Stores two outputs that lie `step` apart, or without `both` the first alone.
template <typename T>
METAL_FUNC void store_pair(device T* to, int step, bool both, float first, float second) {
  if (both && step == 1) {
    store2(to, float2(first, second));
    return;
  }
  to[0] = T(first);
  if (both) {
    to[step] = T(second);
  }
}

// The outputs of phases that no tap reaches are the bias alone. Each tile stores those of its rows, and of the channels
// whose first column it has. y_row, last: of each row of this lane; column: its first in a fragment.
template <typename T>
METAL_FUNC void store_unreached(device T* y, device const T* bias, constant KernelParams& p, int column_tile,
                                thread const int* y_row, thread const uint* last, int column) {
  constant Axis &depth = p.depth, &height = p.height, &width = p.width;
  const int phases = p.phases.d.value * p.phases.h.value * p.phases.w.value, y_channel = int(p.output.channel);
  const int first = (column_tile * kPolyphaseFragsN + phases - 1) / phases * 8 + column;
  const int end = min(p.out_channels, ((column_tile + 1) * kPolyphaseFragsN + phases - 1) / phases * 8);
  if (first >= end) {
    return;
  }
  for (int d = 0; d < depth.stride; ++d) {
    for (int h = 0; h < height.stride; ++h) {
      for (int w = 0; w < width.stride; ++w) {
        if (is_reached(depth, d, p.phases.d) && is_reached(height, h, p.phases.h) && is_reached(width, w, p.phases.w)) {
          continue;
        }
        const uint beyond = beyond_mask(p, {0, d, h, w});
#pragma unroll
        for (int i = 0; i < kPolyphaseFragsM; ++i) {
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
