#include "lexer.h"

#include <cctype>

namespace mps_simulator::msl {
namespace {

bool starts_identifier(char c) { return std::isalpha(static_cast<unsigned char>(c)) || c == '_'; }
bool continues_identifier(char c) { return std::isalnum(static_cast<unsigned char>(c)) || c == '_'; }

// The length of the token at the start of `s`, and its kind. `>>` is two tokens: template arguments end in it.
size_t scan(std::string_view s, Token::Kind& kind) {
  size_t n = 1;
  if (starts_identifier(s[0])) {
    kind = Token::Kind::identifier;
    while (n < s.size() && continues_identifier(s[n])) ++n;
    return n;
  }
  const bool digit = std::isdigit(static_cast<unsigned char>(s[0]));
  if (digit || (s[0] == '.' && s.size() > 1 && std::isdigit(static_cast<unsigned char>(s[1])))) {
    kind = Token::Kind::number;
    const bool hex = s.size() > 1 && s[0] == '0' && (s[1] == 'x' || s[1] == 'X');
    while (n < s.size()) {
      const char c = s[n], last = s[n - 1];
      const bool sign = (c == '+' || c == '-') && (hex ? last == 'p' || last == 'P' : last == 'e' || last == 'E');
      if (!continues_identifier(c) && c != '.' && c != '\'' && !sign) break;
      ++n;
    }
    return n;
  }
  if (s[0] == '"' || s[0] == '\'') {
    kind = Token::Kind::string;
    while (n < s.size() && s[n] != s[0]) n += s[n] == '\\' ? 2 : 1;
    return n < s.size() ? n + 1 : s.size();
  }
  kind = Token::Kind::punctuation;
  for (std::string_view p : {"...", "<<=", "->*", "::", "->", "++", "--", "<<", "<=", "==", "!=", "&&",
                             "||",  "+=",  "-=",  "*=", "/=", "%=", "&=", "|=", "^=", ".*", "##"}) {
    if (s.substr(0, p.size()) == p) return p.size();
  }
  return 1;
}

}  // namespace

std::vector<Token> lex(const std::string& preprocessed) {
  std::vector<Token> tokens;
  bool in_source = false;
  int line = 0, index = 0;
  for (size_t begin = 0; begin < preprocessed.size();) {
    size_t end = preprocessed.find('\n', begin);
    if (end == std::string::npos) end = preprocessed.size();
    const std::string_view text(preprocessed.data() + begin, end - begin);
    begin = end + 1;
    if (text.size() > 2 && text[0] == '#' && text[1] == ' ' && std::isdigit(static_cast<unsigned char>(text[2]))) {
      line = std::stoi(std::string(text.substr(2))) - 1;
      in_source = text.find("\"program_source\"") != std::string_view::npos;
      continue;
    }
    ++line;
    ++index;
    if (!in_source) continue;
    if (size_t at = text.find_first_not_of(" \t"); at != std::string_view::npos && text[at] == '#') {  // a pragma
      Token t;
      t.kind = Token::Kind::string;
      t.text = text;
      t.line = line;
      t.column = 1;
      t.source_line = index;
      tokens.push_back(t);
      continue;
    }
    for (size_t at = 0; at < text.size();) {
      const size_t space = at;
      while (at < text.size() && std::isspace(static_cast<unsigned char>(text[at]))) ++at;
      if (at == text.size()) break;
      Token t;
      const size_t n = scan(text.substr(at), t.kind);
      t.text = text.substr(at, n);
      t.space = text.substr(space, at - space);
      t.line = line;
      t.column = static_cast<int>(at) + 1;
      t.source_line = index;
      tokens.push_back(t);
      at += n;
    }
  }
  Token end;
  end.kind = Token::Kind::end;
  end.line = line;
  end.source_line = index + 1;
  tokens.push_back(end);
  return tokens;
}

int find_token_column(std::string_view source_line, std::string_view text, int n) {
  for (size_t at = 0; at < source_line.size();) {
    if (std::isspace(static_cast<unsigned char>(source_line[at]))) {
      ++at;
      continue;
    }
    if (source_line.substr(at, 2) == "//") return 0;
    Token::Kind kind;
    const size_t length = scan(source_line.substr(at), kind);
    if (source_line.substr(at, length) == text && n-- == 0) return static_cast<int>(at) + 1;
    at += length;
  }
  return 0;
}

}  // namespace mps_simulator::msl
