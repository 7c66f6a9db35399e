// The attributes of MSL.
#pragma once

#include <string>

namespace mps_simulator::msl {

enum class Attribute {
  unknown,
  standard,     // C++'s or clang's own: left as it is
  unsupported,  // MSL's, for what this device does not do
  kernel,
  host_name,
  id,
  max_total_threads_per_threadgroup,
  function_constant,
  resource,  // buffer(n), threadgroup(n)
  input,     // thread_position_in_grid and the like
};

Attribute attribute(const std::string& name);

// The inputs whose type may be a vector of up to three components, all of the same number in one kernel.
bool is_vector_input(const std::string& name);

}  // namespace mps_simulator::msl
