// From a checked program to machine code for one kernel.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "ast.h"
#include "msl.h"

namespace mps_simulator::msl {

// What compile() knows of a source.
struct Program {
  std::string source;  // as the user gave it
  std::string text;    // as clang gets it
  unsigned language_version = kDefaultLanguage;
  bool uses_matrices = false;
  bool uses_simd_types = false;           // of <simd/simd.h>
  std::map<unsigned, std::string> names;  // of the kernels, by id
  std::vector<Kernel> kernels;
  std::vector<FunctionConstant> constants;
};

// What stands before the text of a program when it is checked.
std::string check_prologue(const Program& program);

// Compiles the code of a pipeline, so that it is in the cache.
void compile_kernel(const Program& program, const Kernel& kernel, const std::map<uint32_t, ConstantValue>& constants);

std::shared_ptr<const Pipeline> make_pipeline(std::shared_ptr<const Program> program, const Kernel& kernel,
                                              const std::map<uint32_t, ConstantValue>& constants);

}  // namespace mps_simulator::msl
