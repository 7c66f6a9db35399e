#include "validation.h"

namespace mps_simulator {

void (*throw_finding)(const std::string& what) = nullptr;

void fail_validation(const std::string& message) {
  const std::string what = message + " (on a Mac this assertion ends the process)";
  if (throw_finding) throw_finding(what);
  throw ValidationError(what);
}

}  // namespace mps_simulator
