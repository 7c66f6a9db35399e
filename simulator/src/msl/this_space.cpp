#include "this_space.h"

#include <algorithm>

#include "diagnostics.h"

namespace mps_simulator::msl {
namespace {

bool is_indirect(const std::string& type) { return type.find_first_of("*&") != std::string::npos; }

bool says_thread(const std::string& type) { return type.find("thread ") != std::string::npos; }

// "device" of "const __global S".
std::string space_in(const std::string& type) {
  for (const auto& [sign, space] :
       {std::pair("__global_host", "constant"), {"__global", "device"}, {"__local", "threadgroup"}}) {
    if (type.find(sign) != std::string::npos) return space;
  }
  return "thread";
}

// "S" of "S<float>[2]".
std::string class_in(const std::string& type) {
  const std::string name = type.substr(0, type.find_first_of("<["));
  return name.substr(name.find_last_of(" :") + 1);
}

std::string without_noexcept(std::string type) {
  const size_t at = type.find(" noexcept");
  return at == std::string::npos ? type : type.substr(0, at);
}

}  // namespace

void ThisSpace::visit(const Node& node) {
  if (node.is_function() && node.kind != "FunctionDecl") {
    Method& m = methods_[dump_.canonical(node.address)];
    m.type = node.quoted();
    m.everywhere = node.has(" implicit ") || !node.in_source();
    if (node.kind == "CXXConstructorDecl") {
      const std::string key = class_in(node.declared_name()) + " " + without_noexcept(m.type);
      constructors_[key].push_back(dump_.canonical(node.address));
    }
  } else if (node.kind == "FieldDecl" && node.quoted().find('&') != std::string::npos) {
    reference_members_.insert(node.address);
  } else if (node.kind == "AnnotateAttr" && !stack_.empty()) {
    const size_t at = node.rest.find("\"msl:this:");
    if (at == std::string::npos) return;
    const size_t begin = at + 10;
    methods_[dump_.canonical(stack_.back().address)].spaces.push_back(
        node.rest.substr(begin, node.rest.find('"', begin) - begin));
  } else if (node.kind == "CXXThisExpr") {
    for (auto it = stack_.rbegin(); it != stack_.rend(); ++it) {
      if (!it->is_function()) continue;
      if (it->declared_name() != "operator()") used(node, {node.where(), dump_.canonical(it->address)});
      return;
    }
  } else if (node.kind == "CXXConstructExpr") {
    member_construction(node);
  }
}

void ThisSpace::call(const Location& where, const std::string& function, const std::string& object) {
  calls_.push_back({where, dump_.canonical(function), object});
}

// A member of class type, in a constructor, is constructed in the address space of `this`.
void ThisSpace::member_construction(const Node& node) {
  if (stack_.size() < 2 || stack_.back().kind != "CXXCtorInitializer") return;
  const std::string type = node.quoted(0);
  const std::string signature = node.quoted(type == node.canonical_type() ? 1 : 2);
  constructions_.push_back({stack_[stack_.size() - 2].where(), dump_.canonical(stack_[stack_.size() - 2].address),
                            class_in(type), without_noexcept(signature)});
}

// Follows `this` outwards, until it is read, or bound to something.
void ThisSpace::used(const Node& object, Use use) {
  bool pointer = true;  // to the object or a member; otherwise the thing itself
  for (auto it = stack_.rbegin(); it != stack_.rend(); ++it) {
    const Node& n = *it;
    const std::string& kind = n.kind;
    if (n.in_source()) use.where = n.begin.in_source ? n.begin : n.where();
    if (kind == "ParenExpr" || kind == "ConditionalOperator" || kind == "ExprWithCleanups") continue;
    if (kind == "MemberExpr") {
      const std::string member = n.referred();
      if (n.has("<bound member function type>")) {
        use.callee = dump_.canonical(member);
        use.is_object = true;
        break;
      }
      if (reference_members_.count(member)) return;
      pointer = false;
    } else if (kind == "ImplicitCastExpr") {
      if (n.has("<LValueToRValue>")) return;
      if (n.has("<ArrayToPointerDecay>")) pointer = true;
    } else if (kind == "ArraySubscriptExpr") {
      pointer = false;
    } else if (kind == "UnaryOperator") {
      if (n.has("'&'")) {
        pointer = true;
      } else if (n.has("'*'")) {
        pointer = false;
      } else {
        return;
      }
    } else if (kind == "BinaryOperator") {
      if (!pointer) return;
      if (n.has("'='")) {
        use.type = n.quoted();
        break;
      }
      if (!is_indirect(n.quoted())) return;
    } else if (kind == "CStyleCastExpr" || kind == "CXXReinterpretCastExpr" || kind == "CXXStaticCastExpr") {
      use.type = n.quoted();
      use.explicit_cast = true;
      break;
    } else if (kind == "VarDecl") {
      use.type = n.quoted();
      break;
    } else if (kind == "CXXCtorInitializer") {
      use.type = n.quoted(1);
      break;
    } else if (kind == "ReturnStmt") {
      const Method& m = methods_[use.in];
      use.type = m.type.substr(0, m.type.find('('));
      break;
    } else if (kind == "CXXConstructExpr" || kind == "CXXTemporaryObjectExpr") {
      const std::string type = n.quoted(0);
      const auto parameters = parameters_of(n.quoted(type == n.canonical_type() ? 1 : 2));
      // Metal has copies of objects in every address space.
      if (n.children == 0 || n.children > parameters.size()) return;
      use.type = parameters[n.children - 1];
      if (!says_thread(use.type)) return;
      break;
    } else if (kind == "CallExpr" || kind == "CXXMemberCallExpr" || kind == "CXXOperatorCallExpr") {
      const auto callee = methods_.find(dump_.canonical(n.callee));
      if (n.children < 2) return;
      size_t parameter = n.children - 2;
      if (n.calls_method && parameter-- == 0) {
        if (callee == methods_.end()) {  // of a class of Metal's: for all address spaces, as what it returns
          if (!n.has("lvalue")) return;
          pointer = false;
          continue;
        }
        use.callee = callee->first;
        use.is_object = true;
        break;
      }
      if (!n.callee_type.empty()) {
        const auto parameters = parameters_of(n.callee_type);
        if (parameter >= parameters.size()) return;
        use.type = parameters[parameter];
      } else {
        use.callee = dump_.canonical(n.callee);
        use.parameter = parameter;
      }
      break;
    } else {
      return;
    }
  }
  if (!use.type.empty() || !use.callee.empty()) uses_.push_back(std::move(use));
}

std::string ThisSpace::space_of(const Method& method) const {
  return !method.spaces.empty() ? method.spaces.front() : generic_ ? "generic" : "thread";
}

bool ThisSpace::serves(const Method& method, const std::string& space) const {
  if (method.spaces.empty() && method.everywhere) return true;
  if (method.spaces.empty()) return generic_ ? space != "constant" : space == "thread";
  return std::find(method.spaces.begin(), method.spaces.end(), space) != method.spaces.end();
}

void ThisSpace::report(const Error& error) const {
  const auto find = [&](const std::string& address) -> const Method* {
    const auto found = methods_.find(address);
    return found == methods_.end() ? nullptr : &found->second;
  };
  for (const Call& c : calls_) {
    const Method* m = find(c.function);
    if (!m || serves(*m, space_in(c.object))) continue;
    error(c.where, "cannot initialize object parameter of a member function for objects in " +
                       (m->spaces.empty() ? "thread" : m->spaces.front()) + " memory with an expression of type '" +
                       msl_names(c.object.substr(0, c.object.find(" *"))) + "'");
  }
  for (const Use& u : uses_) {
    const Method* in = find(u.in);
    if (!in || in->everywhere) continue;
    const std::string space = space_of(*in);
    if (u.is_object) {
      const Method* callee = find(u.callee);
      if (!callee || serves(*callee, space)) continue;
      error(u.where, "cannot initialize object parameter of a member function for objects in " +
                         (callee->spaces.empty() ? "thread" : callee->spaces.front()) + " memory: 'this' is " + space);
      continue;
    }
    std::string type = u.type;
    if (type.empty()) {
      const Method* callee = find(u.callee);
      const auto parameters = callee ? parameters_of(callee->type) : std::vector<std::string>();
      if (u.parameter >= parameters.size()) continue;
      type = parameters[u.parameter];
    }
    if (space == "thread" || !is_indirect(type)) continue;
    if (space == "generic" && (!says_thread(type) || u.explicit_cast)) continue;
    if (generic_ && space != "constant" && !says_thread(type)) continue;
    error(u.where, "binding '" + msl_names(type) + "' to a member changes address space: 'this' is " + space);
  }
  for (const Construction& c : constructions_) {
    const Method* in = find(c.in);
    const auto constructors = constructors_.find(c.type + " " + c.signature);
    if (!in || in->everywhere || space_of(*in) != "generic" || constructors == constructors_.end()) continue;
    const bool any = std::any_of(constructors->second.begin(), constructors->second.end(),
                                 [&](const std::string& address) { return serves(*find(address), "generic"); });
    if (!any) {
      error(c.where, "no matching constructor for initialization of a member of type '" + c.type +
                         "': 'this' is generic, and its constructor is for thread memory");
    }
  }
}

}  // namespace mps_simulator::msl
