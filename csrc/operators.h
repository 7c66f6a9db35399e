// Kernels for PyTorch's dispatcher. Each has its operator's schema.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/DispatchKeySet.h>
#include <torch/version.h>

#include <array>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

namespace mps_conv_transpose3d {

// What computes ConvTranspose3d. `none`: PyTorch itself, as if this library were not there. `composite`: the Python
// package's plain PyTorch operations.
enum class Backend { none, kernels, composite };

// Holds for all threads, from their next call on.
void set_backend(Backend backend);
Backend backend();

// Throws c10::Error if there is no such backend; "kernels" or "composite".
Backend backend_named(const std::string& name);
std::optional<std::string> name_of(Backend backend);

// aten::_convolution. What is not a ConvTranspose3d that we compute goes on to PyTorch's own function.
at::Tensor convolution(const at::Tensor& input, const at::Tensor& weight, const std::optional<at::Tensor>& bias,
                       at::IntArrayRef stride, at::IntArrayRef padding, at::IntArrayRef dilation, bool transposed,
                       at::IntArrayRef output_padding, int64_t groups, bool benchmark, bool deterministic,
                       bool cudnn_enabled, bool allow_tf32);

// aten::convolution_backward: the gradients of input, weight and bias that output_mask asks for.
std::tuple<at::Tensor, at::Tensor, at::Tensor> convolution_backward(
    const at::Tensor& grad_output, const at::Tensor& input, const at::Tensor& weight,
    at::OptionalIntArrayRef bias_sizes, at::IntArrayRef stride, at::IntArrayRef padding, at::IntArrayRef dilation,
    bool transposed, at::IntArrayRef output_padding, int64_t groups, std::array<bool, 3> output_mask);

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

// The names that force_method() takes.
std::vector<std::string> methods();

// Has every call use this method wherever it can compute the problem, until it is called with none: for tests, which so
// reach every kernel with small tensors. Throws c10::Error if there is no such method.
void force_method(std::optional<std::string> name);

// Has every call be planned for a GPU of so many cores, until it is called with none: for benchmarks. Throws c10::Error
// for fewer than one.
void force_cores(std::optional<int64_t> cores);

}  // namespace mps_conv_transpose3d
