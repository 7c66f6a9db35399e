// What the simulated machine says of itself.
#pragma once

#include <cstddef>

namespace mps_simulator {

constexpr unsigned kMacOSMajor = 15;
constexpr unsigned kMacOSMinor = 5;

// The most bytes that one buffer may have.
size_t max_buffer_length();

}  // namespace mps_simulator
