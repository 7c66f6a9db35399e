// Which operators the emulated PyTorch has on `mps`.
#pragma once

#include <ATen/core/operator_name.h>

#include <map>
#include <string>
#include <vector>

namespace mps_simulator {

// The emulated PyTorch: MPS_SIMULATOR_TORCH=X.Y, else the version this library was built against.
struct TorchVersion {
  int major;
  int minor;
  bool operator<(const TorchVersion& other) const;
};
const TorchVersion& torch_version();

namespace operators {

// Tables that cmake/operators.py writes, by full name ("aten::add.out").
const std::vector<const char*>& with_kernel();
const std::vector<const char*>& without_kernel();
const std::vector<const char*>& with_kernel_beside_composite();
const std::map<std::string, std::vector<const char*>>& refused_by_version();

// Whether the emulated PyTorch has a kernel for it at key MPS. Composites never ask: the dispatcher resolves them by
// itself.
bool has_kernel(const c10::OperatorName& name);

}  // namespace operators
}  // namespace mps_simulator
