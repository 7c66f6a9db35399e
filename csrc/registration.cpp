// torch.ops.mps_conv_transpose3d: what computes ConvTranspose3d, and what tests and benchmarks choose.

#include <c10/util/Exception.h>
#include <torch/library.h>

#include "encoding.h"
#include "operators.h"
#include "planner/json.h"

namespace mps_conv_transpose3d {
namespace {

struct Silent final : c10::WarningHandler {
  void process(const c10::Warning&) override {}
};

class Registration {
 public:
  Registration() : mps_(torch::Library::IMPL, "aten", c10::DispatchKey::MPS, __FILE__, __LINE__) {
    mps_.impl("_convolution", TORCH_FN(convolution));
    mps_.impl("convolution_backward", TORCH_FN(convolution_backward));
#ifdef MPS_CONV_TRANSPOSE3D_HAS_AUTOCAST
    note_torch_autocast();
    // torch has a kernel of its own there from 2.9 and would warn that it is overridden.
    Silent silent;
    const c10::WarningUtils::WarningHandlerGuard guard(&silent);
    autocast_.impl("conv_transpose3d.input", TORCH_FN(conv_transpose3d_autocast));
#endif
  }

 private:
  torch::Library mps_;
#ifdef MPS_CONV_TRANSPOSE3D_HAS_AUTOCAST
  torch::Library autocast_{torch::Library::IMPL, "aten", c10::DispatchKey::AutocastMPS, __FILE__, __LINE__};
#endif
};

constexpr std::pair<Backend, const char*> kBackendNames[] = {{Backend::kernels, "kernels"},
                                                             {Backend::composite, "composite"}};

Backend backend_named(const std::string& name) {
  for (const auto& [backend, its_name] : kBackendNames) {
    if (name == its_name) {
      return backend;
    }
  }
  TORCH_CHECK(false, "mps_conv_transpose3d: no backend is named ", name);
}

void serve(std::optional<std::string> backend) {
  const Backend chosen = backend ? backend_named(*backend) : Backend::none;
  if (chosen != Backend::none) {
    preference_of_all_calls();  // throws now rather than in a call
    // Never undone: another thread may be in a call, and PyTorch's dispatcher may be gone when the process ends.
    static const Registration* const registration = new Registration;
    (void)registration;
  }
  set_backend(chosen);
}

std::optional<std::string> serving() {
  for (const auto& [named, name] : kBackendNames) {
    if (named == backend()) {
      return name;
    }
  }
  return std::nullopt;
}

std::vector<std::string> algorithms() {
  std::vector<std::string> names;
  for (const Algorithm& algorithm : kAlgorithms) {
    names.emplace_back(algorithm.name);
  }
  return names;
}

TORCH_LIBRARY(mps_conv_transpose3d, m) {
  m.def("serve(str? backend) -> ()", &serve);
  m.def("serving() -> str?", &serving);
  m.def("unavailable_reason() -> str?", [] { return unavailable_reason(); });
  m.def("algorithms() -> str[]", &algorithms);
  m.def("plan(str question) -> str", &answer);
  m.def(
      "forward(Tensor input, Tensor weight, Tensor? bias, int[] stride, int[] padding, int[] output_padding, "
      "int groups, int[] dilation, str? algorithm=None, int? cores=None) -> Tensor");
  m.def(
      "backward(Tensor grad_output, Tensor input, Tensor weight, int[] stride, int[] padding, int[] output_padding, "
      "int groups, int[] dilation, bool[3] output_mask, str? algorithm=None, int? cores=None) "
      "-> (Tensor, Tensor, Tensor)");
  // For tensors of device mps alone: a fake one, or another device's, has no buffer.
  m.impl("forward", torch::dispatch(c10::DispatchKey::MPS, TORCH_FN(forward)));
  m.impl("backward", torch::dispatch(c10::DispatchKey::MPS, TORCH_FN(backward)));
  // What the Python package makes of plain PyTorch operations. A program without Python has no kernels for these.
  m.def(
      "composite_convolution(Tensor input, Tensor weight, Tensor? bias, int[] stride, int[] padding, int[] dilation, "
      "bool transposed, int[] output_padding, int groups, bool benchmark, bool deterministic, bool cudnn_enabled, "
      "bool allow_tf32) -> Tensor");
  m.def(
      "composite_convolution_backward(Tensor grad_output, Tensor input, Tensor weight, int[]? bias_sizes, "
      "int[] stride, int[] padding, int[] dilation, bool transposed, int[] output_padding, int groups, "
      "bool[3] output_mask) -> (Tensor, Tensor, Tensor)");
}

}  // namespace
}  // namespace mps_conv_transpose3d
