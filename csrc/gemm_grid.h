// The matrix kernels' tiles, splits and grids, and the time that they are expected to take.
#pragma once

#include <cstdint>

#include "grid.h"
#include "plan.h"

namespace mps_conv_transpose3d {

// The matrix product of a pass: rows x columns, each a sum over `depth`.
struct Product {
  int64_t rows, columns, depth;
};
Product product_of(Pass pass, Method method, const ConvTranspose3dParams& params);

// Of the forward pass: by phases, and where the kernel tiles the output.
bool is_phases(Method method);
bool is_one_tap(Method method);

// Multiply-adds of a core in which a pass could be done. A weight gradient's splits are those of choose_split().
double time_of(Pass pass, Method method, const ConvTranspose3dParams& params, const Device& device);

SplitK choose_split(Method method, const ConvTranspose3dParams& params, const Device& device);

// `splits`: of a weight gradient.
Grid gemm_grid(Pass pass, Method method, const ConvTranspose3dParams& params, int64_t splits);
Grid phases_grid(const ConvTranspose3dParams& params, const PhaseTile& tile);

}  // namespace mps_conv_transpose3d
