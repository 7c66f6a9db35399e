#include "planner/gpu.h"

namespace mps_conv_transpose3d {

// The M1 has 8 cores, later chips 10; a Pro, Max or Ultra 2, 4 or 8 times as many, to within a tenth. The cheapest of
// each kind has up to a quarter fewer. A Mac with another GPU (virtual, or a phone's) has no more than the smallest.
Gpu gpu_named(const std::string& name) {
  const auto says = [&](const char* words) { return name.find(words) != std::string::npos; };
  if (!says("Apple M")) {
    return {10};
  }
  const int least = name == "Apple M1" || says("Apple M1 ") ? 8 : 10;
  return {least * (says(" Ultra") ? 8 : says(" Max") ? 4 : says(" Pro") ? 2 : 1)};
}

}  // namespace mps_conv_transpose3d
