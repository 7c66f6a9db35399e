// Grids of threadgroups, and how a sum is cut.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>

#include "params.h"
#include "planner/integers.h"

namespace mps_conv_transpose3d {

// A grid in threads, and the multiply-adds of one step along z.
struct Grid {
  std::array<int64_t, 3> threads;
  std::array<uint32_t, 3> threads_per_threadgroup;
  int64_t work_per_z;
};

// About `wanted` splits of a sum over `k_per_sample` terms of each sample. All but the last have the same number of
// terms, a multiple of `multiple`.
inline SplitK make_split(int64_t wanted, int64_t batch, int64_t k_per_sample, int64_t multiple) {
  const int64_t terms = batch * k_per_sample;
  const int64_t length = ceil_div(ceil_div(terms, std::max<int64_t>(wanted, 1)), multiple) * multiple;
  return {static_cast<int>(ceil_div(terms, length)), static_cast<int>(length), make_fast_divmod(k_per_sample)};
}

}  // namespace mps_conv_transpose3d
