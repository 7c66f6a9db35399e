#include "ast.h"

#include <algorithm>
#include <cctype>
#include <map>
#include <regex>
#include <set>
#include <string_view>

#include "dump.h"
#include "signature.h"
#include "simd_functions.h"
#include "this_space.h"

namespace mps_simulator::msl {
namespace {

class TreeReader {
 public:
  TreeReader(const SourceMap& map, unsigned language_version)
      : map_(map), language_version_(language_version), this_space_(dump_, stack_, language_version) {}

  SyntaxTree run(const std::string& dump) {
    for (size_t begin = 0; begin < dump.size();) {
      size_t end = dump.find('\n', begin);
      if (end == std::string::npos) end = dump.size();
      Node node;
      if (dump_.parse(std::string_view(dump).substr(begin, end - begin), node)) visit(std::move(node));
      begin = end + 1;
    }
    finish_pending();
    for (const auto& [function, parameter] : parameters_) {
      tree_.declarations[parameter].of_kernel = functions_[function].kernel;
    }
    this_space_.report([&](const Location& where, const std::string& message) { error(where, message); });
    kernels();
    recursion();
    for (auto& [place, message] : found_) {
      tree_.errors.push_back({place.first, place.second, "error", message});
    }
    return std::move(tree_);
  }

 private:
  struct Function {
    std::string name;
    Location where;
    bool kernel = false, implicit = false;
    std::string type;
    uint32_t max_total_threads = 0;
    std::vector<KernelParameter> parameters;
    std::vector<WrittenParameter> written;
    std::set<std::string> references;
  };

  const SourceMap& map_;
  const unsigned language_version_;
  SyntaxTree tree_;
  std::vector<std::pair<std::string, size_t>> parameters_;  // of which function, and where among the declarations
  DumpReader dump_;
  std::vector<Node> stack_;
  ThisSpace this_space_;
  std::map<std::string, Function> functions_;  // by address; variables too, for what they refer to
  std::map<std::string, std::string> names_;   // of what is referred to, by address
  std::set<std::string> constructors_;
  std::map<std::string, uint32_t> constants_;                // function constants by address
  std::map<unsigned, std::string> kernel_addresses_;         // by id
  std::map<std::pair<int, int>, std::string> found_;         // errors by place: one each
  std::vector<std::pair<Location, std::string>> mentioned_;  // functions by address, in functions
  Node pending_;                                             // a cast, whose operand is the next node
  bool has_pending_ = false;

  std::string canonical(const std::string& address) const { return dump_.canonical(address); }

  void error(const Location& where, const std::string& message) {
    found_.emplace(std::pair(where.line, map_.source_column(where.line, where.column)), message);
  }

  const Node* parent(size_t generations = 1) const {
    return stack_.size() >= generations ? &stack_[stack_.size() - generations] : nullptr;
  }

  // The innermost function or variable around the present node whose references are recorded.
  Function* enclosing() {
    for (auto it = stack_.rbegin(); it != stack_.rend(); ++it) {
      if (it->is_function()) return &functions_[canonical(it->address)];
      if (it->kind == "VarDecl" && program_scope(*it)) return &functions_[canonical(it->address)];
    }
    return nullptr;
  }

  bool program_scope(const Node& variable) const {
    for (const Node& n : stack_) {
      if (n.depth + 1 == variable.depth) {
        return n.kind == "TranslationUnitDecl" || n.kind == "NamespaceDecl" || n.kind == "LinkageSpecDecl" ||
               n.kind == "CXXRecordDecl" || n.kind == "ClassTemplateSpecializationDecl" ||
               n.kind == "VarTemplateDecl" || n.kind == "ClassTemplatePartialSpecializationDecl";
      }
    }
    return false;
  }

  void visit(Node node) {
    while (!stack_.empty() && stack_.back().depth >= node.depth) stack_.pop_back();
    if (has_pending_) {
      if (node.depth == pending_.depth + 1) {
        judge(pending_, &node);
        has_pending_ = false;
      } else if (node.depth <= pending_.depth) {
        finish_pending();
      }
    }
    if (!stack_.empty()) ++stack_.back().children;
    called(node);
    this_space_.visit(node);
    vector_component(node);
    if (node.in_source()) declaration(node);
    if (node.is_function()) {
      function(node);
    } else if (node.kind == "ParmVarDecl") {
      parameter(node);
    } else if (node.kind == "AnnotateAttr") {
      annotation(node);
    } else if (node.kind == "-value:" || node.kind == "value:") {
      value(node);
    } else if (node.kind == "VarDecl") {
      variable(node);
    } else if (node.kind == "DeclRefExpr" || node.kind == "MemberExpr") {
      reference(node);
    } else if (node.in_source()) {
      statement(node);
    }
    if (node.in_source() && node.has("<AddressSpaceConversion>")) {
      finish_pending();
      pending_ = node;
      has_pending_ = true;
    }
    stack_.push_back(std::move(node));
  }

  void finish_pending() {
    if (has_pending_) judge(pending_, nullptr);
    has_pending_ = false;
  }

  // --- conversions

  void judge(const Node& cast, const Node* operand) {
    const std::string to = cast.canonical_type();
    const std::string from = operand ? operand->canonical_type() : "";
    const bool generic = language_version_ >= 410 && cast.quoted().find("thread ") == std::string::npos &&
                         from.find("__global_host") == std::string::npos;
    if (cast.kind == "ImplicitCastExpr" && generic) return;
    if (cast.kind == "ImplicitCastExpr" && copies_object(cast, operand)) return;
    const Node* whole = parent_of(cast);
    if (whole && whole->kind == "ConditionalOperator" && is_builtin_in_metal(to)) {
      tree_.unlike_operands.emplace_back(cast.begin.line, cast.begin.column);
      return;
    }
    error(cast.where(), std::string(cast.kind == "ImplicitCastExpr" ? "converting" : "casting") + " '" +
                            msl_names(from) + "' to type '" + msl_names(to) + "' changes address space of " +
                            (cast.has("lvalue") ? "the object referred to" : "pointer"));
  }

  // What the cast is an operand of, whether as itself or as its base class.
  const Node* parent_of(const Node& cast) const {
    const Node* p = nullptr;
    for (const Node& n : stack_) {
      const bool to_base = n.kind == "ImplicitCastExpr" && n.has("DerivedToBase");
      if (n.depth < cast.depth && !to_base) p = &n;
    }
    return p;
  }

  // The class that a type is, without qualifiers and arguments.
  static std::string class_of(const std::string& type) {
    const std::string name = type.substr(0, type.find('<'));
    return name.substr(name.rfind(' ') + 1);
  }

  static bool is_builtin_in_metal(const std::string& type) {
    const std::string name = class_of(type);
    return name == "msl_types::vec" || name == "msl_types::packed_vec" || name == "msl_types::bfloat";
  }

  // A struct that is copied or assigned as a whole, or whose member function is called: Metal has those for every
  // address space.
  bool copies_object(const Node& cast, const Node* operand) {
    const Node* p = parent_of(cast);
    if (!p) return false;
    const std::string object = operand ? operand->canonical_type() : "";
    if (p->kind == "MemberExpr") {
      this_space_.call(cast.where(), p->referred(), object);
      return true;
    }
    if (p->kind == "CXXOperatorCallExpr") {
      if (p->calls_method && p->children == 2) {
        this_space_.call(cast.where(), p->callee, object);
        return true;
      }
      // Of Metal's own classes, and assignments that the compiler makes up.
      const auto f = functions_.find(canonical(p->callee));
      return f == functions_.end() || f->second.implicit || f->second.where.line == 0;
    }
    if (p->kind != "CXXConstructExpr" && p->kind != "CXXTemporaryObjectExpr") return false;
    const std::string type = p->quoted(0), canonical = p->canonical_type();
    const std::string signature = p->quoted(type == canonical ? 1 : 2);
    // "void (const T &)" or "void (T &&)", where T may be printed with less qualification than the type.
    for (const auto& [before, after] : {std::pair("void (const ", " &)"), {"void (", " &&)"}}) {
      if (signature.rfind(before, 0) != 0) continue;
      const size_t begin = std::string_view(before).size(), end = signature.find(after);
      if (end == std::string::npos || end < begin) continue;
      const std::string t = signature.substr(begin, end - begin);
      for (const std::string& whole : {type, canonical}) {
        if (whole.size() >= t.size() && whole.compare(whole.size() - t.size(), t.size(), t) == 0) return true;
      }
    }
    return false;
  }

  // --- statements

  void statement(const Node& node) {
    if (node.kind == "LambdaExpr" && language_version_ < 320)
      error(node.where(), "lambda expressions are not supported in Metal");
    if (node.kind == "LabelStmt") error(node.where(), "labeled statements are not supported in Metal");
    if (node.kind == "GotoStmt") error(node.where(), "goto statements are not supported in Metal");
  }

  // What a call calls is its first child.
  void called(const Node& node) {
    if (node.kind == "DeclRefExpr" && node.in_source() && node.has(" Function 0x")) {
      const Function* f = enclosing();
      if (f && !f->type.empty()) mentioned_.emplace_back(node.where(), canonical(node.referred()));
    }
    if (node.kind != "DeclRefExpr" || stack_.size() < 2) return;
    Node& call = stack_[stack_.size() - 2];
    if (call.children != 1 || !stack_.back().has("<FunctionToPointerDecay>")) return;
    call.callee = node.referred();
    call.callee_type = node.quoted();
    call.calls_method = node.has(" CXXMethod 0x");
  }

  void reference(const Node& node) {
    if (Function* f = enclosing()) {
      for (size_t at = 0; (at = node.rest.find(" 0x", at)) != std::string::npos;) {
        const size_t end = std::min(node.rest.find(' ', at + 1), node.rest.size());
        const std::string address = node.rest.substr(at + 1, end - at - 1);
        f->references.insert(address);
        // The functions of the precompiled header are not in the dump, but for what refers to them.
        if (node.rest.compare(end, 2, " '") == 0) {
          names_.emplace(address, node.rest.substr(end + 2, node.rest.find('\'', end + 2) - end - 2));
        }
        at = end;
      }
    }
  }

  // MSL's vectors have no addressable components. `v.x` is members (one of an anonymous union) of the vector.
  void vector_component(const Node& node) {
    auto it = stack_.rbegin();
    while (it != stack_.rend() && it->kind == "MemberExpr") ++it;
    if (it == stack_.rbegin() || it == stack_.rend() || !it->in_source()) return;
    if (it->kind != "UnaryOperator" && it->kind != "VarDecl" && it->kind != "CallExpr") return;
    const std::string type = node.canonical_type();
    if (class_of(type) != "msl_types::vec" || type.back() != '>') return;
    if (it->kind == "UnaryOperator") {
      if (it->has("'&'")) error(it->where(), "address of vector element requested");
      return;
    }
    const auto parameters = it->kind == "CallExpr" ? parameters_of(it->callee_type) : std::vector<std::string>();
    const size_t parameter = it->children - 2;
    const std::string target = it->kind == "VarDecl"           ? it->quoted()
                               : parameter < parameters.size() ? parameters[parameter]
                                                               : "";
    if (target.find('&') != std::string::npos && target.find("const ") == std::string::npos) {
      error(std::prev(it)->where(), "non-const reference cannot bind to vector element");
    }
  }

  // --- declarations

  void declaration(const Node& node) {
    using Kind = Declaration::Kind;
    static const std::map<std::string, Kind> kinds = {{"VarDecl", Kind::variable},
                                                      {"FieldDecl", Kind::variable},
                                                      {"DecompositionDecl", Kind::variable},
                                                      {"ParmVarDecl", Kind::parameter},
                                                      {"FunctionDecl", Kind::function},
                                                      {"CXXMethodDecl", Kind::function},
                                                      {"TypedefDecl", Kind::alias},
                                                      {"TypeAliasDecl", Kind::alias},
                                                      {"CStyleCastExpr", Kind::cast},
                                                      {"CXXReinterpretCastExpr", Kind::cast},
                                                      {"CXXStaticCastExpr", Kind::cast},
                                                      {"CXXConstCastExpr", Kind::cast},
                                                      {"TemplateTypeParmDecl", Kind::type_parameter}};
    const auto kind = kinds.find(node.kind);
    if (kind == kinds.end() || instantiated(node)) return;
    const std::string type = node.quoted();
    const std::string before = node.rest.substr(0, node.rest.find(" '"));
    if (before.find(" implicit") != std::string::npos) return;
    const bool relevant = kind->second == Kind::type_parameter || kind->second == Kind::alias ||
                          type.find('*') != std::string::npos || type.find('&') != std::string::npos;
    if (!relevant) return;
    const bool in_template = std::any_of(stack_.begin(), stack_.end(), [](const Node& n) {
      return n.kind == "FunctionTemplateDecl" || n.kind == "ClassTemplateDecl" ||
             n.kind == "ClassTemplatePartialSpecializationDecl";
    });
    const Location& where = kind->second == Kind::cast ? node.begin : node.name;
    if (kind->second == Kind::parameter && parent() && parent()->is_function()) {
      parameters_.emplace_back(canonical(parent()->address), tree_.declarations.size());
    }
    tree_.declarations.push_back(
        {kind->second, where.line, where.column, before.substr(before.rfind(' ') + 1), type, in_template});
  }

  // Part of what clang made of a template.
  bool instantiated(const Node& node) const {
    const auto made = [](const Node& n) {
      return n.has(" implicit_instantiation") || n.has(" explicit_instantiation") ||
             (n.kind == "ClassTemplateSpecializationDecl" && !n.has(" explicit_specialization"));
    };
    return made(node) || std::any_of(stack_.begin(), stack_.end(), made);
  }

  void function(const Node& node) {
    Function& f = functions_[canonical(node.address)];
    if (node.kind == "CXXConstructorDecl") constructors_.insert(canonical(node.address));
    if (f.name.empty()) {
      const size_t quote = node.rest.find(" '");
      const std::string before = node.rest.substr(0, quote);
      f.name = before.substr(before.rfind(' ') + 1);
      f.where = node.in_source() ? node.where() : Location();
      f.implicit = before.find(" implicit ") != std::string::npos;
      f.type = node.quoted();
    }
    if (!f.parameters.empty()) {  // a definition after a declaration
      f.parameters.clear();
      f.written.clear();
    }
  }

  void parameter(const Node& node) {
    const Node* p = parent();
    if (!p || !p->is_function()) return;
    Function& f = functions_[canonical(p->address)];
    KernelParameter k;
    k.type = node.canonical_type();
    // What is said of the parameter itself is not part of the kernel's type.
    static const std::regex own("[ ]*(const|volatile|__restrict)$");
    while (std::regex_search(k.type, own)) k.type = std::regex_replace(k.type, own, "");
    const size_t quote = node.rest.find(" '");
    const std::string before = node.rest.substr(0, quote);
    const std::string last = before.substr(before.rfind(' ') + 1);
    k.used = before.find(" used") != std::string::npos;
    k.name = last == "used" || last == "referenced" || last == "implicit" ? "" : last;
    f.parameters.push_back(k);
    f.written.push_back({node.where(), node.quoted(), node.has(" cinit")});
  }

  void annotation(const Node& node) {
    const size_t open = node.rest.find("\"msl:");
    if (open == std::string::npos) return;
    const size_t close = node.rest.find('"', open + 1);
    const std::string text = node.rest.substr(open + 5, close - open - 5);
    const Node* p = parent();
    if (!p) return;
    if (p->kind == "VarDecl") {
      if (text.rfind("constant:", 0) == 0) {
        constants_[canonical(p->address)] = std::stoul(text.substr(9));
        if (!is_scalar_or_vector(p->canonical_type())) {
          error(p->where(), "a function constant must be a scalar or a vector");
        }
      }
    } else if (p->is_function()) {
      if (text == "kernel") functions_[canonical(p->address)].kernel = true;
    } else if (p->kind == "ParmVarDecl" && parent(2) && parent(2)->is_function()) {
      KernelParameter& k = functions_[canonical(parent(2)->address)].parameters.back();
      if (text.rfind("function_constant:", 0) == 0) {
        k.function_constant = text.substr(18);
      } else {
        k.attribute = text;
      }
    }
  }

  static bool is_scalar_or_vector(std::string type) {
    type = class_of(type.substr(type.find("__global_host ") + 14));
    static const std::set<std::string> names = {"bool",  "char",     "short",          "int",  "long",
                                                "float", "_Float16", "msl_types::vec", "half", "msl_types::bfloat"};
    return names.count(type) != 0;
  }

  // The value of an attribute's argument.
  void value(const Node& node) {
    const Node* annotation = parent(2);
    if (!annotation || annotation->kind != "AnnotateAttr" || node.rest.rfind(" Int ", 0) != 0) return;
    const int n = std::atoi(node.rest.c_str() + 5);
    const Node* owner = parent(3);
    if (owner && owner->is_function()) {
      if (annotation->has("msl:max_threads")) functions_[canonical(owner->address)].max_total_threads = n;
    } else if (owner && owner->kind == "ParmVarDecl" && parent(4) && parent(4)->is_function()) {
      Function& f = functions_[canonical(parent(4)->address)];
      f.parameters.back().index = n;
      f.written.back().negative = n < 0;
    }
  }

  void variable(const Node& node) {
    if (!node.in_source()) return;
    if (!program_scope(node)) {
      const std::string before = node.rest.substr(node.rest.rfind('\''));
      if (before.find(" static") != std::string::npos && !node.has("__global_host")) {
        error(node.where(), "static local variables are not supported in Metal");
      }
      return;
    }
    const size_t kernel = node.rest.find("msl_kernel_");
    if (kernel != std::string::npos) {
      kernel_addresses_[std::atoi(node.rest.c_str() + kernel + 11)] = node.address;
      return;
    }
    std::string name = node.rest.substr(0, node.rest.find(" '"));
    functions_[canonical(node.address)].name = name.substr(name.rfind(' ') + 1);
    if (!node.has("__global_host")) error(node.where(), "program scope variable must reside in constant address space");
  }

  // --- what is known at the end

  void kernels() {
    for (const auto& [where, function] : mentioned_) {
      if (functions_[function].kernel) error(where, "a kernel function cannot be called in a shader");
    }
    for (const auto& [address, f] : functions_) {
      if (f.kernel && f.type.find("...)") != std::string::npos) {
        error(f.where, "invalid prototype, variadic arguments are not allowed in Metal qualified functions");
      }
    }
    std::map<std::string, bool> is_kernel;
    for (const auto& [id, address] : kernel_addresses_) {
      const Function& holder = functions_[canonical(address)];
      for (const std::string& r : holder.references) {
        auto f = functions_.find(canonical(r));
        if (f == functions_.end() || !f->second.kernel) continue;
        Kernel k;
        k.id = id;
        k.max_total_threads = f->second.max_total_threads;
        k.parameters = f->second.parameters;
        check_signature(k, f->second.written, [&](const Location& where, const std::string& m) { error(where, m); });
        std::set<std::string> seen;
        std::set<uint32_t> constants;
        reach(canonical(r), seen, constants);
        k.simd_functions = simd_functions(seen);
        for (const std::string& c : constructors_) reach(c, seen, constants);  // the dump does not say which are called
        for (const KernelParameter& p : k.parameters) {
          for (const auto& [variable, index] : constants_) {
            if (!p.function_constant.empty() && functions_[variable].name == p.function_constant)
              constants.insert(index);
          }
        }
        k.constants.assign(constants.begin(), constants.end());
        tree_.kernels.push_back(k);
        break;
      }
    }
  }

  std::vector<std::string> simd_functions(const std::set<std::string>& reached) const {
    std::set<std::string> names;
    for (const std::string& address : reached) {
      auto f = functions_.find(address);
      const bool of_the_library = f == functions_.end() || f->second.where.line == 0;
      auto name = names_.find(address);
      if (of_the_library && name != names_.end() && family_of(name->second) != 0) names.insert(name->second);
    }
    return {names.begin(), names.end()};
  }

  void reach(const std::string& address, std::set<std::string>& seen, std::set<uint32_t>& constants) {
    if (!seen.insert(address).second) return;
    if (auto c = constants_.find(address); c != constants_.end()) constants.insert(c->second);
    auto f = functions_.find(address);
    if (f == functions_.end()) return;
    for (const std::string& r : f->second.references) reach(canonical(r), seen, constants);
  }

  // A function that calls itself. Longer circles are left alone: torch's own headers, which compile on a Mac, have one
  // (gamma and log_gamma).
  void recursion() {
    for (const auto& [address, f] : functions_) {
      for (const std::string& r : f.references) {
        if (f.where.line == 0 || canonical(r) != address) continue;
        error(f.where, "recursive call of '" + f.name + "' is not supported in Metal");
      }
    }
  }
};

}  // namespace

SyntaxTree read_syntax_tree(const std::string& dump, const SourceMap& map, unsigned language_version) {
  return TreeReader(map, language_version).run(dump);
}

}  // namespace mps_simulator::msl
