#include "diagnostics.h"

#include <algorithm>
#include <regex>
#include <set>
#include <sstream>
#include <stdexcept>
#include <tuple>

#include "msl.h"

namespace mps_simulator::msl {

SourceMap::SourceMap(const std::string& source) {
  std::istringstream stream(source);
  for (std::string line; std::getline(stream, line);) lines_.push_back(line);
}

void SourceMap::add(int line, int rewritten_column, int source_column) {
  columns_[line].emplace(rewritten_column, source_column);
}

int SourceMap::source_column(int line, int rewritten_column) const {
  auto found = columns_.find(line);
  if (found == columns_.end()) return rewritten_column;
  auto next = found->second.upper_bound(rewritten_column);
  return next == found->second.begin() ? 1 : std::prev(next)->second;
}

const std::string& SourceMap::source_line(int line) const {
  static const std::string none;
  return line >= 1 && line <= static_cast<int>(lines_.size()) ? lines_[line - 1] : none;
}

namespace {

void replace_all(std::string& text, const std::string& from, const std::string& to) {
  for (size_t at = 0; (at = text.find(from, at)) != std::string::npos; at += to.size())
    text.replace(at, from.size(), to);
}

}  // namespace

std::string msl_names(std::string text) {
  replace_all(text, "const __global_host ", "constant ");
  replace_all(text, "__global_host ", "constant ");
  replace_all(text, "__global ", "device ");
  replace_all(text, "__local ", "threadgroup ");
  replace_all(text, "_Float16", "half");
  replace_all(text, "__bf16", "bfloat");
  replace_all(text, "msl_types::", "");
  replace_all(text, " [-Werror,", " [");
  for (const auto& [clangs, metals] :
       {std::pair("variable length arrays in C++ are a Clang extension",
                  "variable length arrays are not supported in Metal"),
        {"zero size arrays are an extension", "zero-length arrays are not permitted in C++"},
        {"'register' storage class specifier is deprecated and incompatible with C++17",
         "Metal does not support the 'register' storage class specifier"}}) {
    replace_all(text, clangs, metals);
  }
  static const std::regex same(R"('([^']*)' \(aka '\1'\))");
  text = std::regex_replace(text, same, "'$1'");
  return text;
}

std::vector<Diagnostic> parse_diagnostics(const std::string& output, const SourceMap& map) {
  struct Raw {
    std::string file;
    Diagnostic d;
  };
  static const std::regex pattern(R"((.+?):(\d+):(\d+): (fatal error|error|note): (.*))");
  std::vector<Raw> raw;
  std::istringstream stream(output);
  for (std::string line; std::getline(stream, line);) {
    std::smatch m;
    if (!std::regex_match(line, m, pattern)) continue;
    Raw r{m[1], {std::stoi(m[2]), std::stoi(m[3]), m[4] == "note" ? "note" : "error", msl_names(m[5])}};
    raw.push_back(r);
  }
  std::vector<Diagnostic> result;
  std::set<std::tuple<int, int, std::string>> seen;
  bool dropped = false;
  for (size_t i = 0; i < raw.size(); ++i) {
    Raw r = raw[i];
    if (r.d.severity == "error") {
      for (size_t j = i + 1; r.file != "program_source" && j < raw.size() && raw[j].d.severity == "note"; ++j) {
        if (raw[j].file != "program_source") continue;
        r.file = raw[j].file;
        r.d.line = raw[j].d.line;
        r.d.column = raw[j].d.column;
      }
      r.d.column = map.source_column(r.d.line, r.d.column);
      dropped = !seen.emplace(r.d.line, r.d.column, r.d.message).second;
    } else {
      if (r.file != "program_source" || r.d.message.rfind("built-in candidate", 0) == 0) continue;
      r.d.column = map.source_column(r.d.line, r.d.column);
    }
    if (!dropped) result.push_back(r.d);
  }
  return result;
}

std::string render(const std::vector<Diagnostic>& diagnostics, const SourceMap& map) {
  std::ostringstream out;
  for (const Diagnostic& d : diagnostics) {
    out << "program_source:" << d.line << ":" << d.column << ": " << d.severity << ": " << d.message << "\n";
    const std::string& line = map.source_line(d.line);
    if (line.empty()) continue;
    out << line << "\n";
    for (int i = 0; i + 1 < d.column && i < static_cast<int>(line.size()); ++i) out << (line[i] == '\t' ? '\t' : ' ');
    out << "^\n";
  }
  return out.str();
}

void fail_to_compile(const std::string& output, const SourceMap& map) {
  const auto errors = parse_diagnostics(output, map);
  if (errors.empty()) throw std::runtime_error("the shader compiler failed:\n" + output);
  throw CompileError(render(errors, map));
}

}  // namespace mps_simulator::msl
