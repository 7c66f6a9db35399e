#include "torch/fallback_operators.h"

#include <c10/util/Exception.h>
#include <torch/headeronly/version.h>

#include <cstdio>
#include <cstdlib>
#include <unordered_set>
#include <utility>

namespace mps_simulator {
namespace {

constexpr TorchVersion kInstalled{TORCH_VERSION_MAJOR, TORCH_VERSION_MINOR};

TorchVersion read_torch_version() {
  const char* text = std::getenv("MPS_SIMULATOR_TORCH");
  if (text == nullptr || *text == '\0') {
    return kInstalled;
  }
  TorchVersion version{};
  TORCH_CHECK(std::sscanf(text, "%d.%d", &version.major, &version.minor) == 2, "MPS_SIMULATOR_TORCH must be X.Y, not '",
              text, "'");
  return version;
}

c10::OperatorName parse(const std::string& name) {
  const auto dot = name.find('.');
  return dot == std::string::npos ? c10::OperatorName(name, "")
                                  : c10::OperatorName(name.substr(0, dot), name.substr(dot + 1));
}

}  // namespace

bool TorchVersion::operator<(const TorchVersion& other) const {
  return std::pair(major, minor) < std::pair(other.major, other.minor);
}

const TorchVersion& torch_version() {
  static const TorchVersion version = read_torch_version();
  return version;
}

namespace operators {
namespace {

std::unordered_set<c10::OperatorName> read_names() {
  std::unordered_set<c10::OperatorName> names;
  const auto insert = [&](const std::vector<const char*>& added) {
    for (const char* name : added) {
      names.insert(parse(name));
    }
  };
  insert(with_kernel());
  const auto& emulated = torch_version();
  const auto& by_version = refused_by_version();
  const auto refused = by_version.find(std::to_string(emulated.major) + "." + std::to_string(emulated.minor));
  if (refused != by_version.end()) {
    if (kInstalled < emulated) {
      insert(without_kernel());  // what has come since; the list says what has not
    }
    for (const char* name : refused->second) {
      names.erase(parse(name));
    }
  }
  return names;
}

}  // namespace

bool has_kernel(const c10::OperatorName& name) {
  static const auto* const names = new std::unordered_set<c10::OperatorName>(read_names());
  return names->count(name) != 0;
}

}  // namespace operators
}  // namespace mps_simulator
