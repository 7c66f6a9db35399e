// metal_logging. Nobody reads a shader's messages unless MTLCompileOptions.enableLogging asks for it.
#pragma once

#include "keywords.h"

namespace metal {

struct os_log {
  constexpr os_log(constant char*, constant char*) {}
#define MSL_LOG(name)   \
  template <class... A> \
  constexpr void name(constant char*, A...) const {}
  MSL_LOG(log)
  MSL_LOG(log_debug)
  MSL_LOG(log_info)
  MSL_LOG(log_error)
  MSL_LOG(log_fault)
#undef MSL_LOG
};
constexpr constant os_log os_log_default(nullptr, nullptr);

}  // namespace metal
