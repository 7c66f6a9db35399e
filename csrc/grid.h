// Grids of threadgroups: what they are, and how they fall on the cores of a GPU.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>

#include "conv_transpose3d_params.h"
#include "integers.h"

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

// About `wanted` splits of a sum over `length` of each sample, and no more: at most `most_chunks` of a sample, of a
// multiple of `unit`.
inline SplitK make_split(int64_t wanted, int64_t batch, int64_t length, int64_t most_chunks, int64_t unit) {
  const int64_t chunks = std::clamp<int64_t>(wanted / batch, 1, most_chunks);
  const int64_t chunk = ceil_div(ceil_div(length, chunks), unit) * unit;
  SplitK split{};
  split.chunks = static_cast<int>(ceil_div(length, chunk));
  split.length = static_cast<int>(chunk);
  split.samples = static_cast<int>(split.chunks > 1 ? 1 : ceil_div(batch, wanted));
  split.splits = static_cast<int>(split.chunks * ceil_div(batch, split.samples));
  return split;
}

}  // namespace mps_conv_transpose3d
