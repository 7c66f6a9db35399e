#include "validation.h"

namespace mps_simulator {

void fail_validation(const std::string& message) {
  throw ValidationError(message + " (on a Mac this assertion ends the process)");
}

}  // namespace mps_simulator
