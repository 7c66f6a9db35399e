// What a version of the Metal Shading Language has.
#pragma once

#include <string>
#include <vector>

#include "diagnostics.h"

namespace mps_simulator::msl {

// Errors for what the preprocessed source names and this version does not have yet (310 is Metal 3.1).
std::vector<Diagnostic> too_new(const std::string& preprocessed, const SourceMap& source, unsigned version);

}  // namespace mps_simulator::msl
