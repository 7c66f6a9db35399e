// Every operator without a kernel of its own runs on the CPU, in place, if PyTorch has one for it on `mps`.
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/op_registration/adaption.h>
#include <c10/core/impl/LocalDispatchKeySet.h>
#include <caffe2/core/common.h>
#include <torch/library.h>

#include <cstdlib>
#include <string>
#include <vector>

#include "record.h"
#include "torch/fallback_alias.h"
#include "torch/fallback_operators.h"
#include "torch/storage.h"

namespace mps_simulator {
namespace {

// The CPU's kernels must meet neither autograd nor autocast again.
const c10::DispatchKeySet kHandledAbove =
    c10::autograd_dispatch_keyset_with_ADInplaceOrView | c10::autocast_dispatch_keyset;

// PyTorch's words, with the commit of the installed build.
[[noreturn]] void refuse(const c10::OperatorName& name) {
  static const char* const kWanted =
      "for the MPS device. If you want this op to be considered for addition please comment on "
      "https://github.com/pytorch/pytorch/issues/141287 and mention use-case, that resulted in missing op as well as "
      "commit hash ";
  const auto& commit = caffe2::GetBuildOptions().at("COMMIT_SHA");
  TORCH_CHECK_NOT_IMPLEMENTED(name.getNamespace().value_or("") != "c10d", "The distributed operator '", name,
                              "' is not currently implemented ", kWanted, commit,
                              ". Please note, that distributed operators can not fall back to CPU");
  TORCH_CHECK_NOT_IMPLEMENTED(
      false, "The operator '", name, "' is not currently implemented ", kWanted, commit,
      ". As a temporary fix, you can set the environment variable `PYTORCH_ENABLE_MPS_FALLBACK=1` to use the CPU as a "
      "fallback for this op. WARNING: this will be slower than running natively on MPS.");
}

void warn_of_fallback(const c10::OperatorName& name) {
  TORCH_WARN_ONCE("The operator '", name,
                  "' is not currently supported on the MPS backend and will fall back to run on ",
                  "the CPU. This may have performance implications.");
}

bool cpu_fallback_enabled() {
  static const bool enabled = [] {
    const char* text = std::getenv("PYTORCH_ENABLE_MPS_FALLBACK");
    return text != nullptr && std::stoi(text) != 0;
  }();
  return enabled;
}

bool is_optional_generator(const c10::Argument& argument) {
  const auto& type = *argument.type();
  return type.kind() == c10::TypeKind::OptionalType &&
         type.castRaw<c10::OptionalType>()->getElementType()->kind() == c10::TypeKind::GeneratorType;
}

// A CPU tensor may stand beside those on `mps` only as a scalar.
at::Tensor argument_to_cpu(Aliases& aliases, const at::Tensor& tensor, const c10::OperatorHandle& op,
                           const c10::Argument& argument) {
  if (!tensor.defined()) {
    return tensor;
  }
  if (tensor.is_mps()) {
    return aliases.to_cpu(tensor);
  }
  if (!tensor.is_cpu() || tensor.dim() != 0) {
    const std::string method = "wrapper_MPS_" + op.schema().name().substr(op.schema().name().find("::") + 2);
    c10::impl::common_device_check_failure({c10::DeviceType::MPS, 0}, tensor, method.c_str(), argument.name().c_str());
  }
  aliases.keep(tensor);
  return tensor;
}

// Replaces what says `mps` in one argument.
void argument_to_cpu(Aliases& aliases, c10::IValue& value, const c10::OperatorHandle& op,
                     const c10::Argument& argument) {
  if (value.isTensor()) {
    value = argument_to_cpu(aliases, value.toTensor(), op, argument);
  } else if (value.isTensorList()) {
    c10::List<at::Tensor> list;
    for (const at::Tensor& tensor : value.toTensorVector()) {
      list.push_back(argument_to_cpu(aliases, tensor, op, argument));
    }
    value = std::move(list);
  } else if (value.isOptionalTensorList()) {
    // Indices, which PyTorch takes from the CPU too.
    c10::List<std::optional<at::Tensor>> list;
    for (const auto& tensor : value.toOptionalTensorVector()) {
      list.push_back(tensor.has_value() && tensor->defined() && tensor->is_mps() ? aliases.to_cpu(*tensor) : tensor);
    }
    value = std::move(list);
  } else if (value.isDevice()) {
    if (value.toDevice().is_mps()) {
      value = c10::Device(c10::kCPU);
    }
  } else if (value.isGenerator()) {
    const auto generator = value.toGenerator();
    TORCH_CHECK(generator.device().is_mps(), "Expected a 'mps' device type for generator but found '",
                generator.device().type(), "'");
    value = cpu_generator(generator);
  } else if (value.isNone() && is_optional_generator(argument)) {
    value = cpu_generator(std::nullopt);
  }
}

at::Tensor result_to_mps(Aliases& aliases, const at::Tensor& tensor) {
  return tensor.defined() ? aliases.to_mps(tensor) : tensor;
}

void result_to_mps(Aliases& aliases, c10::IValue& value) {
  if (value.isTensor()) {
    value = result_to_mps(aliases, value.toTensor());
  } else if (value.isTensorList()) {
    c10::List<at::Tensor> list;
    for (const at::Tensor& tensor : value.toTensorVector()) {
      list.push_back(result_to_mps(aliases, tensor));
    }
    value = std::move(list);
  }
}

// What the schema says that the operator writes to, among its arguments.
std::vector<at::Tensor> written_arguments(const c10::FunctionSchema& schema, at::ArrayRef<c10::IValue> arguments) {
  std::vector<at::Tensor> written;
  for (size_t i = 0; i < arguments.size(); ++i) {
    const c10::AliasInfo* alias = schema.arguments()[i].alias_info();
    if (alias == nullptr || !alias->isWrite()) {
      continue;
    }
    if (arguments[i].isTensor()) {
      written.push_back(arguments[i].toTensor());
    } else if (arguments[i].isTensorList()) {
      const auto list = arguments[i].toTensorVector();
      written.insert(written.end(), list.begin(), list.end());
    }
  }
  return written;
}

void run_on_cpu(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  const auto& schema = op.schema();
  synchronize_for_host();
  auto& recorder = Recorder::instance();
  if (recorder.recording()) {
    recorder.add_operator(c10::toString(op.operator_name()));
  }

  Aliases aliases(schema.name());
  const auto& arguments = schema.arguments();
  const size_t first_argument = stack->size() - arguments.size();
  const auto written = written_arguments(schema, at::ArrayRef<c10::IValue>(*stack).slice(first_argument));
  for (size_t i = 0; i < arguments.size(); ++i) {
    argument_to_cpu(aliases, (*stack)[first_argument + i], op, arguments[i]);
  }
  {
    c10::impl::ExcludeDispatchKeyGuard handled_above(kHandledAbove);
    op.redispatchBoxed(c10::DispatchKeySet(c10::DispatchKey::CPU), stack);
  }
  aliases.write_back();
  for (const at::Tensor& tensor : written) {
    if (tensor.defined() && tensor.is_mps()) {
      mark_written(tensor);
    }
  }
  for (size_t i = stack->size() - schema.returns().size(); i < stack->size(); ++i) {
    result_to_mps(aliases, (*stack)[i]);
  }
}

void fallback(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  const auto& name = op.operator_name();
  if (!operators::has_kernel(name)) {
    if (!cpu_fallback_enabled() || name.getNamespace().value_or("") == "c10d") {
      refuse(name);
    }
    warn_of_fallback(name);
  }
  run_on_cpu(op, stack);
}

// For the few operators that PyTorch itself sends to the CPU whatever the environment says.
void always_fall_back(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  warn_of_fallback(op.operator_name());
  run_on_cpu(op, stack);
}

// Reached when one of the two is on the CPU.
at::Tensor slow_conv2d_forward_mps(const at::Tensor& self, const at::Tensor& weight, at::IntArrayRef /*kernel_size*/,
                                   const std::optional<at::Tensor>& /*bias*/, at::IntArrayRef /*stride*/,
                                   at::IntArrayRef /*padding*/) {
  TORCH_CHECK(self.device() == weight.device(), __func__, ": input(device='", self.device(),
              "') and weight(device=", weight.device(), "')  must be on the same device");
  TORCH_INTERNAL_ASSERT(false, __func__, " should not be called for both tensors on MPS device");
}

TORCH_LIBRARY_IMPL(_, MPS, m) { m.fallback(torch::CppFunction::makeFromBoxedFunction<&fallback>()); }

TORCH_LIBRARY_IMPL(aten, MPS, m) {
  for (const char* name : {"embedding_renorm_", "linalg_svd", "linalg_svd.U"}) {
    m.impl(name, torch::CppFunction::makeFromBoxedFunction<&always_fall_back>());
  }
  m.impl("_slow_conv2d_forward", &slow_conv2d_forward_mps);
  for (const char* name : operators::with_kernel_beside_composite()) {
    m.impl(name, torch::CppFunction::makeFromBoxedFunction<&fallback>());
  }
}

}  // namespace
}  // namespace mps_simulator
