// The Mac that is played, as environment variables describe it. Each is read once, and a value that makes no sense is a
// std::runtime_error for whoever asks.
#pragma once

namespace mps_simulator {

// MPS_SIMULATOR_MAX_THREADS: the threads per threadgroup that Apple's compiler leaves to a kernel that states no
// maximum.
unsigned unstated_max_threads();

}  // namespace mps_simulator
