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
Product product_of(Pass pass, Method method, const KernelParams& params);

// Of the forward pass: by phases, and where the kernel tiles the output.
bool is_polyphase(Method method);
bool is_tiled(Method method);

// How a method that is not by phases cuts a pass: rows of a tile, and the splits of a weight gradient; and the cycles
// of a core in which the pass could be done.
struct Tiling {
  int rows;
  SplitK split_k;
  double time;
};

// The fastest.
Tiling choose_tiling(Pass pass, Method method, const KernelParams& params, const Device& device);

Grid gemm_grid(Pass pass, Method method, const KernelParams& params, const Tiling& tiling);
Grid phases_grid(const KernelParams& params, const PolyphaseTile& tile);

// Of the last step of a weight gradient's sum, and of its bias's: of the weight only where it is split.
Grid sum_splits_grid(const KernelParams& params, const SplitK& split_k, bool with_bias, const Device& device);

}  // namespace mps_conv_transpose3d
