// Reads a preprocessed shader and rewrites what clang does not know of MSL: attributes, kernels and their
// instantiations, function constants, threadgroup variables, member functions with an address space, literals.
// Refuses, in the words of Apple's compiler where they are known, what clang would let pass and tokens can show.
#pragma once

#include <set>
#include <string>
#include <utility>
#include <vector>

#include "diagnostics.h"
#include "msl.h"

namespace mps_simulator::msl {

struct KernelText {
  std::string name;        // as the host asks for it
  std::string expression;  // "f" or "f<float, 2>", at the place where MSL_KERNEL stands
};

struct ReadResult {
  std::string text;  // with one MSL_KERNEL(index, expression) for each kernel
  std::vector<KernelText> kernels;
  std::vector<FunctionConstant> constants;  // `type` as written
  std::vector<Diagnostic> errors;           // columns are those of the source
};

// `unify`: the places (line and rewritten column, as clang told) of `?` whose operands are vectors in different address
// spaces. Clang has no common type for these classes where Metal's built-in vectors have one.
// `includes`: the shader includes one of Metal's headers; without, it has no namespace metal.
ReadResult read(const std::string& preprocessed, const std::string& source, SourceMap& map, bool includes,
                const std::set<std::pair<int, int>>& unify = {});

// Those places, in clang's output.
std::set<std::pair<int, int>> incompatible_vectors(const std::string& output);

}  // namespace mps_simulator::msl
