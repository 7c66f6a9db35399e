// PyTorch's own convolutions on `mps`, with what they accept and refuse there; the arithmetic is the CPU's.
//
// A PyTorch without MPS compiled in sends an `mps` convolution to aten::convolution_overrideable, where one with MPS
// calls aten::_mps_convolution or aten::_mps_convolution_transpose.
#include <ATen/ATen.h>
#include <ATen/native/ConvUtils.h>
#include <c10/core/impl/LocalDispatchKeySet.h>
#include <torch/library.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "record.h"
#include "torch/fallback_alias.h"
#include "torch/fallback_operators.h"
#include "torch/storage.h"

namespace mps_simulator {
namespace {

struct Geometry {
  at::IntArrayRef stride;
  at::IntArrayRef padding;
  at::IntArrayRef dilation;
  bool transposed;
  at::IntArrayRef output_padding;
  int64_t groups;
};

// MPS_SIMULATOR_NATIVE_HALF=1: as PyTorch may come to have it (its pull request 183755).
bool native_half() {
  static const bool enabled = [] {
    const char* text = std::getenv("MPS_SIMULATOR_NATIVE_HALF");
    return text != nullptr && std::string(text) == "1";
  }();
  return enabled;
}

void check_types(const at::Tensor& input, const at::Tensor& weight, const at::Tensor& bias, const Geometry& geometry) {
  TORCH_CHECK(input.options().type_equal(weight.options()), "Input type (", input.toString(), ") and weight type (",
              weight.toString(), ") should be the same");
  TORCH_CHECK(!bias.defined() || input.options().type_equal(bias.options()), "Input type (", input.toString(),
              ") and bias type (", bias.toString(), ") should be the same");
  if (geometry.transposed && input.dim() == 5) {
    TORCH_CHECK(!(torch_version() < TorchVersion{2, 8}), "ConvTranspose 3D is not supported on MPS");
    TORCH_CHECK(native_half() || (input.scalar_type() != at::kHalf && input.scalar_type() != at::kBFloat16),
                "ConvTranspose 3D with BF16 or FP16 types is not supported on MPS");
  }
  TORCH_CHECK(at::isFloatingType(input.scalar_type()), "Convolution is supported only for Floating types");
}

at::MemoryFormat memory_format(const at::Tensor& input, const at::Tensor& weight) {
  if (!at::native::mps_conv_use_channels_last(input, weight)) {
    return at::MemoryFormat::Contiguous;
  }
  return input.dim() == 5 ? at::MemoryFormat::ChannelsLast3d : at::MemoryFormat::ChannelsLast;
}

// The CPU refuses an output padding that reaches past stride and dilation; mps computes it (pytorch issue 169236).
bool overhangs(const Geometry& geometry) {
  for (size_t i = 0; geometry.transposed && i < geometry.output_padding.size(); ++i) {
    if (geometry.output_padding[i] >= std::max(geometry.stride[i], geometry.dilation[i])) {
      return true;
    }
  }
  return false;
}

// What constant_pad_nd takes to turn the whole transposed convolution (padding 0) into the one asked for.
std::vector<int64_t> crop(const Geometry& geometry) {
  std::vector<int64_t> pad;
  for (size_t i = geometry.padding.size(); i-- > 0;) {
    pad.push_back(-geometry.padding[i]);
    pad.push_back(geometry.output_padding[i] - geometry.padding[i]);
  }
  return pad;
}

// Runs `body` as a native operator named `name`: recorded, after the work that was encoded before it, and below
// autograd and autocast.
template <typename Body>
auto run_native(const std::string& name, Body body) {
  auto& recorder = Recorder::instance();
  if (recorder.recording()) {
    recorder.add_operator(name);
  }
  synchronize_for_host();
  c10::impl::ExcludeDispatchKeyGuard handled_above(c10::autograd_dispatch_keyset_with_ADInplaceOrView |
                                                   c10::autocast_dispatch_keyset);
  Aliases aliases(name);
  return body(aliases);
}

// The CPU's own float16 takes a hundred times as long as its float32; the sums are float32 on a Mac too.
at::Tensor float32_for_float16(const at::Tensor& cpu) {
  return cpu.scalar_type() == at::kHalf ? cpu.to(at::kFloat) : cpu;
}

at::Tensor convolution(const at::Tensor& input, const at::Tensor& weight, const std::optional<at::Tensor>& bias_,
                       at::IntArrayRef stride, at::IntArrayRef padding, at::IntArrayRef dilation, bool transposed,
                       at::IntArrayRef output_padding, int64_t groups) {
  const at::Tensor bias = bias_.value_or(at::Tensor());
  const Geometry geometry{stride, padding, dilation, transposed, output_padding, groups};
  check_types(input, weight, bias, geometry);
  return run_native("aten::convolution_overrideable", [&](Aliases& aliases) {
    const auto x = float32_for_float16(aliases.to_cpu(input));
    const auto w = float32_for_float16(aliases.to_cpu(weight));
    const auto b = bias.defined() ? std::optional(float32_for_float16(aliases.to_cpu(bias))) : std::nullopt;
    at::Tensor y;
    if (overhangs(geometry)) {
      const std::vector<int64_t> zeros(padding.size(), 0);
      y = at::constant_pad_nd(at::convolution(x, w, {}, stride, zeros, dilation, true, zeros, groups), crop(geometry));
      if (b.has_value()) {
        y += at::native::reshape_bias(y.dim(), *b);
      }
    } else {
      y = at::convolution(x, w, b, stride, padding, dilation, transposed, output_padding, groups);
    }
    return aliases.to_mps(y.to(input.scalar_type()).contiguous(memory_format(input, weight)));
  });
}

// The gradient of the bias is left undefined, as PyTorch's own does: aten::convolution_backward sums it.
std::tuple<at::Tensor, at::Tensor, at::Tensor> convolution_backward(const at::Tensor& grad_output,
                                                                    const at::Tensor& input, const at::Tensor& weight,
                                                                    at::IntArrayRef stride, at::IntArrayRef padding,
                                                                    at::IntArrayRef dilation, bool transposed,
                                                                    at::IntArrayRef output_padding, int64_t groups,
                                                                    std::array<bool, 3> output_mask) {
  const Geometry geometry{stride, padding, dilation, transposed, output_padding, groups};
  TORCH_CHECK(at::isFloatingType(grad_output.scalar_type()), "Convolution is supported only for Floating types");
  return run_native("aten::convolution_backward_overrideable", [&](Aliases& aliases) {
    auto gy = float32_for_float16(aliases.to_cpu(grad_output));
    const auto x = float32_for_float16(aliases.to_cpu(input));
    const auto w = float32_for_float16(aliases.to_cpu(weight));
    const std::array<bool, 3> mask{output_mask[0], output_mask[1], false};
    const std::vector<int64_t> zeros(padding.size(), 0);
    if (overhangs(geometry)) {
      auto pad = crop(geometry);
      std::transform(pad.begin(), pad.end(), pad.begin(), std::negate<>());
      gy = at::constant_pad_nd(gy, pad);
      padding = zeros;
      output_padding = zeros;
    }
    const auto [grad_input, grad_weight, grad_bias] = at::convolution_backward(
        gy, x, w, std::nullopt, stride, padding, dilation, transposed, output_padding, groups, mask);
    const auto to_mps = [&](const at::Tensor& cpu) {
      if (!cpu.defined()) {
        return cpu;
      }
      return aliases.to_mps(cpu.to(input.scalar_type()).contiguous(memory_format(input, weight)));
    };
    return std::tuple(to_mps(grad_input), to_mps(grad_weight), at::Tensor());
  });
}

TORCH_LIBRARY_IMPL(aten, MPS, m) {
  m.impl("convolution_overrideable", &convolution);
  m.impl("convolution_backward_overrideable", &convolution_backward);
}

}  // namespace
}  // namespace mps_simulator
