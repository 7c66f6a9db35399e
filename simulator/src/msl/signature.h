// What a kernel may take.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "ast.h"
#include "dump.h"

namespace mps_simulator::msl {

// What the source says of a parameter beside what KernelParameter holds.
struct WrittenParameter {
  Location where;
  std::string type;  // with the names that the source gives it
  bool has_default = false;
  bool negative = false;  // the index
};

// Gives each buffer and each threadgroup argument its index.
void check_signature(Kernel& kernel, const std::vector<WrittenParameter>& written,
                     const std::function<void(const Location&, const std::string&)>& error);

}  // namespace mps_simulator::msl
