#include "declarators.h"

#include <algorithm>
#include <map>
#include <set>

namespace mps_simulator::msl {
namespace {

bool is_pointer_token(const Token& t) { return t.is("*") || t.is("&") || t.is("&&"); }

class DeclaratorCheck {
 public:
  DeclaratorCheck(const ReadResult& source, const std::vector<Declaration>& declarations, unsigned language_version)
      : source_(source), tokens_(source.tokens), generic_(language_version >= 410) {
    for (const Declaration& d : declarations) {
      if (d.kind == Declaration::Kind::type_parameter) hidden_.insert(d.name);
      if (d.kind == Declaration::Kind::alias) aliases_.emplace(d.name, d.type);
    }
    for (const Declaration& d : declarations) {
      if (d.kind == Declaration::Kind::type_parameter) continue;
      const auto place = source.places.find({d.line, d.column});
      if (place == source.places.end()) continue;  // written by the reader
      check(d, place->second);
    }
  }

  std::vector<Diagnostic> errors;

 private:
  // The types of a declarator from the inside out: `device float* const thread* x` is {device float}, {const thread}
  // and, for the variable itself, {}.
  struct Levels {
    std::vector<std::vector<size_t>> tokens = {{}};
    std::vector<size_t> pointers;  // the token between two levels
    bool function = false;         // what the last pointer points to
  };

  const ReadResult& source_;
  const std::vector<Token>& tokens_;
  const bool generic_;
  std::set<std::string> hidden_;                // template parameters
  std::map<std::string, std::string> aliases_;  // to types

  const Token& at(size_t i) const { return tokens_[std::min(i, tokens_.size() - 1)]; }

  void error(size_t i, const std::string& message) {
    errors.push_back({tokens_[i].line, source_.columns[i], "error", message});
  }

  static bool opens(const Token& t) { return t.is("(") || t.is("[") || t.is("{"); }
  static bool closes(const Token& t) { return t.is(")") || t.is("]") || t.is("}"); }

  size_t closing(size_t i) const {
    int depth = 0;
    for (; i + 1 < tokens_.size(); ++i) {
      if (opens(at(i))) ++depth;
      if (closes(at(i)) && --depth == 0) return i;
    }
    return tokens_.size() - 1;
  }

  // The bracket that the one at `i` closes.
  size_t opening(size_t i) const {
    int depth = 0;
    for (;; --i) {
      if (closes(at(i))) ++depth;
      if (opens(at(i)) && --depth == 0) return i;
      if (i == 0) return 0;
    }
  }
  size_t opening_angle(size_t i) const {
    int depth = 0;
    for (;; --i) {
      if (at(i).is(")") || at(i).is("]")) i = opening(i);
      if (at(i).is(">")) ++depth;
      if (at(i).is("<") && (i == 0 || at(i - 1).is_identifier()) && --depth == 0) return i;
      if (i == 0) return 0;
    }
  }
  size_t closing_angle(size_t i) const {
    int depth = 0;
    for (; i + 1 < tokens_.size(); ++i) {
      if (opens(at(i))) i = closing(i);
      if (at(i).is("<") && (i == 0 || at(i - 1).is_identifier())) ++depth;
      if (at(i).is(">") && --depth == 0) return i;
    }
    return tokens_.size() - 1;
  }

  // The `(` of `float (&r)[2]` and `void (*f)(int)`, not that of a parameter list.
  bool opens_declarator(size_t i) const {
    do {
      ++i;
    } while (is_address_space(at(i)) || at(i).is("const"));
    return is_pointer_token(at(i));
  }

  // Where the type begins whose declarator's name stands at `name`.
  size_t begin_of(size_t name) const {
    size_t i = name;
    while (i > 0) {
      const Token& t = at(i - 1);
      if (t.is(">")) {
        const size_t open = opening_angle(i - 1);
        if (open == 0 || at(open - 1).is("template")) return i;
        i = open;
      } else if (t.is(")") || t.is("]")) {
        const size_t open = opening(i - 1);
        const bool attribute = t.is("]") && at(open + 1).is("[");
        const bool part_of_type =
            open > 0 && (at(open - 1).is("decltype") || at(open - 1).is("alignas") || at(open - 1).is("__attribute__"));
        if (!attribute && !part_of_type) return i;
        i = open;
      } else if (t.is("(")) {
        if (!opens_declarator(i - 1)) return i;
        --i;
      } else if (t.is_identifier() || t.is("::") || is_pointer_token(t)) {
        --i;
      } else {
        return i;
      }
    }
    return i;
  }

  // The same for the second and further names of `device float *a, *b`: where the first one's type begins.
  size_t begin_of_statement(size_t i) const {
    while (i > 0 && !at(i - 1).is(";") && !opens(at(i - 1)) && at(i - 1).text != "}" && !at(i - 1).is(":") &&
           at(i - 1).kind != Token::Kind::string) {
      i = closes(at(i - 1)) ? opening(i - 1) : i - 1;
    }
    return i;
  }

  Levels read(size_t begin, size_t end) const {
    Levels levels;
    add(levels, begin, end);
    return levels;
  }

  void add(Levels& levels, size_t begin, size_t end) const {
    for (size_t i = begin; i < end; ++i) {
      if (at(i).is("<")) {
        i = closing_angle(i);
      } else if (at(i).is("decltype") || at(i).is("alignas") || at(i).is("__attribute__")) {
        levels.tokens.back().push_back(i);
        i = closing(i + 1);
      } else if (at(i).is("[")) {
        i = closing(i);
      } else if (is_pointer_token(at(i))) {
        levels.pointers.push_back(i);
        levels.tokens.emplace_back();
      } else if (!at(i).is("(")) {
        levels.tokens.back().push_back(i);
      } else if (opens_declarator(i)) {
        levels.function = at(closing(i) + 1).is("(");
      } else {
        i = closing(i);
      }
    }
  }

  void check(const Declaration& d, size_t name) {
    using Kind = Declaration::Kind;
    if (d.kind == Kind::cast) {
      const bool c_style = at(name).is("(");
      const size_t open = c_style ? name : name + 1;
      const size_t close = c_style ? closing(open) : closing_angle(open);
      return judge(d, read(open + 1, close), name);
    }
    if (d.kind == Kind::alias && at(name + 1).is("=")) {
      size_t end = name + 2;
      while (end + 1 < tokens_.size() && !at(end).is(";")) ++end;
      return judge(d, read(name + 2, end), name);
    }
    size_t end = name;
    while (end > 0 && at(end - 1).is("::")) {  // the name of a member outside of its class
      end -= 2;
      if (at(end).is(">")) end = opening_angle(end) - 1;
    }
    size_t begin = begin_of(end);
    Levels levels;
    if (begin > 0 && at(begin - 1).is(",") && (d.kind == Kind::variable || d.kind == Kind::alias)) {
      const size_t first = begin_of_statement(begin);
      size_t specifiers = first;
      while (specifiers < begin && !is_pointer_token(at(specifiers)) && !at(specifiers).is(",") &&
             !at(specifiers).is("=") && !opens(at(specifiers))) {
        specifiers = at(specifiers).is("<") ? closing_angle(specifiers) + 1 : specifiers + 1;
      }
      if (!is_pointer_token(at(specifiers)) && specifiers > first) --specifiers;  // the first one's name
      add(levels, first, specifiers);
    }
    add(levels, begin, end);
    judge(d, levels, name);
  }

  void judge(const Declaration& d, const Levels& levels, size_t name) {
    for (size_t level = 0; level < levels.tokens.size(); ++level) {
      const auto& tokens = levels.tokens[level];
      const size_t spaces =
          std::count_if(tokens.begin(), tokens.end(), [&](size_t i) { return is_address_space(at(i)); });
      if (spaces > 1) return error(name, "multiple address spaces specified for type");
      if (level == levels.pointers.size() || spaces == 1) continue;
      if (levels.function && level + 1 == levels.pointers.size()) continue;
      // Templates with references to pointers, as in MLX's quantized.h, do compile on a Mac.
      if (d.in_template && level > 0 && at(levels.pointers[level]).is("&")) continue;
      if (level == 0 && may_carry_space(tokens)) continue;
      if (generic_ && !d.of_kernel) continue;
      const bool pointer = at(levels.pointers[level]).is("*");
      return error(name,
                   std::string(pointer ? "pointer" : "reference") + " type must have explicit address space qualifier");
    }
  }

  // The type's name stands for a type that may have an address space of its own.
  bool may_carry_space(const std::vector<size_t>& tokens) const {
    const auto named = [&](const char* word) {
      return std::any_of(tokens.begin(), tokens.end(), [&](size_t i) { return at(i).is(word); });
    };
    if (named("decltype") || named("typename")) return true;
    for (auto i = tokens.rbegin(); i != tokens.rend(); ++i) {
      if (at(*i).is("const") || at(*i).is("volatile") || !at(*i).is_identifier()) continue;
      return hides(at(*i).text, at(*i + 1).is("<"));
    }
    return false;
  }

  bool hides(const std::string& name, bool with_arguments) const {
    if (hidden_.count(name)) return true;
    // Metal's aliases: conditional_t, remove_reference_t ...
    if (with_arguments && name.size() > 2 && name.compare(name.size() - 2, 2, "_t") == 0) return true;
    const auto alias = aliases_.find(name);
    if (alias == aliases_.end()) return false;
    const std::string& type = alias->second;
    for (const char* sign : {"__global", "__local", "thread ", "typename ", "decltype"}) {
      if (type.find(sign) != std::string::npos) return true;
    }
    std::string base = type;
    if (base.rfind("const ", 0) == 0) base = base.substr(6);
    const size_t arguments = base.find('<');
    base = base.substr(0, arguments);
    return base != name && hides(base, arguments != std::string::npos);
  }
};

}  // namespace

std::vector<Diagnostic> check_declarators(const ReadResult& source, const std::vector<Declaration>& declarations,
                                          unsigned language_version) {
  return DeclaratorCheck(source, declarations, language_version).errors;
}

}  // namespace mps_simulator::msl
