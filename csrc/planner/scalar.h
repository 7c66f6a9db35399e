// The kernels without matrices: one thread, or for a sum one threadgroup, computes some elements.
#pragma once

#include <cstdint>

#include "planner/algorithms.h"
#include "planner/gpu.h"
#include "planner/grid.h"

namespace mps_conv_transpose3d {

// How the gradient of a weight or bias is cut into parts, of at most max_work multiply-adds each.
SplitK choose_parts(Pass pass, Family family, const KernelParams& params, int64_t max_work, const Gpu& gpu);

// `parts`: those of a sum.
Grid direct_grid(Pass pass, const KernelParams& params, int64_t parts);
Grid depthwise_grid(Pass pass, const KernelParams& params, int64_t parts);

// The grid of the reduction of so many parts of each element.
Grid reduce_parts_grid(int64_t elements, int64_t parts);

}  // namespace mps_conv_transpose3d
