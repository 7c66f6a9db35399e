#include "signature.h"

#include <map>
#include <set>

#include "attributes.h"
#include "diagnostics.h"

namespace mps_simulator::msl {
namespace {

// 1 to 3 for uint and ushort and vectors of them; otherwise 0.
int unsigned_components(const std::string& type) {
  if (type == "unsigned int" || type == "unsigned short") return 1;
  for (const char* element : {"unsigned int", "unsigned short"}) {
    for (int n = 2; n <= 3; ++n) {
      const std::string vector = "vec<" + std::string(element) + ", " + std::to_string(n) + ">";
      if (type == vector || type == "msl_types::" + vector) return n;
    }
  }
  return 0;
}

// "float" of "thread float *".
std::string pointee(const std::string& type) {
  std::string name = msl_names(type.substr(0, type.find_last_of("*&")));
  for (const char* space : {"thread ", "threadgroup ", "device ", "constant "}) {
    if (name.rfind(space, 0) == 0) name = name.substr(std::string(space).size());
  }
  return name.substr(0, name.find_last_not_of(' ') + 1);
}

class SignatureCheck {
 public:
  using Error = std::function<void(const Location&, const std::string&)>;
  SignatureCheck(Kernel& kernel, const std::vector<WrittenParameter>& written, const Error& error)
      : kernel_(kernel), written_(written), error_(error) {}

  void run() {
    for (size_t i = 0; i < kernel_.parameters.size(); ++i) {
      if (written_[i].has_default) error_(written_[i].where, "a kernel's parameter cannot have a default argument");
      const char kind = kernel_.parameters[i].type.back();
      if (kind == '*' || kind == '&') {
        resource(i);
      } else {
        input(i);
      }
    }
    for (KernelParameter& p : kernel_.parameters) {
      if ((p.attribute != "buffer" && p.attribute != "threadgroup") || p.index >= 0) continue;
      int next = 0;
      while (taken_[p.attribute].count(next)) ++next;
      p.index = next;
      taken_[p.attribute].insert(next);
    }
  }

 private:
  Kernel& kernel_;
  const std::vector<WrittenParameter>& written_;
  const Error& error_;
  std::map<std::string, std::set<int>> taken_;  // indices, by attribute
  std::set<std::string> inputs_;
  int components_ = -1;  // of the positions

  void resource(size_t i) {
    KernelParameter& p = kernel_.parameters[i];
    const Location& where = written_[i].where;
    const bool threadgroup = p.type.find("__local ") != std::string::npos;
    const bool memory = p.type.find("__global") != std::string::npos;
    const bool is_buffer = p.attribute == "buffer";
    if (is_buffer && (threadgroup || (!memory && written_[i].type.find("thread ") != std::string::npos))) {
      return error_(where, "invalid address space qualification for buffer pointee type '" + pointee(p.type) + "'");
    }
    if (!threadgroup && !memory) {
      return error_(where, std::string(p.type.back() == '*' ? "pointer" : "reference") +
                               " type must have explicit address space qualifier");
    }
    if (!p.attribute.empty() && p.attribute != (threadgroup ? "threadgroup" : "buffer")) {
      error_(where, "type '" + msl_names(written_[i].type) + "' is not valid for attribute '" + p.attribute + "'");
    }
    p.attribute = threadgroup ? "threadgroup" : "buffer";
    if (memory && p.type.find_first_of("*&") != p.type.find_last_of("*&")) {
      error_(where, "invalid type '" + msl_names(written_[i].type) +
                        "' for a buffer: a pointer to pointers; a struct may hold them");
    }
    if (p.index >= 31 || written_[i].negative) {
      error_(where, "'" + p.attribute + "' attribute parameter is out of bounds: must be between 0 and 30");
    }
    if (p.index < 0 || taken_[p.attribute].insert(p.index).second) return;
    // Two parameters may share an index when a function constant chooses between them.
    bool exclusive = !p.function_constant.empty();
    for (size_t j = 0; j < i; ++j) {
      const KernelParameter& q = kernel_.parameters[j];
      if (q.attribute == p.attribute && q.index == p.index && q.function_constant.empty()) exclusive = false;
    }
    if (!exclusive) {
      error_(where, "cannot reserve '" + p.attribute + "' resource location at index " + std::to_string(p.index));
    }
  }

  void input(size_t i) {
    const KernelParameter& p = kernel_.parameters[i];
    const Location& where = written_[i].where;
    const std::string type = "'" + msl_names(written_[i].type) + "'";
    if (p.attribute.empty()) {
      return error_(where, "invalid type " + type + " for input declaration in a kernel function");
    }
    const int n = unsigned_components(p.type);
    if (n == 0 || (n > 1 && !is_vector_input(p.attribute)) || p.attribute == "buffer" || p.attribute == "threadgroup") {
      return error_(where, "type " + type + " is not valid for attribute '" + p.attribute + "'");
    }
    for (const auto& [one, other] : {std::pair("thread_execution_width", "threads_per_simdgroup"),
                                     {"threads_per_simdgroup", "thread_execution_width"}}) {
      if (p.attribute == one && inputs_.count(other)) {
        error_(where,
               "kernel function cannot have input declarations with 'thread_execution_width' and "
               "'threads_per_simdgroup' attributes");
      }
    }
    inputs_.insert(p.attribute);
    if (!is_vector_input(p.attribute)) return;
    if (components_ >= 0 && components_ != n) {
      error_(where,
             "expecting input declarations with either all scalar types or all vector types with the same number of "
             "elements");
    }
    components_ = n;
  }
};

}  // namespace

void check_signature(Kernel& kernel, const std::vector<WrittenParameter>& written,
                     const std::function<void(const Location&, const std::string&)>& error) {
  SignatureCheck(kernel, written, error).run();
}

}  // namespace mps_simulator::msl
