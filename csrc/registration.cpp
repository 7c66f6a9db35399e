// Switches the operators on and off: torch.ops.mps_conv_transpose3d.{enable, disable, is_enabled, methods,
// force_method, force_cores}.

#include <c10/util/Exception.h>
#include <torch/library.h>

#include <memory>
#include <mutex>

#include "operators.h"

namespace mps_conv_transpose3d {
namespace {

struct Silent final : c10::WarningHandler {
  void process(const c10::Warning&) override {}
};

// Holds our kernels in the dispatcher's table; its end gives the table back as it was.
class Registration {
 public:
  Registration() : mps_(torch::Library::IMPL, "aten", c10::DispatchKey::MPS, __FILE__, __LINE__) {
    mps_.impl("_convolution", TORCH_FN(convolution));
    mps_.impl("convolution_backward", TORCH_FN(convolution_backward));
#ifdef MPS_CONV_TRANSPOSE3D_HAS_AUTOCAST
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

std::mutex mutex;
// Never destroyed at exit: PyTorch's dispatcher may be gone by then.
Registration* registration = nullptr;

void enable() {
  const std::lock_guard<std::mutex> lock(mutex);
  if (registration == nullptr) {
    registration = new Registration;
  }
}

void disable() {
  const std::lock_guard<std::mutex> lock(mutex);
  delete registration;
  registration = nullptr;
}

bool is_enabled() {
  const std::lock_guard<std::mutex> lock(mutex);
  return registration != nullptr;
}

TORCH_LIBRARY(mps_conv_transpose3d, m) {
  m.def("enable() -> ()", &enable);
  m.def("disable() -> ()", &disable);
  m.def("is_enabled() -> bool", &is_enabled);
  m.def("methods() -> str[]", &methods);
  m.def("force_method(str? name) -> ()", &force_method);
  m.def("force_cores(int? cores) -> ()", &force_cores);
}

}  // namespace
}  // namespace mps_conv_transpose3d
