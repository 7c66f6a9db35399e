// The forward pass by phases (metal/forward_polyphase.metal): how it is cut into threadgroups.
#pragma once

#include "params.h"
#include "planner/gpu.h"
#include "planner/grid.h"

namespace mps_conv_transpose3d {

// The fastest.
PolyphaseTile choose_polyphase_tile(const KernelParams& params, const Gpu& gpu);

Grid polyphase_grid(const KernelParams& params, const PolyphaseTile& tile);

}  // namespace mps_conv_transpose3d
