#include "log.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <sstream>
#include <unordered_set>

namespace mps_conv_transpose3d {
namespace {

std::ostream& operator<<(std::ostream& out, const std::array<int64_t, 3>& size) {
  return out << size[0] << 'x' << size[1] << 'x' << size[2];
}

std::string line_of(const ProblemSize& g, const std::string& choice, const char* why) {
  std::ostringstream line;
  line << "mps_conv_transpose3d: input " << g.batch << 'x' << g.in_channels << 'x' << g.input << ", weight "
       << g.in_channels << 'x' << g.out_channels / g.groups << 'x' << g.kernel << ", stride " << g.stride
       << ", padding " << g.padding << ", output_padding " << g.output_padding << ", dilation " << g.dilation
       << ", groups " << g.groups << ": " << choice << " (" << why << ")\n";
  return line.str();
}

}  // namespace

bool is_logging() {
  static const bool logging = [] {
    const char* value = std::getenv("MPS_CONV_TRANSPOSE3D_LOG");
    return value != nullptr && std::strcmp(value, "1") == 0;
  }();
  return logging;
}

void log_call(const ProblemSize& size, const std::string& choice, const char* why) {
  static std::mutex mutex;
  static auto* const said = new std::unordered_set<std::string>;  // never destroyed: threads may outlive the end
  const std::string line = line_of(size, choice, why);
  const std::lock_guard<std::mutex> lock(mutex);
  if (said->insert(line).second) {
    std::fputs(line.c_str(), stderr);
  }
}

}  // namespace mps_conv_transpose3d
