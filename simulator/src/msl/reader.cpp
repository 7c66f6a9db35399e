#include "reader.h"

#include <algorithm>
#include <map>
#include <optional>
#include <regex>
#include <sstream>

#include "attributes.h"
#include "lexer.h"

namespace mps_simulator::msl {

bool is_address_space(const Token& t) {
  return t.is("device") || t.is("constant") || t.is("threadgroup") || t.is("thread");
}

namespace {

// What MSL leaves out of C++, and what it calls it. Names, not declarations: nothing in MSL may be called so.
const std::map<std::string, std::string>& banned() {
  static const std::map<std::string, std::string> words = {
      {"double", "'double' is not supported in Metal"},
      {"goto", "goto statements are not supported in Metal"},
      {"new", "operator 'new' is not supported in Metal"},
      {"delete", "operator 'delete' is not supported in Metal"},
      {"throw", "exceptions are not supported in Metal"},
      {"try", "exceptions are not supported in Metal"},
      {"catch", "exceptions are not supported in Metal"},
      {"dynamic_cast", "dynamic_cast is not supported in Metal"},
      {"typeid", "typeid is not supported in Metal"},
      {"virtual", "virtual functions are not supported in Metal"},
      {"thread_local", "thread-local storage is not supported in Metal"},
      {"asm", "inline assembly is not supported in Metal"},
      {"__asm__", "inline assembly is not supported in Metal"},
      {"wchar_t", "'wchar_t' is not supported in Metal"},
      {"vertex", "only kernels are supported by this device"},
      {"fragment", "only kernels are supported by this device"},
      {"std", "use of undeclared identifier 'std'"},
  };
  return words;
}

struct FoundAttribute {
  std::string name;
  std::string arguments;  // between the parentheses
  size_t token;
};

class Reader {
 public:
  Reader(std::vector<Token> tokens, const std::string& source, SourceMap& map) : tokens_(std::move(tokens)), map_(map) {
    locate(source);
  }

  ReadResult run(bool includes, const std::set<size_t>& unify) {
    words(includes);
    attributes();
    array_parameters();
    strings();
    structure();
    defined_constants();
    unify_operands(unify);
    write();
    result_.tokens = std::move(tokens_);
    result_.columns = std::move(source_columns_);
    return std::move(result_);
  }

 private:
  std::vector<Token> tokens_;
  SourceMap& map_;
  ReadResult result_;
  std::vector<int> source_columns_;                           // of each token
  std::map<size_t, std::vector<FoundAttribute>> attributes_;  // by the token that opens the list
  std::set<std::string> constant_names_;
  size_t threadgroup_variables_ = 0;

  // --- tokens

  const Token& at(size_t i) const { return tokens_[std::min(i, tokens_.size() - 1)]; }

  // Where each token stands in the source as written: its n-th occurrence in the line. Tokens that a macro made are
  // taken to stand where the one before them does.
  void locate(const std::string& source) {
    const SourceMap lines(source);
    std::map<std::pair<int, std::string>, int> occurrences;
    source_columns_.resize(tokens_.size(), 1);
    int last_line = 0, last = 1;
    for (size_t i = 0; i < tokens_.size(); ++i) {
      const Token& t = tokens_[i];
      if (t.line != last_line) {
        last = 1;
        last_line = t.line;
      }
      const int column = find_token_column(lines.source_line(t.line), t.text, occurrences[{t.line, t.text}]++);
      source_columns_[i] = last = column ? column : last;
    }
  }

  void error(size_t i, const std::string& message) {
    i = std::min(i, tokens_.size() - 1);
    result_.errors.push_back({tokens_[i].line, source_columns_[i], "error", message});
  }

  std::string join(size_t begin, size_t end) const {
    std::string s;
    for (size_t i = begin; i < end; ++i) {
      if (tokens_[i].kind == Token::Kind::end || (tokens_[i].replaced && tokens_[i].replacement.empty())) continue;
      if (!s.empty()) s += ' ';
      s += tokens_[i].text;
    }
    return s;
  }

  // The index of the bracket that closes the one at `i`, or the end.
  size_t closing(size_t i) const {
    int depth = 0;
    for (; i < tokens_.size() - 1; ++i) {
      const Token& t = tokens_[i];
      if (t.is("(") || t.is("[") || t.is("{")) ++depth;
      if ((t.is(")") || t.is("]") || t.is("}")) && --depth == 0) return i;
    }
    return tokens_.size() - 1;
  }

  // The `>` that closes the `<` at `i`, or `i` itself when it is no template argument list.
  size_t closing_angle(size_t i) const {
    const bool parameters = i > 0 && at(i - 1).is("template");
    int depth = 0;
    for (size_t j = i; j < tokens_.size() - 1; ++j) {
      const Token& t = tokens_[j];
      if (t.is("(") || t.is("[")) {
        j = closing(j);
      } else if (t.is("<")) {
        depth += at(j - 1).is_identifier();  // else it compares
      } else if (t.is(">") && --depth == 0) {
        return j;
      } else if (t.is(";") || t.is("{") || t.is("}") || t.is(")") || t.is("]") ||
                 (!parameters && (t.is("&&") || t.is("||")))) {
        return i;
      }
    }
    return i;
  }

  // --- words and literals

  void words(bool includes) {
    for (size_t i = 0; i + 1 < tokens_.size(); ++i) {
      Token& t = tokens_[i];
      if (t.kind == Token::Kind::number) {
        literal(t);
      } else if (t.is_identifier()) {
        auto word = banned().find(t.text);
        const bool deleted = t.is("delete") && i > 0 && at(i - 1).is("=");
        if (word != banned().end() && !deleted) error(i, word->second);
        if (is_keyword_of_half(t) && declares(i)) {
          error(i, "cannot combine with previous 'type-name' declaration specifier");
        }
        if (t.is("metal") && !includes) error(i, "use of undeclared identifier 'metal'");
        if (t.is("long") && at(i + 1).is("long")) error(i, "'long long' is not supported in Metal");
        if (t.text.rfind("msl_", 0) == 0 || t.text.rfind("MSL_", 0) == 0) {
          error(i, "use of undeclared identifier '" + t.text + "'");
        }
      }
    }
  }

  static bool is_keyword_of_half(const Token& t) { return t.is("half") || t.is("bfloat"); }

  // The name at `i` is that of a variable: it stands behind a type.
  bool declares(size_t i) const {
    if (i == 0 || !(at(i + 1).is("=") || at(i + 1).is(";") || at(i + 1).is("[") || at(i + 1).is(","))) return false;
    const Token& type = at(i - 1);
    static const std::set<std::string> specifiers = {"const",    "volatile", "constexpr", "static", "inline",
                                                     "typename", "device",   "constant",  "thread", "threadgroup",
                                                     "unsigned", "signed",   "return",    "case",   "using",
                                                     "typedef",  "sizeof",   "struct",    "else",   "operator"};
    return (type.is_identifier() && !specifiers.count(type.text)) || type.is("*") || type.is("&") || type.is(">");
  }

  // Without a suffix a literal is a float; `h` is half and `bf` is bfloat.
  static void literal(Token& t) {
    const std::string& s = t.text;
    const bool hex = s.size() > 1 && (s[1] == 'x' || s[1] == 'X');
    const bool floating = s.find('.') != std::string::npos || s.find_first_of(hex ? "pP" : "eE") != std::string::npos;
    const char last = s.back();
    if (s.size() > 2 && !hex && (s.substr(s.size() - 2) == "bf" || s.substr(s.size() - 2) == "BF")) {
      t.replace("((bfloat)" + s.substr(0, s.size() - 2) + "f)");
    } else if (!hex && (last == 'h' || last == 'H')) {
      t.replace("((half)" + s.substr(0, s.size() - 1) + "f)");
    } else if (floating && last != 'f' && last != 'F') {
      t.replace(s + "f");
    }
  }

  // --- attributes

  void attributes() {
    for (size_t i = 0; i + 2 < tokens_.size(); ++i) {
      if (!at(i).is("[") || !at(i + 1).is("[") || !at(i + 1).space.empty()) continue;
      const size_t end = closing(i);
      bool ours = true;
      std::vector<FoundAttribute> list;
      for (size_t j = i + 2; j + 1 < end;) {
        FoundAttribute a{at(j).text, "", j};
        if (at(j).kind != Token::Kind::identifier) {
          error(j, "expected an attribute");
          break;
        }
        ++j;
        if (at(j).is("::")) j += 2;
        if (at(j).is("(")) {
          const size_t close = closing(j);
          a.arguments = join(j + 1, close);
          j = close + 1;
        }
        list.push_back(a);
        if (at(j).is(",")) ++j;
      }
      std::string text;
      for (const FoundAttribute& a : list) {
        switch (attribute(a.name)) {
          case Attribute::unknown:
            error(a.token, "unknown attribute '" + a.name + "'");
            break;
          case Attribute::unsupported:
            error(a.token, "attribute '" + a.name + "' is not supported by this device");
            break;
          case Attribute::standard:
            ours = false;
            break;
          case Attribute::resource:
            if (a.arguments.empty()) error(a.token, "'" + a.name + "' attribute takes one argument");
            text += " MSL_NOTE(\"msl:" + a.name + "\", (" + a.arguments + "))";
            break;
          case Attribute::max_total_threads_per_threadgroup:
            text += " MSL_NOTE(\"msl:max_threads\", (" + a.arguments + "))";
            break;
          case Attribute::function_constant:
            text += " MSL_NOTE(\"msl:function_constant:" + a.arguments + "\")";
            break;
          case Attribute::input:
            text += " MSL_NOTE(\"msl:" + a.name + "\")";
            break;
          case Attribute::kernel:
            text += " MSL_NOTE(\"msl:kernel\") __attribute__((internal_linkage))";
            break;
          case Attribute::id:
            if (a.arguments.empty()) error(a.token, "attribute 'id' takes one argument");
            break;
          case Attribute::host_name:
            break;
        }
      }
      if (ours) {
        for (size_t j = i; j <= end; ++j) tokens_[j].erase();
        tokens_[i].replace(text.empty() ? "" : text + " ");
        attributes_[i] = list;
      }
      i = end;
    }
  }

  const FoundAttribute* find_attribute(size_t begin, size_t end, const std::string& name) const {
    for (auto it = attributes_.lower_bound(begin); it != attributes_.end() && it->first < end; ++it) {
      for (const FoundAttribute& a : it->second) {
        if (a.name == name) return &a;
      }
    }
    return nullptr;
  }

  bool is_string(size_t i) const { return at(i).kind == Token::Kind::string && at(i).text[0] == '"'; }

  // A string literal is in the constant address space, and so is the name of a function.
  void strings() {
    for (size_t i = 1; i + 1 < tokens_.size(); ++i) {
      if (at(i).is("static_assert") || at(i).is("__attribute__")) i = closing(i + 1);
      if (attributes_.count(i)) i = closing(i);
      const bool name = at(i).is("__func__") || at(i).is("__FUNCTION__") || at(i).is("__PRETTY_FUNCTION__");
      if (!name && !is_string(i)) continue;
      const bool value = !at(i - 1).is("extern") && !initialises_array_of_characters(i);
      if (value) tokens_[i].before += "msl_runtime::literal(";
      while (!name && is_string(i + 1)) ++i;
      if (value) tokens_[i].after += ")";
    }
  }

  // Whether the literal gives an array its elements: char s[] = "ab", or char s[2][3] = {"ab", "cd"}. Those of an array
  // of pointers point to it.
  bool initialises_array_of_characters(size_t i) const {
    size_t j = i;
    while (j > 0 && (at(j - 1).is("{") || at(j - 1).is(",") || is_string(j - 1))) --j;
    if (j > 0 && at(j - 1).is("=")) --j;
    if (j == i || j == 0 || !at(j - 1).is("]")) return false;
    for (; j > 0 && !at(j - 1).is(";") && !at(j - 1).is("{") && !at(j - 1).is("}"); --j) {
      if (at(j - 1).is("*")) return false;
    }
    return true;
  }

  // constant int strides[2], as a parameter, is a pointer into that address space.
  void array_parameters() {
    for (size_t i = 1; i + 1 < tokens_.size(); ++i) {
      if (!is_address_space(at(i)) || at(i).is("thread")) continue;
      if (!at(i - 1).is("(") && !at(i - 1).is(",") && !at(i - 1).is("const")) continue;
      for (size_t j = i + 1; j + 1 < tokens_.size(); ++j) {
        if (at(j).is("<")) j = closing_angle(j);
        if (attributes_.count(j) || !(at(j).is_identifier() || at(j).is("::") || at(j).is(">") || at(j).is("["))) break;
        if (!at(j).is("[")) continue;
        const size_t close = closing(j);
        if (at(close + 1).is(",") || at(close + 1).is(")") || attributes_.count(close + 1)) {
          tokens_[j - 1].before += "* ";
          for (size_t k = j; k <= close; ++k) tokens_[k].erase();
        }
        break;
      }
    }
  }

  // --- declarations

  enum class Scope { space, record, kernel, function, block };

  // Where the declaration that begins at `i` has its specifiers: behind `template <...>`.
  size_t specifiers(size_t i) const {
    while (at(i).is("template") && at(i + 1).is("<")) {
      const size_t end = closing_angle(i + 1);
      if (end == i + 1) break;
      i = end + 1;
    }
    return i;
  }

  void structure() {
    std::vector<Scope> scopes = {Scope::space};
    std::vector<std::pair<size_t, KernelText>> pending;         // kernels whose body is open, by depth
    std::vector<std::map<std::string, size_t>> members = {{}};  // those with an address space, and where they begin
    size_t head = 0;                                            // where the present declaration or statement began
    int parentheses = 0;
    for (size_t i = 0; i + 1 < tokens_.size(); ++i) {
      Token& t = tokens_[i];
      const Scope scope = scopes.back();
      if (attributes_.count(i)) {
        const size_t end = closing(i);
        const FoundAttribute* id = scope == Scope::record ? nullptr : find_attribute(i, end, "id");
        if (id) error(id->token, "attribute 'id' only applies to non-static data members");
        i = end;
        continue;
      }
      const bool in_body = scope != Scope::space && scope != Scope::record;
      if (t.kind == Token::Kind::string && t.text[0] == '#') {
        if (head == i) head = i + 1;
      } else if (t.is("(")) {
        ++parentheses;
      } else if (t.is(")")) {
        --parentheses;
      } else if (parentheses > 0) {
        continue;
      } else if (t.is("{")) {
        Scope inner = in_body ? Scope::block : opened(head, i);
        if (in_body && inner == Scope::block && is_record(head, i)) inner = Scope::record;
        if (inner == Scope::kernel && scope == Scope::record) {
          error(parameters(head, i) - 1, "kernel function cannot be a member function");
        } else if (inner == Scope::function) {
          function(head, i);
        }
        if (inner == Scope::kernel) {
          if (auto k = kernel(head, i)) pending.emplace_back(scopes.size(), *k);
        }
        scopes.push_back(inner);
        members.emplace_back();
        head = i + 1;
      } else if (t.is("}")) {
        if (scopes.size() > 1) {
          scopes.pop_back();
          members.pop_back();
        }
        if (!pending.empty() && pending.back().first == scopes.size()) {
          expose(i, pending.back().second);
          pending.pop_back();
        }
        if (!at(i + 1).is(";") && !at(i + 1).is(",") && !at(i + 1).is(")")) head = i + 1;
      } else if (t.is(";")) {
        if (!in_body) declaration(head, i);
        head = i + 1;
      } else if (t.is(":") && scope == Scope::record && i == head + 1) {
        head = i + 1;  // an access specifier
      } else if (t.is("threadgroup") && in_body && starts_statement(i)) {
        const bool inside_kernel = std::find(scopes.begin(), scopes.end(), Scope::kernel) != scopes.end();
        threadgroup_variable(i, inside_kernel);
      } else if (is_address_space(t) && !in_body && qualifies_member(i)) {
        if (t.is("threadgroup") && at(i - 1).is(")") && at(i - 2).is("(") && is_constructor(head, i)) {
          tokens_[head].before += "typedef void msl_threadgroup_constructor; ";
        }
        const std::string space = "MSL_NOTE(\"msl:this:" + t.text + "\") ";
        const auto [member, first] = members.back().emplace(join(head, i), specifiers(head));
        tokens_[member->second].before += space;
        if (first || scope != Scope::record) {
          t.erase();
        } else {
          i = erase_member(head, i);
          head = i + 1;
        }
      }
    }
  }

  // `constexpr S() threadgroup` and the like: a name and no type.
  bool is_constructor(size_t begin, size_t end) const {
    const size_t name = parameters(specifiers(begin), end) - 1;
    const Token& before = at(name - 1);
    return name == specifiers(begin) || before.is("constexpr") || before.is("inline") || before.is("METAL_FUNC") ||
           before.is(";") || before.is("}");
  }

  bool starts_statement(size_t i) const {
    const Token& p = i == 0 ? tokens_.back() : at(i - 1);
    return p.is(";") || p.is("{") || p.is("}") || p.is(")") || p.is(":") ||
           (p.kind == Token::Kind::string && p.text[0] == '#');
  }

  // An address space after the parameter list of a member function.
  bool qualifies_member(size_t i) const {
    if (i == 0) return false;
    const Token& before = at(i - 1);
    const Token& after = at(i + 1);
    return (before.is(")") || (before.is("const") && i > 1 && at(i - 2).is(")"))) &&
           (after.is("{") || after.is(";") || after.is(":") || after.is("=") || after.is("->") || after.is("const") ||
            after.is("noexcept"));
  }

  // The same member function for another address space: one serves all here.
  size_t erase_member(size_t head, size_t i) {
    size_t end = i;
    while (end + 1 < tokens_.size() && !at(end).is("{") && !at(end).is(";")) ++end;
    if (at(end).is("{")) end = closing(end);
    for (size_t j = head; j <= end && j + 1 < tokens_.size(); ++j) tokens_[j].erase();
    return end;
  }

  bool is_record(size_t begin, size_t end) const {
    size_t i = begin;
    if (at(i).is("template") && at(i + 1).is("<")) i = closing_angle(i + 1) + 1;
    bool record = false;
    for (; i < end; ++i) {
      if (at(i).is("struct") || at(i).is("class") || at(i).is("union") || at(i).is("enum")) record = true;
      if (at(i).is("(") && !attributes_.count(i)) {
        if (i > begin && (at(i - 1).is("alignas") || at(i - 1).is("__attribute__") || at(i - 1).is("decltype"))) {
          i = closing(i);
        } else {
          return false;
        }
      }
      if (at(i).is("=")) return false;
    }
    return record;
  }

  Scope opened(size_t begin, size_t end) const {
    for (size_t i = begin; i < end; ++i) {
      if (at(i).is("namespace") || (at(i).is("extern") && i + 2 == end)) return Scope::space;
      if (at(i).is("=")) break;
    }
    if (is_record(begin, end)) return Scope::record;
    return is_kernel(begin, end) ? Scope::kernel : Scope::function;
  }

  bool is_kernel(size_t begin, size_t end) const {
    if (find_attribute(begin, end, "kernel")) return true;
    const size_t open = parameters(begin, end);
    for (size_t i = begin; i < open; ++i) {
      if (at(i).is("kernel") && !at(i).replaced) return true;
    }
    return false;
  }

  // The `(` that opens the parameters of the function declared from `begin`, or `end`.
  size_t parameters(size_t begin, size_t end) const {
    for (size_t i = begin; i < end; ++i) {
      if (attributes_.count(i)) {
        i = closing(i);
      } else if (at(i).is("decltype") || at(i).is("__attribute__") || at(i).is("alignas")) {
        i = closing(i + 1);
      } else if (at(i).is("<")) {
        i = closing_angle(i);
      } else if (at(i).is("(")) {
        return i;
      }
    }
    return end;
  }

  std::string host_name(size_t begin, size_t end) const {
    const FoundAttribute* a = find_attribute(begin, end, "host_name");
    if (!a) return "";
    std::string name;
    bool inside = false;
    for (char c : a->arguments) {  // string literals side by side
      if (c == '"') {
        inside = !inside;
      } else if (inside) {
        name += c;
      }
    }
    return name;
  }

  void mark_kernel(size_t begin, size_t end) {
    for (size_t i = begin; i < end; ++i) {
      if (at(i).is("kernel") && at(i).is_identifier()) {
        tokens_[i].replace("MSL_NOTE(\"msl:kernel\") __attribute__((internal_linkage))");
        return;
      }
    }
  }

  // Behind the parameters, which open at `open`, an attribute would be one of the function's type. MSL has none.
  void attributes_of_the_type(size_t open, size_t end) {
    for (auto it = attributes_.lower_bound(closing(open)); it != attributes_.end() && it->first < end; ++it) {
      for (const FoundAttribute& a : it->second) {
        error(a.token, "'" + a.name + "' attribute cannot be applied to types");
      }
    }
  }

  // The head of the definition of a function that is no kernel.
  void function(size_t begin, size_t end) {
    const size_t name = parameters(begin, end) - 1;
    if (at(name).is("main")) error(name, "non-qualified function cannot be called 'main'");
    const FoundAttribute* host_name = find_attribute(begin, end, "host_name");
    if (host_name) error(host_name->token, "'host_name' attribute only applies to kernel functions");
  }

  // The head of a kernel's definition. None for a template: its instantiations count.
  std::optional<KernelText> kernel(size_t begin, size_t end) {
    const size_t open = parameters(begin, end);
    const std::string name = at(open - 1).text;
    const size_t type = open >= 2 ? open - 2 : begin;
    attributes_of_the_type(open, end);
    if (!at(type).is("void")) error(open - 1, "kernel '" + name + "' must have void return type");
    mark_kernel(begin, end);
    if (at(begin).is("template")) return std::nullopt;
    const std::string host = host_name(begin, end);
    return KernelText{host.empty() ? name : host, "&" + name};
  }

  // A declaration that ends in a semicolon at namespace or class scope.
  void declaration(size_t begin, size_t end) {
    const FoundAttribute* constant = find_attribute(begin, end, "function_constant");
    if (constant && parameters(begin, end) == end) return function_constant(begin, *constant);
    if (at(begin).is("template") && !at(begin + 1).is("<")) {
      if (is_kernel(begin, end)) instantiation(begin, end);
    } else if (is_kernel(begin, end)) {
      attributes_of_the_type(parameters(begin, end), end);
      mark_kernel(begin, end);
    }
  }

  // template [[host_name("x")]] kernel void f<float>(...);   or   template ... decltype(f<float>) f<float>;
  void instantiation(size_t begin, size_t end) {
    for (size_t i = begin + 1; i < end; ++i) {
      if (attributes_.count(i)) {
        const size_t close = closing(i);
        for (size_t j = i; j <= close; ++j) tokens_[j].erase();
        i = close;
      } else if (at(i).is("kernel")) {
        tokens_[i].erase();
        break;
      }
    }
    size_t i = begin + 1;
    while (i < end && (at(i).replaced || at(i).is("inline") || at(i).is("static"))) ++i;
    if (at(i).is("decltype")) {
      i = closing(i + 1) + 1;
    } else if (at(i).is("void")) {
      ++i;
    } else {
      return error(i, "kernel must have void return type");
    }
    const size_t open = parameters(i, end);
    std::string expression = "&" + join(i, open);
    if (open < end) expression = "static_cast<void (*)" + parameter_types(open) + ">(" + expression + ")";
    const std::string host = host_name(begin, end);
    tokens_[begin].before += "MSL_INSTANTIATION(";
    tokens_[end].after += ")";
    if (!host.empty()) expose(end, {host, expression});
  }

  // As declared, for a template of this name may have others too.
  std::string parameter_types(size_t open) const {
    std::string text;
    for (size_t i = open, close = closing(open); i <= close; ++i) {
      if (attributes_.count(i)) {
        i = closing(i);
      } else {
        const Token& t = at(i);
        text += " " + t.before + (t.replaced ? t.replacement : t.text) + t.after;
      }
    }
    return text;
  }

  void expose(size_t after, KernelText kernel) {
    for (const KernelText& k : result_.kernels) {
      if (k.name == kernel.name) error(after, "redefinition of kernel '" + kernel.name + "'");
    }
    tokens_[after].after += " MSL_KERNEL(" + std::to_string(result_.kernels.size()) + ", " + kernel.expression + ")";
    result_.kernels.push_back(std::move(kernel));
  }

  // constant bool flag [[function_constant(3)]];
  void function_constant(size_t begin, const FoundAttribute& a) {
    size_t type = begin;
    for (; at(type).is("constant") || at(type).is("const") || at(type).is("static") || at(type).is("constexpr");
         ++type) {
      if (at(type).is("constexpr")) tokens_[type].erase();
    }
    size_t name = a.token;
    while (name > type && !at(name).is("[")) --name;
    name -= 2;  // the list opens with two brackets
    const std::string type_name = join(type, name);
    if (type_name.empty() || !at(name).is_identifier())
      return error(begin, "a function constant needs a type and a name");
    bool is_constant = false;
    for (size_t i = begin; i < name; ++i) is_constant = is_constant || at(i).is("constant");
    if (!is_constant) error(name, "function constants must be declared in the constant address space");
    uint32_t index = 0;
    try {
      index = static_cast<uint32_t>(std::stoul(a.arguments, nullptr, 0));
    } catch (const std::exception&) {
      return error(a.token, "attribute 'function_constant' takes an integer constant");
    }
    if (index > 65535) error(a.token, "function constant index must be between 0 and 65535");
    for (const FunctionConstant& c : result_.constants) {
      if (c.index == index) error(a.token, "function constant index " + std::to_string(index) + " is already used");
    }
    result_.constants.push_back({at(name).text, type_name, index, true});
    const std::string n = std::to_string(index);
    tokens_[a.token - 2].replace(" MSL_NOTE(\"msl:constant:" + n + "\") = msl_runtime::FunctionConstant<" + n +
                                 ">::make((" + type_name + "*)nullptr)");
  }

  void defined_constants() {
    for (size_t i = 0; i + 3 < tokens_.size(); ++i) {
      if (!at(i).is("is_function_constant_defined") || !at(i + 1).is("(")) continue;
      const size_t close = closing(i + 1);
      const std::string name = at(close - 1).text;
      auto c = std::find_if(result_.constants.begin(), result_.constants.end(),
                            [&](const FunctionConstant& c) { return c.name == name; });
      if (c == result_.constants.end()) {
        error(i, "'" + name + "' is not a function constant");
        continue;
      }
      c->required = false;
      for (size_t j = i; j <= close; ++j) tokens_[j].erase();
      tokens_[i].replace("(msl_runtime::ConstantValue<" + std::to_string(c->index) + ">::defined)");
    }
  }

  // threadgroup float tile[8][9], sum;   becomes references into the arena.
  void threadgroup_variable(size_t i, bool inside_kernel) {
    size_t end = i;
    bool initialised = false;
    std::vector<size_t> commas;
    size_t name = 0;
    for (size_t j = i + 1; j + 1 < tokens_.size(); ++j) {
      const Token& t = at(j);
      if (t.is(";")) {
        end = j;
        break;
      }
      if (t.is("<") && !name) {
        j = closing_angle(j);
      } else if (t.is("(") || t.is("[") || t.is("{")) {
        if (!name && t.is("[")) name = j - 1;
        j = closing(j);
      } else if (t.is("=")) {
        if (!name) name = j - 1;
        initialised = true;
      } else if (t.is(",")) {
        if (!name) name = j - 1;
        commas.push_back(j);
      } else if ((t.is("*") || t.is("&")) && !name) {
        return;  // a pointer or a reference
      }
    }
    if (end == i) return;
    if (!name) name = end - 1;
    if (!at(name).is_identifier() || name == i + 1) return error(i, "a threadgroup variable needs a type and a name");
    if (initialised) return error(name, "variable in threadgroup address space cannot have an initializer");
    if (!inside_kernel) {
      return error(name, "variable in threadgroup address space can only be declared in a kernel function");
    }
    const std::string type = join(i + 1, name);
    commas.push_back(end);
    std::string text;
    for (size_t declarator = name, k = 0; k < commas.size(); declarator = commas[k++] + 1) {
      const std::string id = std::to_string(threadgroup_variables_++);
      text += "typedef " + type + " msl_type_" + id + " " + join(declarator + 1, commas[k]) +
              "; threadgroup msl_type_" + id + "& " + at(declarator).text + " = msl_runtime::threadgroup_variable<" +
              id + ", threadgroup msl_type_" + id + ">();";
    }
    if (threadgroup_variables_ > 256) error(i, "too many threadgroup variables");
    for (size_t j = i; j <= end; ++j) tokens_[j].erase();
    tokens_[i].replace(text);
  }

  // --- `c ? a : b` with vectors of different address spaces: each operand as a value

  void unify_operands(const std::set<size_t>& questions) {
    for (const size_t question : questions) {
      size_t colon = question + 1;
      for (int nested = 0; colon + 1 < tokens_.size(); ++colon) {
        if (at(colon).is("(") || at(colon).is("[") || at(colon).is("{")) {
          colon = closing(colon);
          continue;
        }
        if (at(colon).is("?")) ++nested;
        if (at(colon).is(":") && nested-- == 0) break;
      }
      size_t end = colon + 1;
      for (int nested = 0; end + 1 < tokens_.size(); ++end) {
        if (at(end).is("<") && at(end - 1).is_identifier()) end = closing_angle(end);
        if (at(end).is("(") || at(end).is("[") || at(end).is("{")) {
          end = closing(end);
          continue;
        }
        if (at(end).is("?")) ++nested;
        if (at(end).is(":") && nested-- == 0) break;
        if (at(end).is(",") || at(end).is(";") || at(end).is(")") || at(end).is("]") || at(end).is("}")) break;
      }
      tokens_[question].after += " msl_runtime::Value(), (";
      tokens_[colon].before += ") ";
      tokens_[colon].after += " (msl_runtime::Value(), (";
      tokens_[end].before += "))";
    }
  }

  // --- output

  void write() {
    std::string& text = result_.text;
    int line = 0, source_line = -1, column = 1;
    auto put = [&](const std::string& s) {
      text += s;
      column += static_cast<int>(s.size());
    };
    for (size_t i = 0; i + 1 < tokens_.size(); ++i) {
      const Token& t = tokens_[i];
      if (t.source_line != source_line) {
        if (!text.empty()) text += '\n';
        if (t.line != line + 1 || text.empty()) text += "#line " + std::to_string(t.line) + " \"program_source\"\n";
        line = t.line;
        source_line = t.source_line;
        column = 1;
      }
      put(t.space);
      put(t.before);
      map_.add(t.line, column, source_columns_[i]);
      if (!(t.replaced && t.replacement.empty())) result_.places[{t.line, column}] = i;
      put(t.replaced ? t.replacement : t.text);
      put(t.after);
    }
    text += '\n';
  }
};

}  // namespace

ReadResult read(const std::string& preprocessed, const std::string& source, SourceMap& map, bool includes,
                const std::set<size_t>& unify) {
  return Reader(lex(preprocessed), source, map).run(includes, unify);
}

std::set<size_t> conditionals(const ReadResult& read, const std::vector<Place>& places) {
  const std::vector<Token>& tokens = read.tokens;
  std::set<size_t> found;
  for (const Place& place : places) {
    auto next = read.places.upper_bound(place);
    if (next == read.places.begin()) continue;
    size_t i = std::prev(next)->second;
    int brackets = 0, colons = 0;  // to be opened, and to be asked, on the way to the left
    if (!tokens[i].is("?") && i > 0) --i;
    for (; i > 0; --i) {
      const Token& t = tokens[i];
      if (t.is(")") || t.is("]") || t.is("}")) ++brackets;
      if ((t.is("(") || t.is("[") || t.is("{")) && brackets-- == 0) break;
      if (brackets == 0 && t.is(";")) break;
      if (brackets == 0 && t.is(":")) ++colons;
      if (brackets == 0 && t.is("?") && --colons <= 0) break;
    }
    if (tokens[i].is("?")) found.insert(i);
  }
  return found;
}

std::vector<Place> incompatible_vectors(const std::string& output) {
  static const std::regex pattern(
      R"(program_source:(\d+):(\d+): error: incompatible operand types \(.*(vec<|bfloat).*(vec<|bfloat).*)");
  std::vector<Place> places;
  std::istringstream stream(output);
  for (std::string line; std::getline(stream, line);) {
    std::smatch m;
    if (std::regex_match(line, m, pattern)) places.emplace_back(std::stoi(m[1]), std::stoi(m[2]));
  }
  return places;
}

}  // namespace mps_simulator::msl
