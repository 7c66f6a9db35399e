// The algorithms: one table, from which their names, tiles, abilities and kernels come.
#pragma once

#include <array>
#include <cstddef>
#include <string>
#include <string_view>

#include "planner/problem.h"

namespace mps_conv_transpose3d {

enum class Pass { forward, input_grad, weight_grad, bias_grad };
inline constexpr std::array<const char*, 4> kPassNames{"forward", "input_grad", "weight_grad", "bias_grad"};

enum class DataType { float32, float16, bfloat16 };
inline constexpr std::array<const char*, 3> kDataTypeNames{"float32", "float16", "bfloat16"};
inline constexpr std::array<const char*, 3> kElementNames{"float", "half", "bfloat"};  // Metal's

// What the algorithms of a family share is how they see a pass.
enum class Family {
  direct,     // a thread computes one position of some channels; for a sum a threadgroup a part of one element
  depthwise,  // the same for kernels of 3x3x3 and few channels
  tiled,      // the forward pass as one matrix product: each output has one (input, tap)
  polyphase,  // the forward pass as a matrix product for each phase of the output
  gradient,   // a gradient as one matrix product
};

// The most rows and columns of a threadgroup's tile of a matrix product.
struct Tile {
  int bm, bn;
};

// The files of metal/, each a library of its own.
enum class Library { none, direct, depthwise, forward_tiled, forward_polyphase, input_grad, weight_grad };
inline constexpr size_t kLibraries = 7;

struct Algorithm {
  const char* name;
  Family family;
  std::array<Library, kPassNames.size()> libraries;  // with the kernel of each pass; none: cannot compute that pass
  bool (*can)(Pass, const KernelParams&);            // whether it computes this problem, in a pass that it has
  Tile tile{};                                       // of the families tiled and gradient

  Library library(Pass pass) const { return libraries[static_cast<size_t>(pass)]; }
  bool is_sum_of_parts(Pass pass) const {
    return (family == Family::direct || family == Family::depthwise) &&
           (pass == Pass::weight_grad || pass == Pass::bias_grad);
  }
  bool is_tiled_product() const { return family == Family::tiled || family == Family::gradient; }
};

bool can_direct(Pass pass, const KernelParams& params);
bool can_depthwise(Pass pass, const KernelParams& params);
bool can_tiled(Pass pass, const KernelParams& params);
bool can_tiled_without_totals(Pass pass, const KernelParams& params);
bool can_polyphase(Pass pass, const KernelParams& params);
bool can_polyphase_k3s2(Pass pass, const KernelParams& params);
bool can_gradient(Pass pass, const KernelParams& params);

namespace libraries {
using L = Library;
inline constexpr std::array direct{L::direct, L::direct, L::direct, L::direct};
inline constexpr std::array depthwise{L::depthwise, L::depthwise, L::depthwise, L::none};
inline constexpr std::array tiled{L::forward_tiled, L::none, L::none, L::none};
inline constexpr std::array polyphase{L::forward_polyphase, L::none, L::none, L::none};
inline constexpr std::array gradient{L::none, L::input_grad, L::weight_grad, L::none};
}  // namespace libraries

// In the order of preference; among tiled products the model's time decides.
inline constexpr std::array kAlgorithms{
    Algorithm{"tiled_gemm_bm64_bn128", Family::tiled, libraries::tiled, can_tiled_without_totals, {64, 128}},
    Algorithm{"tiled_gemm_bm64_bn64", Family::tiled, libraries::tiled, can_tiled, {64, 64}},
    Algorithm{"tiled_gemm_bm32_bn64", Family::tiled, libraries::tiled, can_tiled, {32, 64}},
    Algorithm{"tiled_gemm_bm32_bn32", Family::tiled, libraries::tiled, can_tiled, {32, 32}},
    Algorithm{"gemm_bm64_bn64", Family::gradient, libraries::gradient, can_gradient, {64, 64}},
    Algorithm{"gemm_bm32_bn64", Family::gradient, libraries::gradient, can_gradient, {32, 64}},
    Algorithm{"gemm_bm32_bn32", Family::gradient, libraries::gradient, can_gradient, {32, 32}},
    Algorithm{"polyphase_gemm_k3s2", Family::polyphase, libraries::polyphase, can_polyphase_k3s2},
    Algorithm{"polyphase_gemm", Family::polyphase, libraries::polyphase, can_polyphase},
    Algorithm{"depthwise", Family::depthwise, libraries::depthwise, can_depthwise},
    Algorithm{"direct", Family::direct, libraries::direct, can_direct},
};

// Null where there is none of that name.
const Algorithm* algorithm_named(std::string_view name);

// Whether it computes the problem in this pass.
bool can(const Algorithm& algorithm, Pass pass, const KernelParams& params);

// A pass as a matrix product of m x n elements, each a sum over k.
struct GemmShape {
  int64_t m, n, k;
};
GemmShape gemm_shape(Pass pass, Family family, const KernelParams& params);

// Whether a matrix product leaves little of its tiles idle.
bool is_wide(Pass pass, Family family, const KernelParams& params);

// The second dispatch of a sum, which adds up what the first one cut it into.
enum class Reduction { none, parts, k_splits };
inline constexpr std::array<const char*, 3> kReductionNames{"", "sum_parts", "sum_splits"};

// One Metal function: that of an algorithm, or a reduction.
struct Kernel {
  Pass pass;
  DataType dtype;
  const Algorithm* algorithm;  // null for a reduction
  Reduction reduction;

  // "conv_transpose3d_input_grad_gemm_bm64_bn64_float"
  std::string name() const;
  Library library() const;
  // Below kFunctions, the same for all passes and dtypes.
  size_t function() const;
};
inline constexpr size_t kFunctions = kAlgorithms.size() + kReductionNames.size() - 1;

}  // namespace mps_conv_transpose3d
