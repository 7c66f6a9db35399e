#include "validation.h"

namespace mps_simulator {

void (*throw_finding)(const std::string& what) = nullptr;

void report_finding(const std::string& message) {
  if (throw_finding) throw_finding(message);
  throw ValidationError(message);
}

void fail_validation(const std::string& message) {
  report_finding(message + " (on a Mac this assertion ends the process)");
}

}  // namespace mps_simulator
