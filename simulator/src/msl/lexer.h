// Tokens of a preprocessed shader, each with its place in the `.metal` source and what will be written in its stead.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace mps_simulator::msl {

struct Token {
  enum class Kind { identifier, number, string, punctuation, end };
  Kind kind;
  std::string text;
  std::string space;    // the white space before it
  int line = 0;         // in the source, 1-based
  int column = 0;       // in the preprocessed line, 1-based
  int source_line = 0;  // index of the preprocessed line
  std::string replacement;
  std::string before, after;  // inserted text
  bool replaced = false;

  bool is(std::string_view t) const { return text == t && kind != Kind::string; }
  bool is_identifier() const { return kind == Kind::identifier; }
  void replace(std::string with) {
    replacement = std::move(with);
    replaced = true;
  }
  void erase() { replace(""); }
};

// Takes the output of `clang -E`: only what comes from `program_source` is kept. The last token is `end`.
std::vector<Token> lex(const std::string& preprocessed);

// The column in the source line at which the n-th (0-based) occurrence of `text` as a token stands; 0: none.
int find_token_column(std::string_view source_line, std::string_view text, int n);

}  // namespace mps_simulator::msl
