// The dispatches that compute a pass of ConvTranspose3d: a pure function of problem and GPU.
// No Metal and no tensor in it, so that it is tested, and explained, on any machine.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>

#include "planner/algorithms.h"
#include "planner/gpu.h"

namespace mps_conv_transpose3d {

// A tensor that a kernel reads or writes. input, weight, output and bias stand for their gradients, too.
enum class Operand { none, input, weight, output, bias, partial_sums };

struct Binding {
  KernelBuffer index;
  Operand operand;
};
inline constexpr size_t kMaxBindings = 4;

// One kernel over one grid, whole in itself.
struct Dispatch {
  Kernel kernel;
  std::array<uint32_t, 3> threads;  // Metal's threadsPerGrid
  std::array<uint32_t, 3> threads_per_threadgroup;
  uint32_t z_per_dispatch;  // the grid is encoded in slices of so many along z
  std::array<Binding, kMaxBindings> bindings;
  std::optional<int> tile_rows;  // of the families tiled and gradient
  std::optional<PolyphaseTile> polyphase_tile;
  std::optional<SplitK> split_k;  // of a sum, and of its reduction
};

struct Plan {
  std::array<std::optional<Dispatch>, 2> dispatches;  // in order; the second is the reduction of a sum
  int64_t partial_sums = 0;                           // float32 elements that the dispatches share
  bool has_bias_grad = false;                         // a weight gradient's plan computes that of the bias, too
};

// `preferred` is taken wherever it can compute the problem; null: what the model expects to be the fastest. With
// wants_bias_grad a weight gradient's plan computes the bias's, too, where the output's gradient then need not be read
// once more. Of a batch of no samples there is no plan.
Plan make_plan(Pass pass, DataType dtype, const KernelParams& params, const Gpu& gpu,
               const Algorithm* preferred = nullptr, bool wants_bias_grad = false);

// The plan in words, for people.
std::string explain(const Plan& plan);

}  // namespace mps_conv_transpose3d
