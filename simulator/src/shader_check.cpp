#include "shader_check.h"

#include "msl/msl.h"

namespace mps_simulator {

std::string check_shader(const std::string& source, unsigned language_version) {
  msl::CompileOptions options;
  options.language_version = language_version;
  try {
    msl::compile(source, options);
  } catch (const msl::CompileError& error) {
    return error.what();
  }
  return "";
}

}  // namespace mps_simulator
