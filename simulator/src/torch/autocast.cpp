#include "torch/autocast.h"

#include <c10/util/Exception.h>
#include <torch/library.h>

#include "torch/fallback_operators.h"

namespace mps_simulator {
namespace {

struct Silent final : c10::WarningHandler {
  void process(const c10::Warning&) override {}
};

}  // namespace

void register_autocast() {
  if (!(torch_version() < TorchVersion{2, 9})) return;
  // Without the kernel that casts its arguments to float32, the convolution that it calls casts them to half.
  Silent silent;
  const c10::WarningUtils::WarningHandlerGuard guard(&silent);  // the installed PyTorch has a kernel there
  static auto* const library =
      new torch::Library(torch::Library::IMPL, "aten", c10::DispatchKey::AutocastMPS, __FILE__, __LINE__);
  library->impl("conv_transpose3d.input", torch::CppFunction::makeFallthrough());
}

}  // namespace mps_simulator
