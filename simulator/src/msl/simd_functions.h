// The functions of MSL that lanes of a simdgroup execute together, and the GPUs that have them.
#pragma once

#include <string>

namespace mps_simulator::msl {

// The first family of Apple's GPUs that has the function, after the table of Metal's features; 0 for any other
// function.
unsigned family_of(const std::string& function);

bool is_matrix_function(const std::string& function);

}  // namespace mps_simulator::msl
