// With MPS_CONV_TRANSPOSE3D_LOG=1 in the environment: a line on stderr for each new call, for whoever reports a fault.
#pragma once

#include <string>

#include "planner/problem.h"

namespace mps_conv_transpose3d {

// Read once.
bool is_logging();

// Says of a call what computes it and why, unless that was said before.
void log_call(const ProblemSize& size, const std::string& choice, const char* why);

}  // namespace mps_conv_transpose3d
