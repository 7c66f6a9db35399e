// metal_compute: barriers.
#pragma once

#include "fiber.h"
#include "keywords.h"

namespace metal {

enum class mem_flags { mem_none = 0, mem_device = 1, mem_threadgroup = 2, mem_texture = 4 };
constexpr mem_flags operator|(mem_flags a, mem_flags b) {
  return static_cast<mem_flags>(static_cast<int>(a) | static_cast<int>(b));
}
constexpr mem_flags operator&(mem_flags a, mem_flags b) {
  return static_cast<mem_flags>(static_cast<int>(a) & static_cast<int>(b));
}

MSL_INLINE void threadgroup_barrier(mem_flags flags, MSL_SITE) {
  msl_runtime::threadgroup_barrier(msl_site, static_cast<unsigned>(flags));
}
MSL_INLINE void simdgroup_barrier(mem_flags flags, MSL_SITE) {
  msl_runtime::Exchange().meet(msl_site, true, static_cast<unsigned>(flags));
}

}  // namespace metal
