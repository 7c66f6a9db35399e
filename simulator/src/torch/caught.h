#pragma once

#include <exception>
#include <functional>

namespace mps_simulator {

// Runs `body` and returns the C++ exception that it threw, or null; others pass. In plain C++, because on GCC's
// Objective-C runtime a C++ exception cannot be caught in Objective-C++.
std::exception_ptr caught(const std::function<void()>& body);

}  // namespace mps_simulator
