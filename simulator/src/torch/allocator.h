#pragma once

#include <c10/core/Allocator.h>

namespace mps_simulator {

// Makes c10 find the `mps` allocator. Throws when PYTORCH_MPS_HIGH_WATERMARK_RATIO or ..._LOW_... is out of range.
void register_allocator();

}  // namespace mps_simulator
