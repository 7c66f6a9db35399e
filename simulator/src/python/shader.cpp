#include "python/shader.h"

#include <ATen/native/mps/MetalShaderLibrary.h>
#include <torch/csrc/autograd/python_variable.h>
#include <torch/csrc/utils/pybind.h>

#include <map>
#include <optional>
#include <string>
#include <vector>

namespace mps_simulator {
namespace {

using at::native::mps::DynamicMetalShaderLibrary;
using at::native::mps::MetalKernelFunction;

// `threads` and `group_size`: an int, or one to three of them.
std::optional<std::vector<uint64_t>> dimensions(const py::object& value) {
  if (value.is_none()) return std::nullopt;
  if (py::isinstance<py::int_>(value)) return std::vector<uint64_t>{value.cast<uint64_t>()};
  auto dims = value.cast<std::vector<uint64_t>>();
  TORCH_CHECK(!dims.empty() && dims.size() < 4, "expected one to three dimensions, got ", dims.size());
  return dims;
}

// Binds one argument: tensors as buffers, numbers and sequences of them as bytes, in the type that `arg_casts` names
// (all arguments with a str, single ones with a dict by index), else int64 and float32.
class ArgumentBinder {
 public:
  ArgumentBinder(MetalKernelFunction& kernel, const py::object& casts) : kernel_(kernel) {
    if (casts.is_none()) return;
    if (py::isinstance<py::str>(casts)) {
      cast_of_all_ = casts.cast<std::string>();
    } else if (py::isinstance<py::dict>(casts)) {
      cast_by_index_ = casts.cast<std::map<unsigned, std::string>>();
    } else {
      TORCH_CHECK(false, "Unexpected caster arg type ", std::string(py::str(py::type::of(casts).attr("__name__"))));
    }
  }

  void bind(unsigned index, const py::object& argument) {
    if (THPVariable_Check(argument.ptr())) {
      kernel_.setArg(index, THPVariable_Unpack(argument.ptr()));
    } else if (py::isinstance<py::tuple>(argument) || py::isinstance<py::list>(argument)) {
      bind_sequence(index, py::reinterpret_borrow<py::sequence>(argument));
    } else if (py::isinstance<py::float_>(argument)) {
      bind_numbers(index, std::vector<float>{argument.cast<float>()});
    } else if (py::isinstance<py::int_>(argument)) {
      bind_numbers(index, std::vector<int64_t>{argument.cast<int64_t>()});
    } else {
      TORCH_CHECK(false, "Unsupported argument type");
    }
  }

 private:
  void bind_sequence(unsigned index, const py::sequence& values) {
    TORCH_CHECK(!values.empty(), "Empty list/tuple can not be an argument to metal kernel");
    const py::object first = values[0];
    if (py::isinstance<py::int_>(first)) {
      bind_numbers(index, values.cast<std::vector<int64_t>>());
    } else if (py::isinstance<py::float_>(first)) {
      bind_numbers(index, values.cast<std::vector<float>>());
    } else if (THPVariable_Check(first.ptr())) {
      std::vector<void*> addresses;
      for (const auto& tensor : values.cast<std::vector<at::Tensor>>()) {
        addresses.push_back(at::native::mps::get_tensor_gpu_address(tensor));
      }
      kernel_.setArg(index, addresses);
    } else {
      TORCH_CHECK(false, "Unexpected argument types");
    }
  }

  template <typename T>
  void bind_numbers(unsigned index, const std::vector<T>& values) {
    const auto found = cast_by_index_.find(index);
    const std::string& cast = found == cast_by_index_.end() ? cast_of_all_ : found->second;
    if (cast.empty()) {
      kernel_.setArg(index, values);
    } else if (cast == "fp16") {
      bind_as<c10::Half>(index, values);
    } else if (cast == "bf16") {
      bind_as<c10::BFloat16>(index, values);
    } else if (cast == "int32") {
      bind_as<int32_t>(index, values);
    } else if (cast == "int16") {
      bind_as<int16_t>(index, values);
    } else if (cast == "int8") {
      bind_as<int8_t>(index, values);
    } else if (cast == "uint8") {
      bind_as<uint8_t>(index, values);
    } else {
      TORCH_CHECK(false, "Unsupported cast instruction ", cast);
    }
  }

  template <typename To, typename From>
  void bind_as(unsigned index, const std::vector<From>& values) {
    kernel_.setArg(index, std::vector<To>(values.begin(), values.end()));
  }

  MetalKernelFunction& kernel_;
  std::string cast_of_all_;
  std::map<unsigned, std::string> cast_by_index_;
};

// Encodes one dispatch on the current stream. The grid is the element count of the first tensor, unless given.
void call(MetalKernelFunction& kernel, const py::args& arguments, const py::object& threads_or_none,
          const py::object& group_size_or_none, const py::object& arg_casts, const py::object& error_buf_idx) {
  auto threads = dimensions(threads_or_none);
  const auto group_size = dimensions(group_size_or_none);
  ArgumentBinder binder(kernel, arg_casts);
  kernel.runCommandBlock([&] {
    kernel.startEncoding();
    for (unsigned index = 0; index < arguments.size(); ++index) {
      const py::object argument = arguments[index];
      binder.bind(index, argument);
      if (!threads && THPVariable_Check(argument.ptr())) {
        threads = {static_cast<uint64_t>(THPVariable_Unpack(argument.ptr()).numel())};
      }
    }
    if (!error_buf_idx.is_none()) kernel.setErrorBufferIndex(error_buf_idx.cast<unsigned>());
    TORCH_CHECK(threads.has_value(), "Number of threads is undefined or has wrong dimension");
    TORCH_CHECK(!group_size || threads->size() == group_size->size(),
                "threads and group_size must have the same number of dimensions");
    if (threads->size() == 1) {
      kernel.dispatch(threads->front(), group_size ? std::optional(group_size->front()) : std::nullopt);
    } else {
      kernel.dispatch(*threads, group_size ? at::OptionalArrayRef<uint64_t>(*group_size) : std::nullopt);
    }
  });
}

std::shared_ptr<DynamicMetalShaderLibrary> compile_shader(const std::string& source) {
  return std::make_shared<DynamicMetalShaderLibrary>(source);
}

}  // namespace

void bind_shader_library(py::module_& m) {
  using torch::wrap_pybind_function;
  py::class_<DynamicMetalShaderLibrary, std::shared_ptr<DynamicMetalShaderLibrary>>(m, "ShaderLibrary")
      .def("__getattr__", wrap_pybind_function([](DynamicMetalShaderLibrary& self, const std::string& name) {
             return self.getKernelFunction(name);
           }))
      .def("__dir__", wrap_pybind_function([](DynamicMetalShaderLibrary& self) { return self.getFunctionNames(); }));
  py::class_<MetalKernelFunction, std::shared_ptr<MetalKernelFunction>>(m, "MetalKernel")
      .def("__call__", wrap_pybind_function(call), py::kw_only(), py::arg("threads") = py::none(),
           py::arg("group_size") = py::none(), py::arg("arg_casts") = py::none(), py::arg("error_buf_idx") = py::none())
      .def_property_readonly("max_threads_per_threadgroup", &MetalKernelFunction::getMaxThreadsPerThreadgroup)
      .def_property_readonly("thread_execution_width", &MetalKernelFunction::getThreadExecutionWidth)
      .def_property_readonly("static_thread_group_memory_length",
                             &MetalKernelFunction::getStaticThreadGroupMemoryLength);
  m.def("compile_shader", wrap_pybind_function(compile_shader));
}

}  // namespace mps_simulator
