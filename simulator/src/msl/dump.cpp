#include "dump.h"

#include <algorithm>
#include <cctype>

namespace mps_simulator::msl {
namespace {

int number(std::string_view s) {
  int n = 0;
  for (char c : s) {
    if (!std::isdigit(static_cast<unsigned char>(c))) break;
    n = n * 10 + (c - '0');
  }
  return n;
}

}  // namespace

Location Locations::read(std::string_view text, size_t& at) {
  Location l;
  if (text.compare(at, 14, "<invalid sloc>") == 0) {
    at += 14;
    return l;
  }
  const size_t end =
      std::min({text.find(',', at), text.find('>', at + (text[at] == '<' ? text.find('>', at) - at + 1 : 0)),
                text.find(' ', at), text.size()});
  std::string_view word = text.substr(at, end - at);
  at = end;
  const size_t last = word.rfind(':');
  if (last == std::string_view::npos) return l;
  if (word.substr(0, 4) == "col:") {
    column_ = number(word.substr(4));
  } else if (word.substr(0, 5) == "line:") {
    line_ = number(word.substr(5, last - 5));
    column_ = number(word.substr(last + 1));
  } else {
    const size_t middle = word.rfind(':', last - 1);
    if (middle == std::string_view::npos) return l;
    file_ = word.substr(0, middle);
    line_ = number(word.substr(middle + 1, last - middle - 1));
    column_ = number(word.substr(last + 1));
  }
  l.in_source = file_ == "program_source";
  l.line = line_;
  l.column = column_;
  return l;
}

std::vector<std::string> parameters_of(const std::string& function_type) {
  std::vector<std::string> parameters;
  int depth = 0;
  size_t begin = 0;
  for (size_t i = 0; i < function_type.size(); ++i) {
    const char c = function_type[i];
    if (c == '<' || c == '[') ++depth;
    if (c == '>' || c == ']') --depth;
    if (c == '(' && depth++ == 0) begin = i + 1;
    if ((c == ',' && depth == 1) || (c == ')' && depth == 1)) {
      parameters.push_back(function_type.substr(begin, i - begin));
      begin = i + 2;
      if (c == ')') break;
    }
    if (c == ')') --depth;
  }
  return parameters;
}

bool DumpReader::parse(std::string_view line, Node& node) {
  const size_t start = line.find_first_not_of("| `-");
  if (start == std::string_view::npos) return false;
  node.depth = start / 2;
  size_t at = line.find(' ', start);
  if (at == std::string_view::npos) at = line.size();
  node.kind = line.substr(start, at - start);
  auto word = [&](std::string_view prefix) {
    if (line.compare(at, prefix.size() + 1, " " + std::string(prefix)) != 0) return std::string();
    const size_t end = std::min(line.find(' ', at + 1), line.size());
    std::string w(line.substr(at + 1, end - at - 1));
    at = end;
    return w;
  };
  node.address = word("0x");
  while (true) {
    if (line.compare(at, 8, " parent ") == 0) {
      at += 7;
      word("0x");
    } else if (line.compare(at, 6, " prev ") == 0) {
      at += 5;
      const std::string previous = word("0x");
      canonical_[node.address] = canonical(previous);
    } else {
      break;
    }
  }
  if (line.compare(at, 2, " <") == 0 && (at + 2 >= line.size() || line[at + 2] != '\'')) {
    at += 2;
    node.begin = node.end = locations_.read(line, at);
    if (line.compare(at, 2, ", ") == 0) {
      at += 2;
      node.end = locations_.read(line, at);
    }
    if (at < line.size() && line[at] == '>') ++at;
    for (std::string_view prefix : {" line:", " col:", " /", " program_source:", " <"}) {
      if (node.kind.size() > 4 && node.kind.compare(node.kind.size() - 4, 4, "Decl") == 0 &&
          line.compare(at, prefix.size(), prefix) == 0) {
        ++at;
        node.name = locations_.read(line, at);
        break;
      }
    }
  }
  if (at < line.size()) node.rest = line.substr(at);
  return true;
}

}  // namespace mps_simulator::msl
