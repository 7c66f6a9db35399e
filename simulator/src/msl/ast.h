// Reads clang's dump of a shader's syntax tree: what its kernels take, and what Apple's compiler refuses and clang, in
// the mode it is run in here, lets pass - above all conversions between address spaces.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "diagnostics.h"

namespace mps_simulator::msl {

struct KernelParameter {
  std::string name;
  std::string type;               // "device float *"
  std::string attribute;          // "buffer", "threadgroup", "thread_position_in_grid", "" if none was given
  int index = -1;                 // of a buffer or of threadgroup memory
  std::string function_constant;  // the one that must be true for this parameter to exist
  bool used = false;
};

struct Kernel {
  unsigned id = 0;                 // of MSL_KERNEL(id, ...)
  uint32_t max_total_threads = 0;  // 0: no attribute
  std::vector<KernelParameter> parameters;
  std::vector<uint32_t> constants;          // indices of the function constants that it can reach
  std::vector<std::string> simd_functions;  // of MSL, that it can reach (simd_functions.h)
};

// A place where a type is written, outside of instantiations of templates.
struct Declaration {
  enum class Kind { variable, parameter, function, alias, cast, type_parameter };
  Kind kind;
  int line, column;  // of the name, or of the cast, as clang got it
  std::string name;
  std::string type;  // of a function with its parameters
  bool in_template;
  bool of_kernel = false;
};

struct SyntaxTree {
  std::vector<Kernel> kernels;
  std::vector<Declaration> declarations;
  std::vector<Diagnostic> errors;  // columns already in the source
  // Where an operand of `c ? a : b` begins that is a vector, or bfloat, in another address space than the result.
  std::vector<Place> unlike_operands;
};

SyntaxTree read_syntax_tree(const std::string& dump, const SourceMap& map, unsigned language_version);

}  // namespace mps_simulator::msl
