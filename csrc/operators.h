// Kernels for PyTorch's dispatcher. Each has its operator's schema.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/DispatchKeySet.h>
#include <torch/version.h>

#include <array>
#include <optional>
#include <string>
#include <tuple>

#include "planner/algorithms.h"

namespace mps_conv_transpose3d {

// What computes ConvTranspose3d. `none`: PyTorch itself, as if this library were not there. `composite`: the Python
// package's plain PyTorch operations.
enum class Backend { none, kernels, composite };

// Holds for all threads, from their next call on.
void set_backend(Backend backend);
Backend backend();

// How a call is to be computed, where it can be so.
struct Preference {
  const Algorithm* algorithm = nullptr;  // null: what the planner's model expects to be the fastest
  std::optional<int> cores;              // those of the GPU to plan for; none: this one's
};

// Throws c10::Error if no algorithm is named so, or no GPU has so many cores.
Preference preference_of(const std::optional<std::string>& algorithm, std::optional<int64_t> cores);

// That of MPS_CONV_TRANSPOSE3D_ALGORITHM, which is read once. Throws c10::Error if no algorithm is named so.
const Preference& preference_of_all_calls();

using Gradients = std::tuple<at::Tensor, at::Tensor, at::Tensor>;  // of input, weight and bias

// ConvTranspose3d by the kernels alone, for tests and benchmarks. input: [N, C, D, H, W], weight: [C, O / groups, kD,
// kH, kW]. Throws c10::Error where they cannot compute it, and for what PyTorch's CPU operator refuses.
at::Tensor forward(const at::Tensor& input, const at::Tensor& weight, const std::optional<at::Tensor>& bias,
                   at::IntArrayRef stride, at::IntArrayRef padding, at::IntArrayRef output_padding, int64_t groups,
                   at::IntArrayRef dilation, std::optional<std::string> algorithm, std::optional<int64_t> cores);
Gradients backward(const at::Tensor& grad_output, const at::Tensor& input, const at::Tensor& weight,
                   at::IntArrayRef stride, at::IntArrayRef padding, at::IntArrayRef output_padding, int64_t groups,
                   at::IntArrayRef dilation, std::array<bool, 3> output_mask, std::optional<std::string> algorithm,
                   std::optional<int64_t> cores);

// aten::_convolution. What is not a ConvTranspose3d that we compute goes on to PyTorch's own function.
at::Tensor convolution(const at::Tensor& input, const at::Tensor& weight, const std::optional<at::Tensor>& bias,
                       at::IntArrayRef stride, at::IntArrayRef padding, at::IntArrayRef dilation, bool transposed,
                       at::IntArrayRef output_padding, int64_t groups, bool benchmark, bool deterministic,
                       bool cudnn_enabled, bool allow_tf32);

// aten::convolution_backward: the gradients of input, weight and bias that output_mask asks for.
Gradients convolution_backward(const at::Tensor& grad_output, const at::Tensor& input, const at::Tensor& weight,
                               at::OptionalIntArrayRef bias_sizes, at::IntArrayRef stride, at::IntArrayRef padding,
                               at::IntArrayRef dilation, bool transposed, at::IntArrayRef output_padding,
                               int64_t groups, std::array<bool, 3> output_mask);

// torch 2.5 brought autocast to mps.
#if TORCH_VERSION_MAJOR > 2 || TORCH_VERSION_MINOR >= 5
#define MPS_CONV_TRANSPOSE3D_HAS_AUTOCAST
#endif

// Notes whether PyTorch has an autocast kernel of its own, as it has from 2.9 on. Called before ours takes its place.
void note_torch_autocast();

// aten::conv_transpose3d.input under autocast: in the autocast dtype, where PyTorch's own kernel has float32.
at::Tensor conv_transpose3d_autocast(c10::DispatchKeySet keys, const at::Tensor& input, const at::Tensor& weight,
                                     const std::optional<at::Tensor>& bias, at::IntArrayRef stride,
                                     at::IntArrayRef padding, at::IntArrayRef output_padding, int64_t groups,
                                     at::IntArrayRef dilation);

}  // namespace mps_conv_transpose3d
