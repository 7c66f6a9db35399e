// mps_simulator._C: what Python needs of the simulator, and the parts of torch._C that a Linux wheel is built without.
#include <ATen/mps/MPSAllocatorInterface.h>
#include <ATen/mps/MPSDevice.h>
#include <torch/csrc/Exceptions.h>
#include <torch/csrc/Storage.h>
#include <torch/csrc/utils/pybind.h>

#include "foundation/validation.h"
#include "python/shader.h"
#include "record.h"
#include "shader_check.h"
#include "torch/autocast.h"
#include "torch/fallback_operators.h"
#include "torch/hooks.h"
#include "torch/storage.h"

namespace mps_simulator {
namespace {

c10::Storage unpack_mps_storage(const py::object& storage) {
  TORCH_CHECK_TYPE(torch::isStorage(storage.ptr()), "expected a torch.UntypedStorage");
  c10::Storage unpacked = torch::createStorage(storage.ptr());
  TORCH_CHECK(unpacked.device_type() == c10::kMPS, "expected a storage on mps, got one on ", unpacked.device());
  return unpacked;
}

void resize_python_storage(const py::object& storage, int64_t nbytes) {
  TORCH_CHECK(nbytes >= 0, "resize_ expects a size >= 0, got ", nbytes);
  resize_storage(*unpack_mps_storage(storage).unsafeGetStorageImpl(), nbytes);
}

py::object host_alias_storage(const py::object& storage) {
  return py::reinterpret_steal<py::object>(
      THPStorage_Wrap(at::mps::getIMPSAllocator()->getHostAliasStorage(unpack_mps_storage(storage))));
}

std::string device_name() { return at::mps::MPSDevice::getInstance()->getName(); }

unsigned core_count() { return at::mps::MPSDevice::getInstance()->getCoreCount(); }

uint64_t open_recording(std::optional<uint64_t> counting) { return Recorder::instance().open(counting); }

// The arguments of mps_simulator.Counters.
py::object counters(const std::shared_ptr<const msl::Counters>& c) {
  if (!c) return py::none();
  py::dict executed, issued;
  for (const auto& o : c->operations) {
    executed[o.name] = o.executed;
    issued[o.name] = o.issued;
  }
  py::dict result;
  result["executed"] = executed;
  result["issued"] = issued;
  result["device_bytes"] = c->device_bytes;
  result["constant_bytes"] = c->constant_bytes;
  result["threadgroup_bytes"] = c->threadgroup_bytes;
  result["lines"] = c->lines;
  result["barriers"] = c->barriers;
  result["threadgroups"] = c->threadgroups;
  result["threads_per_threadgroup"] = c->threads_per_threadgroup;
  result["threadgroup_memory"] = c->threadgroup_memory;
  result["matrix_bytes"] = c->matrix_bytes;
  result["counted"] = c->counted;
  result["_traffic"] = py::cpp_function([c](uint64_t cache_bytes, uint64_t in_flight) {
    const auto t = c->traffic(cache_bytes, in_flight);
    return py::make_tuple(t.read, t.written);
  });
  return result;
}

py::tuple close_recording(uint64_t recording) {
  auto log = Recorder::instance().close(recording);
  py::list dispatches;
  for (const auto& dispatch : log.dispatches) {
    dispatches.append(py::make_tuple(dispatch.kernel, py::tuple(py::cast(dispatch.grid)),
                                     py::tuple(py::cast(dispatch.threads_per_threadgroup)), dispatch.label,
                                     dispatch.command_buffer, dispatch.barriers_before, *dispatch.barriers_after,
                                     counters(dispatch.counters)));
  }
  return py::make_tuple(dispatches, log.operators);
}

struct FindingError : torch::PyTorchError {
  using PyTorchError::PyTorchError;
  PyObject* python_type() override {
    // Never released: the exception holds no reference of its own to its type.
    return py::object(py::module_::import("mps_simulator").attr("Finding")).release().ptr();
  }
};

}  // namespace
}  // namespace mps_simulator

PYBIND11_MODULE(_C, m) {
  using namespace mps_simulator;
  using torch::wrap_pybind_function;
  register_hooks();
  register_autocast();
  throw_finding = [](const std::string& what) { throw FindingError(what); };
  m.def("torch_version", [] { return py::make_tuple(torch_version().major, torch_version().minor); });
  m.def("device_name", wrap_pybind_function(device_name));
  m.def("core_count", wrap_pybind_function(core_count));
  m.def("check_shader", wrap_pybind_function(check_shader), py::call_guard<py::gil_scoped_release>());
  m.def("resize_storage", wrap_pybind_function(resize_python_storage));
  m.def("host_alias_storage", wrap_pybind_function(host_alias_storage));
  m.def("open_recording", wrap_pybind_function(open_recording));
  m.def("close_recording", wrap_pybind_function(close_recording));
  bind_shader_library(m);
}
