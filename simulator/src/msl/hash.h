// SHA-256, for names in the cache.
#pragma once

#include <string>
#include <string_view>

namespace mps_simulator::msl {

// 64 hexadecimal digits.
std::string sha256(std::string_view data);

}  // namespace mps_simulator::msl
