// What the simulated machine says of itself.
#pragma once

#include <cstddef>

namespace mps_simulator {

// The most bytes that one buffer may have.
size_t max_buffer_length();

}  // namespace mps_simulator
