// The shader compiler's verdict on a source, for tests and tools.
#pragma once

#include <string>

namespace mps_simulator {

// What the compiler says of the source in this version of the language (310: Metal 3.1); empty if it accepts it.
std::string check_shader(const std::string& source, unsigned language_version);

}  // namespace mps_simulator
