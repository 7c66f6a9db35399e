// The arguments of aten::_convolution and aten::convolution_backward, read as a ConvTranspose3d.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>

#include "planner/plan.h"

namespace mps_conv_transpose3d {

// What both operators share. Lists hold one value for all axes, or three.
struct Arguments {
  at::IntArrayRef stride, padding, dilation, output_padding;
  bool transposed;
  int64_t groups;
};

// The size of the problem, if the call is a valid ConvTranspose3d on dense floating-point tensors of the mps device;
// null if it is another operation, or one that PyTorch's own function refuses in its own words. Throws c10::Error, in
// the words of PyTorch's CPU kernel, for what PyTorch's mps kernel would not notice.
std::optional<ProblemSize> conv_transpose3d_size(const at::Tensor& input, const at::Tensor& weight,
                                                 const std::optional<at::Tensor>& bias, const Arguments& arguments);

// Throws c10::Error if grad_output has not the shape of the output.
void check_grad_output(const at::Tensor& grad_output, const at::Tensor& input, const ProblemSize& size);

DataType data_type(const at::Tensor& tensor);

}  // namespace mps_conv_transpose3d
