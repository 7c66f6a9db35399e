// Division by multiplication, for the kernels.
#pragma once

#include <cstdint>

#include "conv_transpose3d_params.h"

namespace mps_conv_transpose3d {

inline Divisor make_divisor(int64_t n) {
  int shift = 0;
  while (int64_t{1} << shift < n) {
    ++shift;
  }
  // Exact below 2^31: the multiplier exceeds 2^(31 + shift) / n by less than one (Granlund and Montgomery, 1994).
  const int64_t power = int64_t{1} << (31 + shift);
  return {static_cast<int>(n), static_cast<unsigned>((power + n - 1) / n), shift};
}

}  // namespace mps_conv_transpose3d
