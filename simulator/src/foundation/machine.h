// The Mac that is played, as environment variables describe it. Each is read once, and a value that makes no sense is a
// std::runtime_error for whoever asks.
#pragma once

#include <string>

namespace mps_simulator {

struct Gpu {
  unsigned family;  // of Apple's: 7 is MTLGPUFamilyApple7
  std::string name;
  unsigned cores;
  bool metal3;
};

// MPS_SIMULATOR_GPU_FAMILY: a Mac's GPU of this family; the one of a virtual machine is of family 5.
const Gpu& gpu();

struct MacOS {
  unsigned major, minor;
};

// MPS_SIMULATOR_MACOS=X.Y
const MacOS& macos();
bool macos_is_at_least(unsigned major, unsigned minor = 0);

// MPS_SIMULATOR_MAX_THREADS: the threads per threadgroup that Apple's compiler leaves to a kernel that states no
// maximum.
unsigned unstated_max_threads();

}  // namespace mps_simulator
