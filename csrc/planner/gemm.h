// Passes as one matrix product in tiles: how it is cut, and the time that it is expected to take.
#pragma once

#include <cstdint>

#include "planner/algorithms.h"
#include "planner/gpu.h"
#include "planner/grid.h"

namespace mps_conv_transpose3d {

// How a product is cut into tiles of `rows` rows, a weight gradient also along k.
struct GemmTiling {
  int rows;
  SplitK split_k;
  double cycles;  // of a core, that the pass takes
};

// The fastest.
GemmTiling choose_gemm_tiling(Pass pass, const Algorithm& algorithm, const KernelParams& params, const Gpu& gpu);

Grid gemm_grid(Pass pass, const Algorithm& algorithm, const KernelParams& params, const GemmTiling& tiling);

// The grid of the reduction of a weight gradient's k splits, and with_bias of the bias gradient's.
Grid reduce_k_splits_grid(const KernelParams& params, const SplitK& split_k, bool with_bias, const Gpu& gpu);

}  // namespace mps_conv_transpose3d
