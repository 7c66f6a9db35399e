#include "torch/caught.h"

namespace mps_simulator {

std::exception_ptr caught(const std::function<void()>& body) {
  try {
    body();
  } catch (...) {
    if (auto thrown = std::current_exception()) return thrown;
    throw;  // not a C++ one
  }
  return nullptr;
}

}  // namespace mps_simulator
