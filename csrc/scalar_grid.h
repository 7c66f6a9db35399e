// The grids of the scalar kernels: one thread, or for a sum one threadgroup, computes some elements.
#pragma once

#include <cstdint>

#include "grid.h"
#include "plan.h"

namespace mps_conv_transpose3d {

// How a weight's or bias's gradient by these kernels is cut, into parts of at most so many multiply-adds each.
SplitK choose_parts(Pass pass, Method method, const KernelParams& params, int64_t max_work, const Device& device);

// `parts`: of a sum.
Grid direct_grid(Pass pass, const KernelParams& params, int64_t parts);
Grid depthwise_grid(Pass pass, const KernelParams& params, int64_t parts);

}  // namespace mps_conv_transpose3d
