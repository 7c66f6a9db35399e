#include "torch/fallback_operators.h"

#include <c10/util/Exception.h>
#include <torch/headeronly/version.h>

#include <cstdio>
#include <cstdlib>
#include <unordered_set>
#include <utility>

namespace mps_simulator {
namespace {

TorchVersion read_torch_version() {
  const char* text = std::getenv("MPS_SIMULATOR_TORCH");
  if (text == nullptr || *text == '\0') {
    return {TORCH_VERSION_MAJOR, TORCH_VERSION_MINOR};
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

const std::vector<const char*>& refused() {
  static const std::vector<const char*> none;
  const auto& version = torch_version();
  const auto& by_version = refused_by_version();
  const auto found = by_version.find(std::to_string(version.major) + "." + std::to_string(version.minor));
  return found == by_version.end() ? none : found->second;
}

bool has_kernel(const c10::OperatorName& name) {
  static const auto* const names = [] {
    auto* set = new std::unordered_set<c10::OperatorName>;
    for (const char* known : with_kernel()) {
      set->insert(parse(known));
    }
    for (const char* missing : refused()) {
      set->erase(parse(missing));
    }
    return set;
  }();
  return names->count(name) != 0;
}

}  // namespace operators
}  // namespace mps_simulator
