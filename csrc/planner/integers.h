// Whole numbers, as the planner needs them.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <limits>

#include "params.h"

namespace mps_conv_transpose3d {

inline constexpr int64_t kMaxInt = std::numeric_limits<int32_t>::max();

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
inline int64_t floor_div(int64_t a, int64_t b) { return a >= 0 ? a / b : -ceil_div(-a, b); }

inline int64_t product(const std::array<int64_t, 3>& a) { return a[0] * a[1] * a[2]; }

inline bool fits(int64_t value) { return -kMaxInt <= value && value <= kMaxInt; }

// Of numbers that are not negative, and whose product may not even fit 64 bits.
inline bool product_fits(std::initializer_list<int64_t> factors) {
  int64_t product = 1;
  for (const int64_t factor : factors) {
    if (factor > 0 && product > kMaxInt / factor) {
      return false;
    }
    product *= factor;
  }
  return true;
}

inline uint32_t power_of_two_at_least(int64_t n, uint32_t limit) {
  uint32_t power = 1;
  while (power < n && power < limit) {
    power *= 2;
  }
  return power;
}

// Division by multiplication, for the kernels.
inline FastDivmod make_fast_divmod(int64_t n) {
  int shift = 0;
  while (int64_t{1} << shift < n) {
    ++shift;
  }
  // Exact below 2^31: the multiplier exceeds 2^(31 + shift) / n by less than one (Granlund and Montgomery, 1994).
  const int64_t power = int64_t{1} << (31 + shift);
  return {static_cast<int>(n), static_cast<unsigned>((power + n - 1) / n), shift};
}

}  // namespace mps_conv_transpose3d
