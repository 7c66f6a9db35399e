// Errors in a shader, in the form and with the lines of clang's own, about the `.metal` source as the user wrote it.
#pragma once

#include <map>
#include <string>
#include <utility>
#include <vector>

namespace mps_simulator::msl {

// A line, and a column of the rewritten text, as clang tells them.
using Place = std::pair<int, int>;

struct Diagnostic {
  int line = 0;
  int column = 0;        // in the source, or in the rewritten text until SourceMap::to_source
  std::string severity;  // "error", "note"
  std::string message;
};

// From columns of the text that clang compiles to columns of the source. Lines are the same.
class SourceMap {
 public:
  explicit SourceMap(const std::string& source);
  void add(int line, int rewritten_column, int source_column);
  int source_column(int line, int rewritten_column) const;
  const std::string& source_line(int line) const;

 private:
  std::vector<std::string> lines_;
  std::map<int, std::map<int, int>> columns_;
};

// Reads clang's standard error (without carets). Diagnostics in the headers are moved to the place in the source that
// led to them, types are named as MSL names them, and repetitions are dropped.
std::vector<Diagnostic> parse_diagnostics(const std::string& output, const SourceMap& map);

// "program_source:3:5: error: ...", the line, a caret.
std::string render(const std::vector<Diagnostic>& diagnostics, const SourceMap& map);

// Ends a compilation that failed: with a CompileError of these diagnostics, or, where the compiler complains of
// something else than the shader, such as a full disk, with a std::runtime_error.
[[noreturn]] void fail_to_compile(const std::string& output, const SourceMap& map);

// Address spaces and types by their MSL names.
std::string msl_names(std::string text);

}  // namespace mps_simulator::msl
