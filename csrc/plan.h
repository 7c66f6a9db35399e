// Which kernels compute a pass of ConvTranspose3d, and over which grids: a pure function of problem and device.
// No Metal and no tensor in it, so that it is tested, and explained, on any machine.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>

#include "params.h"
#include "problem.h"

namespace mps_conv_transpose3d {

enum class Pass { forward, input_grad, weight_grad, bias_grad };
enum class DataType { float32, float16, bfloat16 };

// The family of kernels. `direct`: one thread computes one position, or for a sum one threadgroup a part of one
// element; any problem. `depthwise`: kernels of 3x3x3, for few channels. `gemm_bmM_bnN`: a matrix product in tiles of
// up to M rows and N columns. `tiled_gemm_bmM_bnN`: the forward pass, where the kernel tiles the output.
// `polyphase_gemm`: the forward pass, any kernel; `polyphase_gemm_k3s2`: kernel 3, stride 2, padding 1. The last steps
// of sums: `sum_parts` of direct and depthwise kernels, `sum_splits` of a weight gradient by matrix products and of the
// bias gradient that it computes too.
enum class Method {
  direct,
  depthwise,
  tiled_gemm_bm64_bn128,
  tiled_gemm_bm64_bn64,
  tiled_gemm_bm32_bn64,
  tiled_gemm_bm32_bn32,
  polyphase_gemm,
  polyphase_gemm_k3s2,
  gemm_bm64_bn64,
  gemm_bm32_bn64,
  gemm_bm32_bn32,
  sum_parts,
  sum_splits
};
constexpr size_t kPasses = 4, kDataTypes = 3, kMethods = 13;

// One Metal function.
struct Kernel {
  Pass pass;
  Method method;
  DataType dtype;

  // "conv_transpose3d_forward_direct_float", "conv_transpose3d_input_grad_gemm_bm64_bn64_float"
  std::string name() const;
};

// What a plan needs to know of the GPU.
struct Device {
  int cores;
};

// As far as Metal's name of it tells, "Apple M2 Max".
Device device_named(const std::string& name);

// A kernel and its grid, cut along z into dispatches of at most `slice` each.
struct Step {
  Kernel kernel;
  std::array<uint32_t, 3> threads;  // Metal's threadsPerGrid, of all dispatches together
  std::array<uint32_t, 3> threads_per_threadgroup;
  uint32_t slice;
  int tile_rows;  // of a matrix product that is not by phases
};

struct Plan {
  std::array<Step, 2> steps;
  uint32_t step_count;  // 0 for a batch of no samples: outputs are empty then, and gradients zero
  SplitK split_k;
  PolyphaseTile phase_tile;
  int64_t partial_sums;  // float32 elements of memory between the steps
  bool has_bias_grad;    // a weight gradient's plan, too
};

// `forced` overrides the choice of method wherever the method can compute the problem. `wants_bias_grad`: a weight
// gradient's plan computes that of the bias, too, where it then need not be read from memory once more.
Plan make_plan(Pass pass, DataType dtype, const KernelParams& params, const Device& device,
               std::optional<Method> forced = std::nullopt, bool wants_bias_grad = false);

// Which tensor a kernel finds at which buffer index.
enum class Operand { none, input, weight, output, bias, partial_sums };
constexpr size_t kTensorBuffers = 4;
std::array<std::pair<KernelBuffer, Operand>, kTensorBuffers> operands(const Kernel& kernel);

const char* name_of(Method method);
std::optional<Method> method_named(const std::string& name);

// The plan in words, for people.
std::string explain(const Plan& plan);

}  // namespace mps_conv_transpose3d
