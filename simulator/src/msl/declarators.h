// Address spaces in declarations: what clang does not ask for, and Metal does.
#pragma once

#include <string>
#include <vector>

#include "ast.h"
#include "reader.h"

namespace mps_simulator::msl {

// Pointers and references whose pointee has no address space where the language asks for one, and types with two.
// Up to Metal 4.0 every pointer and reference needs one; from 4.1 on those without are generic, but for kernels'
// parameters.
std::vector<Diagnostic> check_declarators(const ReadResult& source, const std::vector<Declaration>& declarations,
                                          unsigned language_version);

}  // namespace mps_simulator::msl
