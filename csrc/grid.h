// Grids of threadgroups: what they are, and how they fall on the cores of a GPU.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>

#include "integers.h"
#include "params.h"

namespace mps_conv_transpose3d {

// A grid in threads, and the multiply-adds of one step along z.
struct Grid {
  std::array<int64_t, 3> threads;
  std::array<uint32_t, 3> threads_per_threadgroup;
  int64_t work_per_z;
};

// Threadgroups of the core that has most of them, where it keeps `resident` at once: the last ones to begin take as
// long as any.
inline int64_t threadgroups_on_a_core(int64_t threadgroups, int64_t resident, int64_t cores) {
  const int64_t at_once = resident * cores;
  return threadgroups > at_once ? ceil_div(threadgroups, at_once) * resident : ceil_div(threadgroups, cores);
}

// About `wanted` splits of a sum over `k_per_sample` terms of each sample, of no fewer than `least` terms, and of a
// multiple of it.
inline SplitK make_split(int64_t wanted, int64_t batch, int64_t k_per_sample, int64_t least) {
  const int64_t terms = batch * k_per_sample;
  const int64_t length = ceil_div(ceil_div(terms, std::max<int64_t>(wanted, 1)), least) * least;
  return {static_cast<int>(ceil_div(terms, length)), static_cast<int>(length), make_fast_divmod(k_per_sample)};
}

}  // namespace mps_conv_transpose3d
