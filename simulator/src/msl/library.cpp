// compile() and what it gives: msl.h.
#include <algorithm>
#include <mutex>
#include <sstream>

#include "ast.h"
#include "compile_ahead.h"
#include "compile_cache.h"
#include "declarators.h"
#include "hash.h"
#include "language_version.h"
#include "pipeline.h"
#include "reader.h"
#include "toolchain.h"

namespace mps_simulator::msl {
namespace {

// A result of compile() as a text in the cache: fields by their lengths.
class Writer {
 public:
  void put(const std::string& s) { text_ += std::to_string(s.size()) + ":" + s + "\n"; }
  void put(uint64_t n) { put(std::to_string(n)); }
  const std::string& text() const { return text_; }

 private:
  std::string text_;
};

class Parser {
 public:
  explicit Parser(std::string text) : text_(std::move(text)) {}
  std::string string() {
    const size_t colon = text_.find(':', at_);
    if (colon == std::string::npos) throw std::runtime_error("a file in the shader cache is damaged");
    const size_t size = std::stoul(text_.substr(at_, colon - at_));
    at_ = colon + 1 + size + 1;
    if (at_ > text_.size()) throw std::runtime_error("a file in the shader cache is damaged");
    return text_.substr(colon + 1, size);
  }
  uint64_t number() { return std::stoull(string()); }

 private:
  std::string text_;
  size_t at_ = 0;
};

std::string serialise(const Program& p) {
  Writer w;
  w.put(p.text);
  w.put(p.language_version);
  w.put(p.uses_matrices);
  w.put(p.uses_simd_types);
  w.put(p.kernels.size());
  for (const Kernel& k : p.kernels) {
    w.put(p.names.at(k.id));
    w.put(k.id);
    w.put(k.max_total_threads);
    w.put(k.parameters.size());
    for (const KernelParameter& a : k.parameters) {
      w.put(a.name);
      w.put(a.type);
      w.put(a.attribute);
      w.put(static_cast<uint64_t>(a.index + 1));
      w.put(a.function_constant);
      w.put(a.used);
    }
    w.put(k.constants.size());
    for (uint32_t c : k.constants) w.put(c);
    w.put(k.simd_functions.size());
    for (const std::string& f : k.simd_functions) w.put(f);
  }
  w.put(p.constants.size());
  for (const FunctionConstant& c : p.constants) {
    w.put(c.name);
    w.put(c.type);
    w.put(c.index);
    w.put(c.required);
  }
  return w.text();
}

std::shared_ptr<Program> deserialise(const std::string& text, const std::string& source) {
  Parser r(text);
  auto p = std::make_shared<Program>();
  p->source = source;
  p->text = r.string();
  p->language_version = r.number();
  p->uses_matrices = r.number();
  p->uses_simd_types = r.number();
  for (uint64_t n = r.number(); n > 0; --n) {
    Kernel k;
    const std::string name = r.string();
    k.id = r.number();
    p->names[k.id] = name;
    k.max_total_threads = r.number();
    for (uint64_t m = r.number(); m > 0; --m) {
      KernelParameter a;
      a.name = r.string();
      a.type = r.string();
      a.attribute = r.string();
      a.index = static_cast<int>(r.number()) - 1;
      a.function_constant = r.string();
      a.used = r.number();
      k.parameters.push_back(a);
    }
    for (uint64_t m = r.number(); m > 0; --m) k.constants.push_back(r.number());
    for (uint64_t m = r.number(); m > 0; --m) k.simd_functions.push_back(r.string());
    p->kernels.push_back(k);
  }
  for (uint64_t n = r.number(); n > 0; --n) {
    FunctionConstant c;
    c.name = r.string();
    c.type = r.string();
    c.index = r.number();
    c.required = r.number();
    p->constants.push_back(c);
  }
  return p;
}

// MSL has several names for a type; the host knows one of them.
std::string canonical_type(std::string type) {
  static const std::map<std::string, std::string> names = {
      {"uint8_t", "uchar"},       {"int8_t", "char"},       {"uint16_t", "ushort"},       {"int16_t", "short"},
      {"uint32_t", "uint"},       {"int32_t", "int"},       {"uint64_t", "ulong"},        {"int64_t", "long"},
      {"size_t", "ulong"},        {"unsigned int", "uint"}, {"unsigned short", "ushort"}, {"unsigned char", "uchar"},
      {"unsigned long", "ulong"}, {"unsigned", "uint"},     {"ptrdiff_t", "long"},
  };
  if (type.rfind("metal :: ", 0) == 0) type = type.substr(9);
  auto found = names.find(type);
  return found == names.end() ? type : found->second;
}

// Bytes of a scalar or vector type by its canonical name; 0: no such type.
size_t size_of(const std::string& type) {
  static const std::map<std::string, size_t> sizes = {{"bool", 1},   {"char", 1},  {"uchar", 1},  {"short", 2},
                                                      {"ushort", 2}, {"half", 2},  {"bfloat", 2}, {"int", 4},
                                                      {"uint", 4},   {"float", 4}, {"long", 8},   {"ulong", 8}};
  if (auto scalar = sizes.find(type); scalar != sizes.end()) return scalar->second;
  const size_t components = type.empty() ? 0 : type.back() - '0';
  auto element = type.empty() ? sizes.end() : sizes.find(type.substr(0, type.size() - 1));
  if (element == sizes.end() || components < 2 || components > 4) return 0;
  return element->second * (components == 3 ? 4 : components);
}

// Reads and checks. Throws CompileError.
Program check(const std::string& source, const CompileOptions& options) {
  const Toolchain& toolchain = Toolchain::instance(options.language_version);
  std::vector<std::string> macros;
  for (const auto& [name, value] : options.macros) macros.push_back(name + "=" + value);
  SourceMap plain(source);
  const auto stop = [](const std::vector<Diagnostic>& errors, const SourceMap& map) {
    if (!errors.empty()) throw CompileError(render(errors, map));
  };

  const Output preprocessed = toolchain.preprocess(source, macros, options.language_version);
  if (!preprocessed.ok) fail_to_compile(preprocessed.error, plain);
  stop(too_new(preprocessed.out, plain, options.language_version), plain);
  Program p;
  p.source = source;
  p.language_version = options.language_version;
  const bool includes = preprocessed.out.find(" \"" + toolchain.headers() + "/metal_") != std::string::npos;
  p.uses_simd_types = preprocessed.out.find(" \"" + toolchain.headers() + "/simd/simd.h\"") != std::string::npos;
  // metal_stdlib brings the matrices too; here they cost a second compilation of every kernel.
  for (const char* type : {"simdgroup_matrix", "simdgroup_float8x8", "simdgroup_half8x8", "simdgroup_bfloat8x8"}) {
    const bool named = preprocessed.out.find(std::string(type)) != std::string::npos;
    p.uses_matrices = p.uses_matrices || (includes && named);
  }

  // Vectors are classes here, and classes in different address spaces have no common type in `c ? a : b`. Each round
  // finds more of them, behind those that it knew.
  std::set<size_t> unify;
  for (bool again = true; again;) {
    again = false;
    const auto more = [&](const ReadResult& read, const std::vector<Place>& places) {
      const size_t before = unify.size();
      unify.merge(conditionals(read, places));
      return again = unify.size() > before;
    };
    SourceMap map(source);
    ReadResult r = read(preprocessed.out, source, map, includes, unify);
    stop(r.errors, map);
    const std::string text = check_prologue(p) + r.text;
    const Output parsed = toolchain.parse(text);
    if (!parsed.ok && more(r, incompatible_vectors(parsed.error))) continue;
    if (!parsed.ok) fail_to_compile(parsed.error, map);
    SyntaxTree tree = read_syntax_tree(parsed.out, map, options.language_version);
    if (more(r, tree.unlike_operands)) continue;
    for (const Diagnostic& d : check_declarators(r, tree.declarations, options.language_version)) {
      tree.errors.push_back(d);
    }
    std::sort(tree.errors.begin(), tree.errors.end(), [](const Diagnostic& a, const Diagnostic& b) {
      return std::pair(a.line, a.column) < std::pair(b.line, b.column);
    });
    stop(tree.errors, map);
    if (tree.kernels.size() != r.kernels.size()) {
      throw std::runtime_error("the shader compiler found " + std::to_string(r.kernels.size()) + " kernels and lost " +
                               std::to_string(r.kernels.size() - tree.kernels.size()));
    }
    p.text = r.text;
    p.kernels = tree.kernels;
    p.constants = r.constants;
    for (FunctionConstant& c : p.constants) c.type = canonical_type(c.type);
    for (size_t i = 0; i < r.kernels.size(); ++i) p.names[static_cast<unsigned>(i)] = r.kernels[i].name;
  }
  return p;
}

class FunctionImpl : public Function {
 public:
  FunctionImpl(std::shared_ptr<const Program> program, std::shared_ptr<CompileAhead> ahead, const Kernel& kernel,
               std::map<uint32_t, ConstantValue> values)
      : program_(std::move(program)), ahead_(std::move(ahead)), kernel_(kernel), values_(std::move(values)) {
    for (const FunctionConstant& c : program_->constants) {
      if (std::find(kernel.constants.begin(), kernel.constants.end(), c.index) != kernel.constants.end()) {
        constants_.push_back(c);
      }
    }
  }
  const std::string& name() const override { return program_->names.at(kernel_.id); }
  const std::vector<FunctionConstant>& constants() const override { return constants_; }
  const std::vector<std::string>& simd_functions() const override { return kernel_.simd_functions; }
  std::shared_ptr<const Pipeline> make_pipeline() const override {
    for (const FunctionConstant& c : constants_) {
      if (c.required && !values_.count(c.index)) {
        throw CompileError("Function " + name() + " needs a value for function constant '" + c.name + "' (index " +
                           std::to_string(c.index) + ")");
      }
    }
    ahead_->asked_for(kernel_);
    return msl::make_pipeline(program_, kernel_, values_);
  }

 private:
  std::shared_ptr<const Program> program_;
  std::shared_ptr<CompileAhead> ahead_;
  const Kernel& kernel_;
  std::map<uint32_t, ConstantValue> values_;
  std::vector<FunctionConstant> constants_;
};

class LibraryImpl : public Library {
 public:
  explicit LibraryImpl(std::shared_ptr<const Program> program)
      : program_(std::move(program)), ahead_(std::make_shared<CompileAhead>(program_)) {}

  std::vector<std::string> function_names() const override {
    std::vector<std::string> names;
    for (const Kernel& k : program_->kernels) names.push_back(program_->names.at(k.id));
    return names;
  }

  std::shared_ptr<const Function> function(const std::string& name, const ConstantValues* values) const override {
    auto kernel = std::find_if(program_->kernels.begin(), program_->kernels.end(),
                               [&](const Kernel& k) { return program_->names.at(k.id) == name; });
    if (kernel == program_->kernels.end()) return nullptr;
    std::map<uint32_t, ConstantValue> given;
    for (const FunctionConstant& c : program_->constants) {
      if (!values) break;
      const ConstantValue* value = nullptr;
      if (auto v = values->by_index.find(c.index); v != values->by_index.end()) value = &v->second;
      if (auto v = values->by_name.find(c.name); v != values->by_name.end()) value = &v->second;
      if (!value) continue;
      if (canonical_type(value->type) != c.type) {
        throw CompileError("function constant '" + c.name + "' is of type " + c.type +
                           ", and was given a value of type " + value->type);
      }
      if (size_of(c.type) == 0 || value->bytes.size() < size_of(c.type)) {
        throw CompileError("function constant '" + c.name + "': no value of type " + c.type);
      }
      ConstantValue exact = *value;
      exact.bytes.resize(size_of(c.type));
      given[c.index] = exact;
    }
    auto function = std::make_shared<FunctionImpl>(program_, ahead_, *kernel, given);
    if (values) {
      for (const FunctionConstant& c : function->constants()) {
        if (c.required && !given.count(c.index)) {
          throw CompileError("Function " + name + " needs a value for function constant '" + c.name + "' (index " +
                             std::to_string(c.index) + ")");
        }
      }
    }
    return function;
  }

 private:
  std::shared_ptr<const Program> program_;
  std::shared_ptr<CompileAhead> ahead_;
};

}  // namespace

std::shared_ptr<const Library> compile(const std::string& source, const CompileOptions& options) {
  const Toolchain& toolchain = Toolchain::instance(options.language_version);
  std::string key = source + '\0' + std::to_string(options.language_version);
  for (const auto& [name, value] : options.macros) key += '\0' + name + '\0' + value;
  const std::string cached = toolchain.cached(
      "lib-" + sha256(key), [&](const std::string& path) { write_file(path, serialise(check(source, options))); });
  return std::make_shared<LibraryImpl>(deserialise(read_file(cached), source));
}

}  // namespace mps_simulator::msl
