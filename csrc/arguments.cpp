#include "arguments.h"

#include <ATen/TensorUtils.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <limits>

#include "planner/integers.h"

namespace mps_conv_transpose3d {
namespace {

bool computed_here(at::ScalarType type) { return type == at::kFloat || type == at::kHalf || type == at::kBFloat16; }

bool three_or_one(at::IntArrayRef list) { return list.size() == 3 || list.size() == 1; }

bool all_at_least(at::IntArrayRef list, int64_t least) {
  return std::all_of(list.begin(), list.end(), [least](int64_t value) { return value >= least; });
}

std::array<int64_t, 3> expand(at::IntArrayRef list) {
  return list.size() == 1 ? std::array<int64_t, 3>{list[0], list[0], list[0]}
                          : std::array<int64_t, 3>{list[0], list[1], list[2]};
}

void check_device(const at::Tensor& input, const at::Tensor& other, const char* name) {
  TORCH_CHECK(other.device() == input.device(), "Expected all tensors to be on the same device, but the input is on ",
              input.device(), " and the ", name, " is on ", other.device(), ". Move ",
              input.is_mps() ? "the module first: module.to(\"mps\")" : "the input first: input.to(\"mps\")");
}

void check_type(const at::Tensor& input, const at::Tensor& other) {
  TORCH_CHECK(other.scalar_type() == input.scalar_type(), "expected scalar type ", input.scalar_type(), " but found ",
              other.scalar_type());
}

// What PyTorch's own function checks before it chooses a kernel, in no words: it has them.
bool passes_generic_checks(const at::Tensor& input, const at::Tensor& weight, const std::optional<at::Tensor>& bias,
                           const Arguments& a) {
  if (!three_or_one(a.stride) || !three_or_one(a.padding) || !three_or_one(a.dilation) ||
      !three_or_one(a.output_padding) || !all_at_least(a.stride, 1) || !all_at_least(a.padding, 0) ||
      !all_at_least(a.dilation, 0) || !all_at_least(a.output_padding, 0) || a.groups < 1) {
    return false;
  }
  const bool has_bias = bias.has_value() && bias->defined();
  return weight.size(0) >= a.groups && weight.size(0) % a.groups == 0 && input.size(1) == weight.size(0) &&
         (!has_bias || (bias->dim() == 1 && bias->size(0) == weight.size(1) * a.groups)) && input.size(2) > 0 &&
         input.size(3) > 0 && input.size(4) > 0;
}

// As CPU PyTorch reads them: it keeps hyper-parameters in `int`, so that their low 32 bits are what it checks and
// prints. A stride of one input and a dilation of one tap have no effect here, whatever their size.
ProblemSize as_cpu_reads(const ProblemSize& g) {
  const auto low_bits = [](int64_t value) { return int64_t{static_cast<int32_t>(value)}; };
  ProblemSize read = g;
  for (size_t i = 0; i < 3; ++i) {
    read.stride[i] = g.input[i] > 1 ? low_bits(g.stride[i]) : std::min(g.stride[i], kMaxInt);
    read.dilation[i] = g.kernel[i] > 1 ? low_bits(g.dilation[i]) : std::min(g.dilation[i], kMaxInt);
    read.output_padding[i] = low_bits(g.output_padding[i]);
  }
  return read;
}

// What PyTorch's CPU kernel checks, and its mps kernel does not (pytorch issue 169236).
void check_as_cpu_does(const at::Tensor& weight, const ProblemSize& g) {
  TORCH_CHECK(g.stride[0] > 0 && g.stride[1] > 0 && g.stride[2] > 0,
              "stride should be greater than zero, but got stride_depth: ", g.stride[0],
              " stride_height: ", g.stride[1], " stride_width: ", g.stride[2]);
  TORCH_CHECK(g.dilation[0] > 0 && g.dilation[1] > 0 && g.dilation[2] > 0,
              "dilation should be greater than zero, but got dilation_depth: ", g.dilation[0],
              ", dilation_height: ", g.dilation[1], ", dilation_width: ", g.dilation[2]);
  bool smaller = true;
  for (size_t i = 0; i < 3; ++i) {
    smaller = smaller && (g.output_padding[i] < g.stride[i] || g.output_padding[i] < g.dilation[i]);
  }
  TORCH_CHECK(smaller, "output padding must be smaller than either stride or dilation, but got output_padding_depth: ",
              g.output_padding[0], " output_padding_height: ", g.output_padding[1],
              " output_padding_width: ", g.output_padding[2], " stride_depth: ", g.stride[0],
              " stride_height: ", g.stride[1], " stride_width: ", g.stride[2], " dilation_depth: ", g.dilation[0],
              " dilation_height: ", g.dilation[1], " dilation_width: ", g.dilation[2]);
  TORCH_CHECK(weight.numel() != 0,
              "non-empty 5D (n_output_plane x n_input_plane x kernel_depth x kernel_height x kernel_width) tensor "
              "expected for weight, but got: ",
              weight.sizes());
}

void check_size(const char* name, const std::array<int64_t, 3>& values) {
  for (const int64_t value : values) {
    TORCH_CHECK(fits(value), "mps_conv_transpose3d: ", name, " ", value, " is too large: the most is ", kMaxInt);
  }
}

void check_output(const ProblemSize& g) {
  const auto output = g.output();
  TORCH_CHECK(output[0] > 0 && output[1] > 0 && output[2] > 0, "Given input size per channel: (", g.input[0], " x ",
              g.input[1], " x ", g.input[2], "). Calculated output size per channel: (", output[0], " x ", output[1],
              " x ", output[2], "). Output size is too small");
}

// The same call with hyper-parameters that can be multiplied. Throws c10::Error where there is none, in the words of
// PyTorch's CPU kernel where it refuses the call too.
// A dilation of one tap only has to exceed output_padding, and a stride of one input that and the output's size.
ProblemSize checked(const at::Tensor& weight, ProblemSize g) {
  for (size_t i = 0; i < 3; ++i) {
    constexpr int64_t kMost = std::numeric_limits<int64_t>::max() / 2;
    TORCH_CHECK(g.padding[i] <= kMost, "Given padding=", g.padding[i], " at dimension ", i,
                " , expected padding to be at most ", kMost);
  }
  check_as_cpu_does(weight, as_cpu_reads(g));
  check_size("input size", g.input);
  check_size("kernel size", g.kernel);
  check_size("padding", g.padding);
  check_size("output_padding", g.output_padding);
  for (size_t i = 0; i < 3; ++i) {
    g.stride[i] = g.input[i] > 1 ? g.stride[i] : std::min(g.stride[i], kMaxInt);
    g.dilation[i] = g.kernel[i] > 1 ? g.dilation[i] : std::min(g.dilation[i], g.output_padding[i] + 1);
  }
  check_size("stride", g.stride);
  check_size("dilation", g.dilation);
  check_output(g);
  const auto output = g.output();
  for (size_t i = 0; i < 3; ++i) {
    g.stride[i] = g.input[i] > 1 ? g.stride[i] : std::min(g.stride[i], std::max(output[i], g.output_padding[i] + 1));
  }
  return g;
}

}  // namespace

std::optional<ProblemSize> conv_transpose3d_size(const at::Tensor& input, const at::Tensor& weight,
                                                 const std::optional<at::Tensor>& bias, const Arguments& a) {
  const bool has_bias = bias.has_value() && bias->defined();
  if (!a.transposed || input.dim() != 5 || weight.dim() != 5 || !computed_here(input.scalar_type()) ||
      input.layout() != at::kStrided || weight.layout() != at::kStrided) {
    return std::nullopt;
  }
  check_device(input, weight, "weight");
  if (has_bias) {
    check_device(input, *bias, "bias");
  }
  // For a batch of no samples PyTorch computes nothing and checks no more, on any device and in any dtype.
  if (input.size(0) == 0 || !passes_generic_checks(input, weight, bias, a)) {
    return std::nullopt;
  }
  check_type(input, weight);
  if (has_bias) {
    check_type(input, *bias);
  }
  ProblemSize g;
  g.batch = input.size(0);
  g.in_channels = weight.size(0);
  g.out_channels = weight.size(1) * a.groups;
  g.groups = a.groups;
  g.input = {input.size(2), input.size(3), input.size(4)};
  g.kernel = {weight.size(2), weight.size(3), weight.size(4)};
  g.stride = expand(a.stride);
  g.padding = expand(a.padding);
  g.output_padding = expand(a.output_padding);
  g.dilation = expand(a.dilation);
  return checked(weight, g);
}

void check_grad_output(const at::Tensor& grad_output, const at::Tensor& input, const ProblemSize& g) {
  check_device(input, grad_output, "gradient of the output");
  check_type(input, grad_output);
  TORCH_CHECK(grad_output.dim() == 5,
              "Expected input and grad_output to have the same number of dimensions, but got: 5 and ",
              grad_output.dim());
  const auto output = g.output();
  at::check_dim_size(grad_output, 5, 0, g.batch);
  at::check_dim_size(grad_output, 5, 1, g.out_channels);
  at::check_dim_size(grad_output, 5, 2, output[0]);
  at::check_dim_size(grad_output, 5, 3, output[1]);
  at::check_dim_size(grad_output, 5, 4, output[2]);
}

DataType data_type(const at::Tensor& tensor) {
  switch (tensor.scalar_type()) {
    case at::kFloat:
      return DataType::float32;
    case at::kHalf:
      return DataType::float16;
    default:
      return DataType::bfloat16;
  }
}

}  // namespace mps_conv_transpose3d
