// Shader source, compiled; its functions.
#pragma once

#import <Metal/Metal.h>

#include <memory>

#include "../msl/msl.h"

namespace mps_simulator {

// nil, with an error that has the compiler's messages, when the source is refused.
id<MTLLibrary> new_library(NSString* source, MTLCompileOptions* options, NSError** error) NS_RETURNS_RETAINED;

std::shared_ptr<const msl::Function> compiled_function(id<MTLFunction> function);

// The values that were set, by index and by name.
const msl::ConstantValues& constant_values(MTLFunctionConstantValues* values);

// The type with this name in MSL, MTLDataTypeNone when Metal has no constant of it.
MTLDataType data_type(const std::string& msl_name);

}  // namespace mps_simulator
