// Which kernel computes a pass of ConvTranspose3d, and over which grid: a pure function of the problem.
// No Metal and no tensor in it, so that it is tested, and explained, on any machine.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "conv_transpose3d_params.h"

namespace mps_conv_transpose3d {

enum class Pass { forward, input_grad, weight_grad, bias_grad };
constexpr size_t kPasses = 4;

enum class DataType { float32, float16, bfloat16 };
constexpr size_t kDataTypes = 3;

// The arguments of torch.nn.functional.conv_transpose3d, valid and with the spatial ones as (depth, height, width).
struct Geometry {
  int64_t batch = 1, in_channels = 1, out_channels = 1, groups = 1;  // channels of all groups together
  std::array<int64_t, 3> input{1, 1, 1}, kernel{1, 1, 1};
  std::array<int64_t, 3> stride{1, 1, 1}, padding{0, 0, 0}, output_padding{0, 0, 0}, dilation{1, 1, 1};

  // (input - 1) * stride - 2 * padding + dilation * (kernel - 1) + output_padding + 1
  std::array<int64_t, 3> output() const;
};

// Strides in elements of a [N, C, D, H, W] tensor.
using Strides5 = std::array<int64_t, 5>;
Strides5 contiguous_strides(int64_t channels, const std::array<int64_t, 3>& spatial);

// Null when the kernels' 32-bit arithmetic could overflow: then nothing here may compute it.
std::optional<ConvTranspose3dParams> make_params(const Geometry& geometry, const Strides5& input,
                                                 const Strides5& output);

// Whether every offset within one channel of such a tensor fits 32 bits.
bool spatial_offsets_fit(const std::array<int64_t, 3>& spatial, const Strides5& strides);

struct Dispatch {
  std::array<uint32_t, 3> threads;                 // Metal's threadsPerGrid
  std::array<uint32_t, 3> threads_per_threadgroup;
  uint32_t first;                                  // where along the whole grid's z it begins
};

struct Plan {
  Pass pass;
  DataType dtype;
  std::vector<Dispatch> dispatches;  // empty when there is nothing to compute
};

Plan make_plan(Pass pass, DataType dtype, const ConvTranspose3dParams& params);

// The Metal function, "conv_transpose3d_forward_float".
std::string kernel_name(Pass pass, DataType dtype);

// The plan in words, for people.
std::string explain(const Plan& plan, const ConvTranspose3dParams& params);

}  // namespace mps_conv_transpose3d
