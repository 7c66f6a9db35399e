// The problem: the arguments of a call, and what the kernels are told of it.
#pragma once

#include <array>
#include <cstdint>
#include <optional>

#include "params.h"

namespace mps_conv_transpose3d {

// The arguments of torch.nn.functional.conv_transpose3d, valid and with the spatial ones as (depth, height, width).
struct ProblemSize {
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
std::optional<KernelParams> make_params(const ProblemSize& size, const Strides5& input, const Strides5& output);

// Whether every offset within one channel of such a tensor fits 32 bits.
bool spatial_offsets_fit(const std::array<int64_t, 3>& spatial, const Strides5& strides);

// Whether each element of the output meets exactly one input and tap.
bool is_non_overlapping(const KernelParams& params);

// Whether those taps do that are the `stride` ones from `padding` on, along each axis.
bool some_taps_cover_output_once(const KernelParams& params);

// Whether each element of the output is met by an input through a tap below the stride, or by the last input.
bool covers_output(const KernelParams& params);

// Taps of one filter.
int64_t taps_of(const KernelParams& params);

// Phases of the output that any tap reaches.
int64_t reached_phases_of(const KernelParams& params);

// Positions of one channel of the input, and of the output.
int64_t positions_of(const KernelParams& params);
int64_t output_positions_of(const KernelParams& params);

}  // namespace mps_conv_transpose3d
