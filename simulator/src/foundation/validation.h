// Misuse that ends the process on a Mac, by an assertion of Metal's validation layer or by a deadlock of its queues.
#pragma once

#include <stdexcept>
#include <string>

namespace mps_simulator {

// Raised from the call at fault instead of aborting, so that a test sees it (a Finding in Python) and goes on.
struct ValidationError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// Throws what Python sees as mps_simulator.Finding. Set by the Python module; null in a program without it.
extern void (*throw_finding)(const std::string& what);

[[noreturn]] void fail_validation(const std::string& message);

// What does not end the process there, and goes wrong all the same.
[[noreturn]] void report_finding(const std::string& message);

}  // namespace mps_simulator
