// CPU memory that counts as pinned for `mps`.
#pragma once

#include <c10/core/Allocator.h>

namespace mps_simulator {

c10::Allocator* pinned_allocator();
bool is_pinned(const void* pointer);

}  // namespace mps_simulator
