// Reads a preprocessed shader and rewrites what clang does not know of MSL: attributes, kernels and their
// instantiations, function constants, threadgroup variables, member functions with an address space, literals.
// Refuses, in the words of Apple's compiler where they are known, what clang would let pass and tokens can show.
#pragma once

#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "diagnostics.h"
#include "lexer.h"
#include "msl.h"

namespace mps_simulator::msl {

struct KernelText {
  std::string name;        // as the host asks for it
  std::string expression;  // a pointer to it, "&f" or "&f<float, 2>", at the place where MSL_KERNEL stands
};

struct ReadResult {
  std::string text;  // with one MSL_KERNEL(index, expression) for each kernel
  std::vector<KernelText> kernels;
  std::vector<FunctionConstant> constants;  // `type` as written
  std::vector<Diagnostic> errors;           // columns are those of the source
  std::vector<Token> tokens;                // as they were before they were rewritten
  std::vector<int> columns;                 // of the tokens, in the source
  std::map<Place, size_t> places;           // the token at each line and column of `text`
};

// `unify`: the tokens that are a `?` whose operands are vectors, or bfloats, in different address spaces. Clang has no
// common type for these classes where Metal's built-in types have one.
// `includes`: the shader includes one of Metal's headers; without, it has no namespace metal.
ReadResult read(const std::string& preprocessed, const std::string& source, SourceMap& map, bool includes,
                const std::set<size_t>& unify = {});

bool is_address_space(const Token& token);

// Those tokens, from the places of a `?`, or of an operand of it, in what was read. Without the ones it had.
std::set<size_t> conditionals(const ReadResult& read, const std::vector<Place>& places);

// The places of such a `?` in clang's errors.
std::vector<Place> incompatible_vectors(const std::string& output);

}  // namespace mps_simulator::msl
