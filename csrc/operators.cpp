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

#include "arguments.h"
#include "kernels.h"
#include "log.h"
#include "plan.h"

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

// The Python package's operator of this name, if there is one.
template <typename Signature>
std::optional<c10::TypedOperatorHandle<Signature>> composite(const char* name) {
  const auto op = c10::Dispatcher::singleton().findSchemaOrThrow(name, "");
  return op.hasKernelForDispatchKey(c10::DispatchKey::MPS) ? std::optional(op.typed<Signature>()) : std::nullopt;
}

std::atomic<std::optional<Method>> forced_method{std::nullopt};
std::atomic<std::optional<Device>> forced_device{std::nullopt};

Device device() {
  const std::optional<Device> forced = forced_device;
  return forced ? *forced : current_device();
}

Plan plan_of(Pass pass, const at::Tensor& input, const Geometry& geometry, const KernelParams& params,
             bool wants_bias_grad = false) {
  const std::optional<Method> forced = forced_method;
  const Plan plan = make_plan(pass, data_type(input), params, device(), forced, wants_bias_grad);
  if (is_logging()) {
    log_call(geometry, explain(plan), forced ? "the method is forced" : "the least time by the planner's model");
  }
  return plan;
}

std::array<int64_t, 5> output_sizes(const Geometry& g) {
  const auto output = g.output();
  return {g.batch, g.out_channels, output[0], output[1], output[2]};
}

constexpr std::pair<Backend, const char*> kBackendNames[] = {{Backend::kernels, "kernels"},
                                                             {Backend::composite, "composite"}};

}  // namespace

void set_backend(Backend backend) { current_backend.store(backend, std::memory_order_relaxed); }
Backend backend() { return current_backend.load(std::memory_order_relaxed); }

Backend backend_named(const std::string& name) {
  for (const auto& [backend, its_name] : kBackendNames) {
    if (name == its_name) {
      return backend;
    }
  }
  TORCH_CHECK(false, "mps_conv_transpose3d: no backend is named ", name);
}

std::optional<std::string> name_of(Backend backend) {
  for (const auto& [named, name] : kBackendNames) {
    if (named == backend) {
      return name;
    }
  }
  return std::nullopt;
}

std::vector<std::string> methods() {
  std::vector<std::string> names;
  for (size_t i = 0; i < kMethods; ++i) {
    names.emplace_back(name_of(static_cast<Method>(i)));
  }
  return names;
}

void force_method(std::optional<std::string> name) {
  const auto method = name ? method_named(*name) : std::nullopt;
  TORCH_CHECK(method || !name, "mps_conv_transpose3d: no method is named ", *name);
  forced_method = method;
}

void force_cores(std::optional<int64_t> cores) {
  TORCH_CHECK(!cores || (*cores > 0 && *cores < 1 << 16), "mps_conv_transpose3d: no GPU has ", *cores, " cores");
  forced_device = cores ? std::optional(Device{static_cast<int>(*cores)}) : std::nullopt;
}

at::Tensor convolution(const at::Tensor& input, const at::Tensor& weight, const std::optional<at::Tensor>& bias,
                       at::IntArrayRef stride, at::IntArrayRef padding, at::IntArrayRef dilation, bool transposed,
                       at::IntArrayRef output_padding, int64_t groups, bool benchmark, bool deterministic,
                       bool cudnn_enabled, bool allow_tf32) {
  const Arguments arguments{stride, padding, dilation, output_padding, transposed, groups};
  const Backend serving = backend();
  const auto geometry =
      serving == Backend::none ? std::nullopt : conv_transpose3d_geometry(input, weight, bias, arguments);
  if (geometry && is_kernels(serving)) {
    const at::Tensor x = readable(input);
    const at::Tensor output =
        at::empty(output_sizes(*geometry), input.options(), result_format(input, weight, arguments));
    if (const auto params = make_params(*geometry, strides_of(x), strides_of(output))) {
      const at::Tensor w = weight.contiguous();
      const at::Tensor b = bias.has_value() && bias->defined() ? bias->contiguous() : at::Tensor();
      encode(plan_of(Pass::forward, input, *geometry, *params), *params, {&x, &w, &output, b.defined() ? &b : nullptr});
      return output;
    }
  }
  if (geometry) {
    if (const auto op = composite<decltype(convolution)>("mps_conv_transpose3d::composite_convolution")) {
      const at::AutoDispatchBelowADInplaceOrView below_autograd;
      return op->call(input, weight, bias, stride, padding, dilation, transposed, output_padding, groups, benchmark,
                      deterministic, cudnn_enabled, allow_tf32);
    }
  }
  return at::native::_convolution(input, weight, bias, stride, padding, dilation, transposed, output_padding, groups,
                                  benchmark, deterministic, cudnn_enabled, allow_tf32);
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> convolution_backward(
    const at::Tensor& grad_output, const at::Tensor& input, const at::Tensor& weight,
    at::OptionalIntArrayRef bias_sizes, at::IntArrayRef stride, at::IntArrayRef padding, at::IntArrayRef dilation,
    bool transposed, at::IntArrayRef output_padding, int64_t groups, std::array<bool, 3> output_mask) {
  const Arguments arguments{stride, padding, dilation, output_padding, transposed, groups};
  const Backend serving = backend();
  const auto geometry =
      serving == Backend::none ? std::nullopt : conv_transpose3d_geometry(input, weight, std::nullopt, arguments);
  if (geometry) {
    check_grad_output(grad_output, input, *geometry);
  }
  if (geometry && is_kernels(serving)) {
    const auto format = result_format(input, weight, arguments);
    const at::Tensor gy = readable(grad_output);
    const at::Tensor grad_input = output_mask[0] ? at::empty(input.sizes(), input.options(), format) : at::Tensor();
    const at::Tensor x = output_mask[1] ? readable(input) : at::Tensor();
    // The gradient of the bias has no use for strides of the input.
    const auto params_with = [&](const at::Tensor& tensor) {
      const Strides5 strides =
          tensor.defined() ? strides_of(tensor) : contiguous_strides(geometry->in_channels, geometry->input);
      return make_params(*geometry, strides, strides_of(gy));
    };
    const auto grad_input_params = params_with(grad_input), params = params_with(x);
    if (grad_input_params && params) {
      const auto make_gradient = [&](at::IntArrayRef sizes) { return at::empty(sizes, weight.options()); };
      at::Tensor grad_weight, grad_bias;
      if (output_mask[0]) {
        const at::Tensor w = weight.contiguous();
        encode(plan_of(Pass::input_grad, input, *geometry, *grad_input_params), *grad_input_params,
               {&grad_input, &w, &gy, nullptr});
      }
      bool has_bias_grad = false;
      if (output_mask[2]) {
        grad_bias = make_gradient({geometry->out_channels});
      }
      if (output_mask[1]) {
        grad_weight = make_gradient(weight.sizes());
        const Plan plan = plan_of(Pass::weight_grad, input, *geometry, *params, output_mask[2]);
        has_bias_grad = plan.has_bias_grad;
        encode(plan, *params, {&x, &grad_weight, &gy, has_bias_grad ? &grad_bias : nullptr});
        grad_weight = grad_weight.contiguous(format);
      }
      if (output_mask[2] && !has_bias_grad) {
        encode(plan_of(Pass::bias_grad, input, *geometry, *params), *params, {nullptr, nullptr, &gy, &grad_bias});
      }
      return {grad_input, grad_weight, grad_bias};
    }
  }
  if (geometry) {
    if (const auto op =
            composite<decltype(convolution_backward)>("mps_conv_transpose3d::composite_convolution_backward")) {
      const at::AutoDispatchBelowADInplaceOrView below_autograd;
      return op->call(grad_output, input, weight, bias_sizes, stride, padding, dilation, transposed, output_padding,
                      groups, output_mask);
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
