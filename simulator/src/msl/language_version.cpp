#include "language_version.h"

#include <map>
#include <set>

#include "lexer.h"

namespace mps_simulator::msl {
namespace {

// The types that came after Metal 2.3, by the version that brought them. Names: nothing older may be called so.
const std::map<std::string, unsigned>& versions() {
  static const std::map<std::string, unsigned> versions = {
      {"bfloat", 310},         {"bfloat2", 310},        {"bfloat3", 310},
      {"bfloat4", 310},        {"packed_bfloat2", 310}, {"packed_bfloat3", 310},
      {"packed_bfloat4", 310}, {"atomic_float", 300},   {"simdgroup_bfloat8x8", 310},
  };
  return versions;
}

}  // namespace

std::vector<Diagnostic> too_new(const std::string& preprocessed, const SourceMap& source, unsigned version) {
  std::vector<Diagnostic> errors;
  std::set<std::pair<int, std::string>> told;
  for (const Token& t : lex(preprocessed)) {
    const auto found = versions().find(t.text);
    if (!t.is_identifier() || found == versions().end() || found->second <= version) continue;
    if (!told.emplace(t.line, t.text).second) continue;
    errors.push_back({t.line, find_token_column(source.source_line(t.line), t.text, 0), "error",
                      "unknown type name '" + t.text + "'"});
  }
  return errors;
}

}  // namespace mps_simulator::msl
