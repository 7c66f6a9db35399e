#include "operators.h"

#include <ATen/autocast_mode.h>
#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/native/ConvUtils.h>
#include <ATen/ops/_convolution_native.h>
#include <ATen/ops/conv_transpose3d.h>
#include <ATen/ops/conv_transpose3d_ops.h>
#include <ATen/ops/convolution_backward_native.h>
#include <ATen/ops/empty.h>

#include <atomic>
#include <cstdlib>

#include "arguments.h"
#include "encoding.h"
#include "log.h"
#include "planner/plan.h"

namespace mps_conv_transpose3d {
namespace {

Strides5 strides_of(const at::Tensor& tensor) {
  const auto strides = tensor.strides();
  return {strides[0], strides[1], strides[2], strides[3], strides[4]};
}

// The tensor itself wherever the kernels can read it in place: any strides whose offsets fit.
at::Tensor readable(const at::Tensor& tensor) {
  const bool fits = spatial_offsets_fit({tensor.size(2), tensor.size(3), tensor.size(4)}, strides_of(tensor));
  return fits ? tensor : tensor.contiguous();
}

// The memory format of every result, by the function that FakeTensor predicts it with.
at::MemoryFormat result_format(const at::Tensor& input, const at::Tensor& weight, const Arguments& a) {
  if (input.is_contiguous() && weight.is_contiguous()) {
    return at::MemoryFormat::Contiguous;
  }
  const auto backend =
      at::native::select_conv_backend(input, weight, std::nullopt, c10::fromIntArrayRefSlow(a.stride),
                                      c10::fromIntArrayRefSlow(a.padding), c10::fromIntArrayRefSlow(a.dilation),
                                      a.transposed, c10::fromIntArrayRefSlow(a.output_padding), a.groups, std::nullopt);
  return at::native::_determine_backend_memory_format(input, weight, backend);
}

std::atomic<Backend> current_backend{Backend::none};

bool is_kernels(Backend backend) { return backend == Backend::kernels && !unavailable_reason(); }

// Calls the Python package's operator of this name, if there is one.
template <typename Signature, typename... Args>
auto call_composite(const char* name, const Args&... args)
    -> std::optional<typename c10::guts::function_traits<Signature>::return_type> {
  const auto op = c10::Dispatcher::singleton().findSchemaOrThrow(name, "");
  if (!op.hasKernelForDispatchKey(c10::DispatchKey::MPS)) {
    return std::nullopt;
  }
  const at::AutoDispatchBelowADInplaceOrView below_autograd;
  return op.typed<Signature>().call(args...);
}

// Plans for whoever makes a call: how, and on which GPU.
class Planner {
 public:
  explicit Planner(const Preference& preference)
      : preference_(preference), gpu_(preference.cores ? Gpu{*preference.cores} : current_gpu()) {}

  Plan plan(Pass pass, const at::Tensor& input, const ProblemSize& size, const KernelParams& params,
            bool wants_bias_grad = false) const {
    const Plan plan = make_plan(pass, data_type(input), params, gpu_, preference_.algorithm, wants_bias_grad);
    if (is_logging()) {
      const bool is_preferred = plan.dispatches[0]->kernel.algorithm == preference_.algorithm;
      log_call(size, explain(plan), is_preferred ? "the caller asked for it" : "the least time by the planner's model");
    }
    return plan;
  }

 private:
  const Preference& preference_;
  const Gpu gpu_;
};

std::array<int64_t, 5> output_sizes(const ProblemSize& size) {
  const auto output = size.output();
  return {size.batch, size.out_channels, output[0], output[1], output[2]};
}

// The result by the kernels; null where the problem is too large for them.
std::optional<at::Tensor> compute_output(const at::Tensor& input, const at::Tensor& weight,
                                         const std::optional<at::Tensor>& bias, const Arguments& arguments,
                                         const ProblemSize& size, const Planner& planner) {
  const at::Tensor x = readable(input);
  const at::Tensor output = at::empty(output_sizes(size), input.options(), result_format(input, weight, arguments));
  const auto params = make_params(size, strides_of(x), strides_of(output));
  if (!params) {
    return std::nullopt;
  }
  const at::Tensor w = weight.contiguous();
  const at::Tensor b = bias.has_value() && bias->defined() ? bias->contiguous() : at::Tensor();
  encode(planner.plan(Pass::forward, input, size, *params), *params, {&x, &w, &output, b.defined() ? &b : nullptr});
  return output;
}

// The gradients that the mask asks for, by the kernels; null where the problem is too large for them.
std::optional<Gradients> compute_gradients(const at::Tensor& grad_output, const at::Tensor& input,
                                           const at::Tensor& weight, const Arguments& arguments,
                                           std::array<bool, 3> output_mask, const ProblemSize& size,
                                           const Planner& planner) {
  const auto format = result_format(input, weight, arguments);
  const at::Tensor gy = readable(grad_output);
  const at::Tensor grad_input = output_mask[0] ? at::empty(input.sizes(), input.options(), format) : at::Tensor();
  const at::Tensor x = output_mask[1] ? readable(input) : at::Tensor();
  // The gradient of the bias has no use for strides of the input.
  const auto params_with = [&](const at::Tensor& tensor) {
    const Strides5 strides = tensor.defined() ? strides_of(tensor) : contiguous_strides(size.in_channels, size.input);
    return make_params(size, strides, strides_of(gy));
  };
  const auto grad_input_params = params_with(grad_input), params = params_with(x);
  if (!grad_input_params || !params) {
    return std::nullopt;
  }
  if (output_mask[0]) {
    const at::Tensor w = weight.contiguous();
    encode(planner.plan(Pass::input_grad, input, size, *grad_input_params), *grad_input_params,
           {&grad_input, &w, &gy, nullptr});
  }
  at::Tensor grad_weight, grad_bias;
  if (output_mask[2]) {
    grad_bias = at::empty({size.out_channels}, weight.options());
  }
  bool has_bias_grad = false;
  if (output_mask[1]) {
    grad_weight = at::empty(weight.sizes(), weight.options());
    const Plan plan = planner.plan(Pass::weight_grad, input, size, *params, output_mask[2]);
    has_bias_grad = plan.has_bias_grad;
    encode(plan, *params, {&x, &grad_weight, &gy, has_bias_grad ? &grad_bias : nullptr});
    grad_weight = grad_weight.contiguous(format);
  }
  if (output_mask[2] && !has_bias_grad) {
    encode(planner.plan(Pass::bias_grad, input, size, *params), *params, {nullptr, nullptr, &gy, &grad_bias});
  }
  return Gradients{grad_input, grad_weight, grad_bias};
}

void check_kernels_serve(bool is_ours) {
  const auto& reason = unavailable_reason();
  TORCH_CHECK(!reason, "mps_conv_transpose3d: ", *reason);
  TORCH_CHECK(is_ours, "mps_conv_transpose3d: not a ConvTranspose3d that the kernels compute");
}

}  // namespace

void set_backend(Backend backend) { current_backend.store(backend, std::memory_order_relaxed); }
Backend backend() { return current_backend.load(std::memory_order_relaxed); }

Preference preference_of(const std::optional<std::string>& algorithm, std::optional<int64_t> cores) {
  Preference preference;
  if (algorithm) {
    preference.algorithm = algorithm_named(*algorithm);
    TORCH_CHECK(preference.algorithm, "mps_conv_transpose3d: no algorithm is named ", *algorithm);
  }
  if (cores) {
    TORCH_CHECK(*cores > 0 && *cores < 1 << 16, "mps_conv_transpose3d: no GPU has ", *cores, " cores");
    preference.cores = static_cast<int>(*cores);
  }
  return preference;
}

const Preference& preference_of_all_calls() {
  static const Preference preference = [] {
    const char* name = std::getenv("MPS_CONV_TRANSPOSE3D_ALGORITHM");
    return preference_of(name && *name ? std::optional<std::string>(name) : std::nullopt, std::nullopt);
  }();
  return preference;
}

at::Tensor forward(const at::Tensor& input, const at::Tensor& weight, const std::optional<at::Tensor>& bias,
                   at::IntArrayRef stride, at::IntArrayRef padding, at::IntArrayRef output_padding, int64_t groups,
                   at::IntArrayRef dilation, std::optional<std::string> algorithm, std::optional<int64_t> cores) {
  const Preference preference = preference_of(algorithm, cores);
  const Arguments arguments{stride, padding, dilation, output_padding, true, groups};
  const auto size = conv_transpose3d_size(input, weight, bias, arguments);
  check_kernels_serve(size.has_value());
  const auto output = compute_output(input, weight, bias, arguments, *size, Planner(preference));
  check_kernels_serve(output.has_value());
  return *output;
}

Gradients backward(const at::Tensor& grad_output, const at::Tensor& input, const at::Tensor& weight,
                   at::IntArrayRef stride, at::IntArrayRef padding, at::IntArrayRef output_padding, int64_t groups,
                   at::IntArrayRef dilation, std::array<bool, 3> output_mask, std::optional<std::string> algorithm,
                   std::optional<int64_t> cores) {
  const Preference preference = preference_of(algorithm, cores);
  const Arguments arguments{stride, padding, dilation, output_padding, true, groups};
  const auto size = conv_transpose3d_size(input, weight, std::nullopt, arguments);
  check_kernels_serve(size.has_value());
  check_grad_output(grad_output, input, *size);
  const auto gradients =
      compute_gradients(grad_output, input, weight, arguments, output_mask, *size, Planner(preference));
  check_kernels_serve(gradients.has_value());
  return *gradients;
}

at::Tensor convolution(const at::Tensor& input, const at::Tensor& weight, const std::optional<at::Tensor>& bias,
                       at::IntArrayRef stride, at::IntArrayRef padding, at::IntArrayRef dilation, bool transposed,
                       at::IntArrayRef output_padding, int64_t groups, bool benchmark, bool deterministic,
                       bool cudnn_enabled, bool allow_tf32) {
  const Arguments arguments{stride, padding, dilation, output_padding, transposed, groups};
  const Backend serving = backend();
  const auto size = serving == Backend::none ? std::nullopt : conv_transpose3d_size(input, weight, bias, arguments);
  if (size && is_kernels(serving)) {
    if (auto output = compute_output(input, weight, bias, arguments, *size, Planner(preference_of_all_calls()))) {
      return *output;
    }
  }
  if (size) {
    if (auto output = call_composite<decltype(convolution)>(
            "mps_conv_transpose3d::composite_convolution", input, weight, bias, stride, padding, dilation, transposed,
            output_padding, groups, benchmark, deterministic, cudnn_enabled, allow_tf32)) {
      return *output;
    }
  }
  return at::native::_convolution(input, weight, bias, stride, padding, dilation, transposed, output_padding, groups,
                                  benchmark, deterministic, cudnn_enabled, allow_tf32);
}

Gradients convolution_backward(const at::Tensor& grad_output, const at::Tensor& input, const at::Tensor& weight,
                               at::OptionalIntArrayRef bias_sizes, at::IntArrayRef stride, at::IntArrayRef padding,
                               at::IntArrayRef dilation, bool transposed, at::IntArrayRef output_padding,
                               int64_t groups, std::array<bool, 3> output_mask) {
  const Arguments arguments{stride, padding, dilation, output_padding, transposed, groups};
  const Backend serving = backend();
  const auto size =
      serving == Backend::none ? std::nullopt : conv_transpose3d_size(input, weight, std::nullopt, arguments);
  if (size) {
    check_grad_output(grad_output, input, *size);
  }
  if (size && is_kernels(serving)) {
    if (auto gradients = compute_gradients(grad_output, input, weight, arguments, output_mask, *size,
                                           Planner(preference_of_all_calls()))) {
      return *gradients;
    }
  }
  if (size) {
    if (auto gradients = call_composite<decltype(convolution_backward)>(
            "mps_conv_transpose3d::composite_convolution_backward", grad_output, input, weight, bias_sizes, stride,
            padding, dilation, transposed, output_padding, groups, output_mask)) {
      return *gradients;
    }
  }
  return at::native::convolution_backward(grad_output, input, weight, bias_sizes, stride, padding, dilation, transposed,
                                          output_padding, groups, output_mask);
}

#ifdef MPS_CONV_TRANSPOSE3D_HAS_AUTOCAST
bool torch_has_autocast = false;  // written once, before the kernel that reads it is registered

void note_torch_autocast() {
  constexpr auto kKey = c10::DispatchKey::AutocastMPS;
  const auto op = c10::Dispatcher::singleton().findSchemaOrThrow("aten::conv_transpose3d", "input");
  torch_has_autocast = op.hasKernelForDispatchKey(kKey) && !op.isKernelFallthroughKernel(kKey);
}

at::Tensor conv_transpose3d_autocast(c10::DispatchKeySet keys, const at::Tensor& input, const at::Tensor& weight,
                                     const std::optional<at::Tensor>& bias, at::IntArrayRef stride,
                                     at::IntArrayRef padding, at::IntArrayRef output_padding, int64_t groups,
                                     at::IntArrayRef dilation) {
  constexpr auto kKey = c10::DispatchKey::AutocastMPS;
  const Backend serving = backend();
  // Tensors of another device come here too, and there may be no Metal device to ask about.
  if (!input.is_mps() || (serving == Backend::none && !torch_has_autocast)) {
    return at::_ops::conv_transpose3d_input::redispatch(
        keys & c10::DispatchKeySet(c10::DispatchKeySet::FULL_AFTER, kKey), input, weight, bias,
        c10::fromIntArrayRefSlow(stride), c10::fromIntArrayRefSlow(padding), c10::fromIntArrayRefSlow(output_padding),
        groups, c10::fromIntArrayRefSlow(dilation));
  }
  const c10::impl::ExcludeDispatchKeyGuard no_autocast(kKey);
  // Where PyTorch's own operator serves, it has float32.
  const bool is_native = torch_has_autocast && serving != Backend::composite && !is_kernels(serving);
  const at::ScalarType dtype = is_native ? at::kFloat : at::autocast::get_autocast_dtype(at::kMPS);
  return at::conv_transpose3d(
      at::autocast::cached_cast(dtype, input, at::kMPS), at::autocast::cached_cast(dtype, weight, at::kMPS),
      at::autocast::cached_cast(dtype, bias, at::kMPS), stride, padding, output_padding, groups, dilation);
}
#endif

}  // namespace mps_conv_transpose3d
