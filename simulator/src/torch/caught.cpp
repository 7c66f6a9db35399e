#include "caught.h"

namespace mps_simulator {

std::exception_ptr caught(const std::function<void()>& body) {
  try {
    body();
  } catch (...) {
    return std::current_exception();
  }
  return nullptr;
}

}  // namespace mps_simulator
