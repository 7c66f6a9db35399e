// Clang's dump of a syntax tree, line by line.
#pragma once

#include <cstddef>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace mps_simulator::msl {

struct Location {
  bool in_source = false;
  int line = 0, column = 0;
};

// One line of the dump.
struct Node {
  size_t depth = 0;
  std::string kind;
  std::string address;
  Location begin, end, name;  // name: of a declaration
  std::string rest;           // after the locations
  size_t children = 0;        // that were read so far
  std::string callee;         // of a call: the address of what is called ...
  std::string callee_type;    // ... its type ...
  bool calls_method = false;  // ... and whether an operator is a member function
  bool in_source() const { return begin.in_source || end.in_source || name.in_source; }
  bool is_function() const {
    return kind == "FunctionDecl" || kind == "CXXMethodDecl" || kind == "CXXConstructorDecl" ||
           kind == "CXXConversionDecl" || kind == "CXXDestructorDecl";
  }
  Location where() const { return name.in_source ? name : begin.in_source ? begin : end; }
  bool has(std::string_view text) const { return rest.find(text) != std::string::npos; }
  // The n-th quoted part: types, then names.
  std::string quoted(int n = 0) const {
    size_t at = 0;
    for (;; --n) {
      const size_t open = rest.find('\'', at);
      if (open == std::string::npos) return "";
      size_t close = rest.find('\'', open + 1);
      if (close == std::string::npos) return "";
      if (n == 0) return rest.substr(open + 1, close - open - 1);
      at = close + 1;
    }
  }
  // The address of the declaration that is referred to.
  std::string referred() const {
    const size_t at = rest.find(" 0x");
    return at == std::string::npos ? "" : rest.substr(at + 1, rest.find(' ', at + 1) - at - 1);
  }
  // The last word before the types: the name of a declaration.
  std::string declared_name() const {
    const std::string before = rest.substr(0, rest.find(" '"));
    return before.substr(before.rfind(' ') + 1);
  }
  // The type without typedefs, where the dump gives it: 'uint':'unsigned int'.
  std::string canonical_type() const {
    const std::string type = quoted(0);
    const size_t after = rest.find("'" + type + "'") + type.size() + 2;
    return after + 1 < rest.size() && rest.compare(after, 2, ":'") == 0 ? quoted(1) : type;
  }
};

// Locations are given relative to the one printed before.
class Locations {
 public:
  // Parses one location at `at` and moves past it.
  Location read(std::string_view text, size_t& at);

 private:
  std::string file_;
  int line_ = 0, column_ = 0;
};

class DumpReader {
 public:
  // False for a line that is no node.
  bool parse(std::string_view line, Node& node);

  // The address of the first declaration of what is declared at this address.
  std::string canonical(const std::string& address) const {
    auto found = canonical_.find(address);
    return found == canonical_.end() ? address : found->second;
  }

 private:
  Locations locations_;
  std::map<std::string, std::string> canonical_;  // a redeclaration's address -> the first one's
};

// {"thread int &", "float"} of "void (thread int &, float) const".
std::vector<std::string> parameters_of(const std::string& function_type);

}  // namespace mps_simulator::msl
