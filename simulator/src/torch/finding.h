#pragma once

#include <string>

namespace mps_simulator {

// Throws what Python sees as mps_simulator.Finding. Set by the Python module; without it a finding is a c10::Error.
extern void (*throw_finding)(const std::string& what);

}  // namespace mps_simulator
