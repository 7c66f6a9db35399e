#include "simd_functions.h"

#include <set>

namespace mps_simulator::msl {
namespace {

constexpr unsigned kPermuteFamily = 6, kReductionFamily = 7, kMatrixFamily = 7;

bool is_permute(const std::string& function) {
  static const std::set<std::string> names = {
      "simd_shuffle",
      "simd_shuffle_xor",
      "simd_shuffle_up",
      "simd_shuffle_down",
      "simd_shuffle_rotate_up",
      "simd_shuffle_rotate_down",
      "simd_broadcast",
      "simd_shuffle_and_fill_up",
      "simd_shuffle_and_fill_down",
      "simd_broadcast_first",
      "simd_ballot",
      "simd_all",
      "simd_any",
      "simd_is_first",
      "simd_active_threads_mask",
  };
  return names.count(function) != 0;
}

bool is_reduction(const std::string& function) {
  static const std::set<std::string> operations = {
      "sum",
      "product",
      "min",
      "max",
      "and",
      "or",
      "xor",
      "prefix_inclusive_sum",
      "prefix_inclusive_product",
      "prefix_exclusive_sum",
      "prefix_exclusive_product",
  };
  const bool collective = function.rfind("simd_", 0) == 0 || function.rfind("quad_", 0) == 0;
  return collective && operations.count(function.substr(5)) != 0;
}

}  // namespace

bool is_matrix_function(const std::string& function) {
  static const std::set<std::string> names = {
      "simdgroup_load",
      "simdgroup_store",
      "simdgroup_multiply",
      "simdgroup_multiply_accumulate",
      "make_filled_simdgroup_matrix",
  };
  return names.count(function) != 0;
}

unsigned family_of(const std::string& function) {
  if (is_matrix_function(function)) return kMatrixFamily;
  if (is_reduction(function)) return kReductionFamily;
  return is_permute(function) ? kPermuteFamily : 0;
}

}  // namespace mps_simulator::msl
