#include "instrument.h"

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <map>
#include <set>
#include <sstream>
#include <stdexcept>
#include <string_view>
#include <vector>

namespace mps_simulator::msl {

const std::array<const char*, kOperations> kOperationNames = {
    "fma",      "matrix_fma", "float",    "float_divide", "float_special",   "convert",   "bfloat_convert",
    "integer",  "shift",      "multiply", "divide",       "divide_constant", "integer64", "multiply64",
    "divide64", "simdgroup",  "atomic"};

namespace {

using std::string_view;

bool starts_with(string_view s, string_view prefix) { return s.substr(0, prefix.size()) == prefix; }
bool contains(string_view s, string_view part) { return s.find(part) != string_view::npos; }

bool is_name_character(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) || c == '.' || c == '_' || c == '$' || c == '-';
}

// The values that a line of IR names, "%12" ...; the first one is its result if it has one.
std::vector<string_view> values(string_view line) {
  std::vector<string_view> found;
  for (size_t at = line.find('%'); at != string_view::npos; at = line.find('%', at + 1)) {
    size_t end = at + 1;
    while (end < line.size() && is_name_character(line[end])) ++end;
    found.push_back(line.substr(at, end - at));
  }
  return found;
}

// A type at the beginning of `s`: how many scalars, of how many bits, of what kind.
struct Type {
  unsigned count = 1, bits = 0;
  enum Kind { integer, floating, bfloat, pointer, other } kind = other;
  unsigned bytes() const { return count * ((bits + 7) / 8); }
};

Type read_type(string_view s) {
  Type t;
  if (starts_with(s, "<")) {
    const unsigned count = static_cast<unsigned>(std::strtoul(std::string(s.substr(1, 8)).c_str(), nullptr, 10));
    const size_t x = s.find(" x ");
    if (x == string_view::npos) return t;
    t = read_type(s.substr(x + 3));
    t.count = count;
    return t;
  }
  const auto is = [s](string_view name) {
    return starts_with(s, name) && (s.size() == name.size() || !is_name_character(s[name.size()]));
  };
  if (is("float")) return {1, 32, Type::floating};
  if (is("half")) return {1, 16, Type::floating};
  if (is("bfloat")) return {1, 16, Type::bfloat};
  if (is("double")) return {1, 64, Type::floating};
  if (is("ptr")) return {1, 64, Type::pointer};
  if (s.size() > 1 && s[0] == 'i' && std::isdigit(static_cast<unsigned char>(s[1]))) {
    return {1, static_cast<unsigned>(std::strtoul(std::string(s.substr(1, 8)).c_str(), nullptr, 10)), Type::integer};
  }
  return t;
}

// Is code of this function code of the kernel?
bool is_of_library(string_view function) {
  for (string_view prefix :
       {"_ZN11msl_runtime", "_ZNK11msl_runtime", "_ZN5metal", "_ZNK5metal", "_ZZN5metal", "msl_count_"}) {
    if (starts_with(function, prefix)) return true;
  }
  return false;
}

string_view function_name(string_view line) {
  const size_t at = line.find('@');
  if (at == string_view::npos) return {};
  size_t begin = at + 1, end = begin;
  if (begin < line.size() && line[begin] == '"') {
    return line.substr(begin + 1, line.find('"', begin + 1) - begin - 1);
  }
  while (end < line.size() && is_name_character(line[end])) ++end;
  return line.substr(begin, end - begin);
}

string_view trimmed(string_view line) {
  const size_t begin = line.find_first_not_of(' ');
  return begin == string_view::npos ? string_view() : line.substr(begin);
}

// One instruction: "%result = opcode flags type operands".
struct Instruction {
  string_view result, opcode, rest;  // rest: after the opcode
};

Instruction read_instruction(string_view line) {
  Instruction i;
  line = trimmed(line);
  if (starts_with(line, "%")) {
    const size_t equals = line.find(" = ");
    if (equals == string_view::npos) return i;
    i.result = line.substr(0, equals);
    line = line.substr(equals + 3);
  }
  for (string_view marker : {"tail ", "musttail ", "notail "}) {
    if (starts_with(line, marker)) line = line.substr(marker.size());
  }
  const size_t space = line.find(' ');
  i.opcode = line.substr(0, space);
  i.rest = space == string_view::npos ? string_view() : line.substr(space + 1);
  return i;
}

// The first type in `rest`, past flags such as nsw, contract, disjoint.
string_view at_type(string_view rest) {
  while (!rest.empty()) {
    if (read_type(rest).kind != Type::other) return rest;
    const size_t space = rest.find(' ');
    if (space == string_view::npos) return {};
    rest = rest.substr(space + 1);
  }
  return {};
}

bool has_constant_divisor(string_view rest) {
  const size_t comma = rest.rfind(", ");
  return comma != string_view::npos && rest.substr(comma + 2).find('%') == string_view::npos;
}

class Instrumenter {
 public:
  explicit Instrumenter(const std::string& ir) {
    for (size_t begin = 0; begin < ir.size();) {
      const size_t end = std::min(ir.find('\n', begin), ir.size());
      lines_.push_back(string_view(ir).substr(begin, end - begin));
      begin = end + 1;
    }
  }

  std::string run() {
    for (size_t i = 0; i < lines_.size(); ++i) {
      put(lines_[i]);
      if (!starts_with(lines_[i], "define ")) continue;
      size_t end = i + 1;
      while (lines_[end] != "}") ++end;
      if (!is_of_library(function_name(lines_[i]))) {
        function(i + 1, end);
        i = end - 1;
      }
    }
    if (costs_.empty()) throw std::runtime_error("the code of a kernel has no instructions to count");
    table();
    return out_.str();
  }

 private:
  void put(string_view line) { out_ << line << '\n'; }

  void function(size_t begin, size_t end) {
    uses_.clear();
    private_.clear();
    offsets_.clear();
    widened_.clear();
    pairs_.clear();
    copies_.clear();
    for (size_t i = begin; i < end; ++i) {
      const auto named = values(lines_[i]);
      const bool defines = starts_with(trimmed(lines_[i]), "%");
      for (size_t k = defines; k < named.size(); ++k) ++uses_[named[k]];
      const Instruction instruction = read_instruction(lines_[i]);
      if (instruction.opcode == "getelementptr") offset(instruction);
      if (instruction.opcode == "zext" || instruction.opcode == "sext") widened_.insert(instruction.result);
    }
    copies(begin, end);
    bool counted = false;
    new_block();
    for (size_t i = begin; i < end; ++i) {
      const string_view line = lines_[i];
      if (!line.empty() && line[0] != ' ') {  // a label
        put(line);
        new_block();
        counted = false;
        continue;
      }
      const Instruction instruction = read_instruction(line);
      if (!counted && !instruction.opcode.empty() && instruction.opcode != "phi") {
        out_ << "  call void @msl_count_block(i32 " << costs_.size() - 1 << ")\n";
        counted = true;
      }
      if (!instruction.opcode.empty()) {
        accesses(instruction, i);
        cost(instruction);
      }
      put(line);
    }
  }

  void new_block() {
    costs_.push_back({});
    products_.clear();
    divisions_.clear();
    results_.clear();
  }

  void add(Operation operation, unsigned n = 1) {
    uint16_t& count = costs_.back()[operation];
    count = static_cast<uint16_t>(std::min<unsigned>(count + n, UINT16_MAX));
  }

  // Of an instruction that works on `type`.
  void add_integer(Type t, Operation narrow, Operation wide) { add(t.bits > 32 ? wide : narrow, t.count); }
  void add_float(Type t, Operation operation) {
    add(operation, t.count);
    if (t.kind == Type::bfloat) add(kBfloatConvert, t.count);  // emulated: as float, and rounded
  }

  void access(string_view pointer, unsigned bytes, bool write) {
    if (!starts_with(pointer, "%") || private_.count(pointer) || bytes == 0 || bytes >= 1u << 11) return;
    out_ << "  call void @msl_count_access(ptr " << pointer << ", i32 " << (++accesses_ << 12 | bytes << 1 | write)
         << ")\n";
  }

  // The pointer operand of a load or store, atomic or not: the last one.
  static string_view pointer_of(string_view rest) {
    const size_t at = rest.rfind("ptr ");
    if (at == string_view::npos) return {};
    const auto named = values(rest.substr(at));
    return named.empty() || rest[at + 4] != '%' ? string_view() : named[0];
  }

  // A pointer that lies a constant number of bytes behind another.
  void offset(const Instruction& i) {
    const size_t comma = i.rest.rfind(", i64 ");
    const auto named = values(i.rest);
    if (!contains(i.rest, " i8, ptr ") || comma == string_view::npos || named.size() != 1) return;
    const auto [base, at] = resolved(named[0]);
    offsets_[i.result] = {base, at + std::strtol(std::string(i.rest.substr(comma + 6, 12)).c_str(), nullptr, 10)};
  }

  std::pair<string_view, long> resolved(string_view pointer) const {
    const auto known = offsets_.find(pointer);
    return known == offsets_.end() ? std::pair(pointer, 0L) : known->second;
  }

  // The optimiser takes the copy of a vector to or from memory apart, component by component, and says so in the names
  // that it gives: it is one access, of up to 16 bytes.
  void copies(size_t begin, size_t end) {
    struct Run {
      size_t line;
      string_view base;
      long end;
      unsigned bytes;
    } run[2] = {};  // of loads and of stores
    for (size_t i = begin; i < end; ++i) {
      const Instruction instruction = read_instruction(lines_[i]);
      const bool write = instruction.opcode == "store";
      if (!lines_[i].empty() && lines_[i][0] != ' ') run[0] = run[1] = {};
      if (!write && instruction.opcode != "load") continue;
      const string_view pointer = pointer_of(instruction.rest);
      const bool part = contains(write ? pointer : instruction.result, write ? ".sroa_idx" : ".copyload");
      const unsigned bytes = read_type(at_type(instruction.rest)).bytes();
      const auto [base, at] = resolved(pointer);
      Run& r = run[write];
      if (part && r.bytes && base == r.base && at == r.end && r.bytes + bytes <= 16) {
        r.end += bytes;
        r.bytes += bytes;
        copies_[r.line] = r.bytes;
        copies_[i] = 0;
      } else if (part || write) {
        r = {i, base, at + static_cast<long>(bytes), bytes};
      } else {
        r = {};
      }
    }
  }

  // What the access in this line is of, or 0 where it is part of one before.
  unsigned bytes_of(const Instruction& i, size_t line) const {
    const auto copy = copies_.find(line);
    return copy == copies_.end() ? read_type(at_type(i.rest)).bytes() : copy->second;
  }

  void accesses(const Instruction& i, size_t line) {
    if (i.opcode == "alloca") private_.insert(i.result);
    if (i.opcode == "getelementptr") {
      const string_view base = pointer_of(i.rest);
      if (private_.count(base)) private_.insert(i.result);
    }
    if (i.opcode == "load") {
      access(pointer_of(i.rest), bytes_of(i, line), false);
    } else if (i.opcode == "store") {
      access(pointer_of(i.rest), bytes_of(i, line), true);
    } else if (i.opcode == "atomicrmw" || i.opcode == "cmpxchg") {
      const auto named = values(i.rest);
      if (named.empty()) return;
      access(named[0], 4, false);
      access(named[0], 4, true);
    } else if (i.opcode == "call" && (contains(i.rest, "@llvm.memcpy.") || contains(i.rest, "@llvm.memmove.") ||
                                      contains(i.rest, "@llvm.memset."))) {
      const size_t size_at = i.rest.rfind(", i64 ");
      if (size_at == string_view::npos) return;
      const unsigned bytes =
          static_cast<unsigned>(std::strtoul(std::string(i.rest.substr(size_at + 6, 12)).c_str(), nullptr, 10));
      const auto named = values(i.rest.substr(0, size_at));
      if (!contains(i.rest, "@llvm.memset.") && named.size() == 2) access(named[1], bytes, false);
      if (!named.empty()) access(named[0], bytes, true);
    }
  }

  void cost(const Instruction& i) {
    const string_view op = i.opcode;
    // LLVM's last passes leave a vector's sum twice where each of them is of use for one component.
    if (op != "call" && op != "atomicrmw" && op != "cmpxchg" &&
        !results_.insert(std::string(op) + " " + std::string(i.rest)).second) {
      return;
    }
    const string_view typed = at_type(i.rest);
    const Type t = read_type(typed);
    if (op == "fmul") {
      add_float(t, kFloat);
      if (t.kind == Type::floating && uses_[i.result] == 1) products_.insert(i.result);
    } else if (op == "fadd" || op == "fsub") {
      for (string_view v : values(i.rest)) {
        if (!products_.erase(v)) continue;
        costs_.back()[kFloat] -= t.count;
        return add_float(t, kFma);
      }
      add_float(t, kFloat);
    } else if (op == "fcmp") {
      add_float(t, kFloat);
    } else if (op == "fdiv" || op == "frem") {
      add_float(t, kFloatDivide);
    } else if (op == "and" && contains(i.rest, ", 4294967295")) {
      // The lower half of a register pair.
    } else if (op == "shl" && t.bits == 64 && t.count == 1 && contains(i.rest, ", 32")) {
      pairs_.insert(i.result);  // the upper half of a pair that is put together
    } else if (op == "or" && joins_pair(i.rest)) {
      // And its lower half.
    } else if (op == "add" || op == "sub" || op == "and" || op == "or" || op == "xor" || op == "icmp") {
      add_integer(t, kInteger, kInteger64);
    } else if (op == "select") {
      // A comparison that only this needs is part of it.
      const auto named = values(i.rest);
      if (named.empty() || !comparison_for(named[0])) add(kInteger, 1);
    } else if (op == "lshr" && t.bits == 64 && contains(i.rest, ", 32")) {
      // The upper half of a register pair.
    } else if (op == "shl" || op == "lshr" || op == "ashr") {
      add(kShift, t.count * (t.bits > 32 ? 2 : 1));
    } else if (op == "mul" && is_product_of_words(t, i.rest)) {
      add(kMultiply, 2);
    } else if (op == "mul") {
      add_integer(t, kMultiply, kMultiply64);
    } else if (op == "sdiv" || op == "udiv" || op == "srem" || op == "urem") {
      // A quotient and a remainder of the same numbers are one division.
      const std::string key = std::string(1, op[0]) + std::string(typed);
      if (!divisions_.insert(key).second) {
        add_integer(t, kMultiply, kMultiply64);
        add_integer(t, kInteger, kInteger64);
      } else if (t.bits <= 32 && has_constant_divisor(i.rest)) {
        add(kDivideConstant, t.count);
      } else {
        add_integer(t, kDivide, kDivide64);
      }
    } else if (op == "sitofp" || op == "uitofp" || op == "fptosi" || op == "fptoui") {
      add(kConvert, t.count);
    } else if (op == "fptrunc") {
      if (contains(i.rest, "to bfloat") || contains(i.rest, "x bfloat>")) add(kBfloatConvert, t.count);
    } else if (op == "fpext") {
      if (t.kind == Type::bfloat) add(kInteger, t.count);  // 16 zeros below
    } else if (op == "getelementptr") {
      // Flags, the type, the base, then the indices: one that is no constant is an addition.
      const size_t base = i.rest.find("ptr ");
      if (base != string_view::npos) add(kInteger, values(i.rest.substr(base)).size() > 1);
    } else if (op == "atomicrmw" || op == "cmpxchg") {
      add(kAtomic);
    } else if (op == "call") {
      call(i.rest);
    }
  }

  bool joins_pair(string_view rest) const {
    const auto named = values(rest);
    return std::any_of(named.begin(), named.end(), [&](string_view v) { return pairs_.count(v) > 0; });
  }

  // The condition of a select is a comparison in the same block, which nothing else uses.
  bool comparison_for(string_view condition) { return uses_[condition] == 1; }

  void call(string_view rest) {
    const string_view callee = function_name(rest);
    const Type t = read_type(at_type(rest));
    const auto is = [callee](std::initializer_list<const char*> names) {
      return std::any_of(names.begin(), names.end(), [&](const char* n) { return starts_with(callee, n); });
    };
    if (is({"llvm.fmuladd.", "llvm.fma."})) {
      add_float(t, kFma);
    } else if (is({"llvm.fabs.", "llvm.lifetime.", "llvm.assume", "llvm.experimental.noalias", "llvm.mem"})) {
    } else if (is({"llvm.min", "llvm.max", "llvm.copysign.", "llvm.is.fpclass", "llvm.canonicalize."})) {
      add_float(t, kFloat);
    } else if (is({"llvm.smin.", "llvm.smax.", "llvm.umin.", "llvm.umax.", "llvm.abs.", "llvm.scmp.", "llvm.ucmp.",
                   "llvm.sadd.", "llvm.uadd.", "llvm.ssub.", "llvm.usub."})) {
      add_integer(t, kInteger, kInteger64);
    } else if (is({"llvm.ct", "llvm.bitreverse.", "llvm.bswap.", "llvm.fsh"})) {
      add(kShift, t.count);
    } else if (is({"llvm.floor.", "llvm.ceil.", "llvm.trunc.", "llvm.rint.", "llvm.nearbyint.", "llvm.round"})) {
      add(kConvert, t.count);
    } else if (is({"llvm."})) {
      if (t.kind == Type::floating || t.kind == Type::bfloat) add(kFloatSpecial, t.count);
    } else if (contains(callee, "17multiply_matrices") || contains(callee, "17multiply_elements")) {
      add(kMatrixFma, 16);
    } else if (contains(callee, "11msl_runtime8exchange") || contains(callee, "9msl_votes6ballot")) {
      add(kSimdgroup);
    } else if (!starts_with(callee, "_Z") && !starts_with(callee, "msl_") && t.kind == Type::floating) {
      add(kFloatSpecial);  // expf, powf ...
    }
  }

  // Whether 64 bits are the product of 32 and 32: one instruction, of twice the time.
  bool is_product_of_words(Type t, string_view rest) const {
    const auto named = values(rest);
    return t.bits == 64 && t.count == 1 && !named.empty() &&
           std::all_of(named.begin(), named.end(), [&](string_view v) { return widened_.count(v) > 0; });
  }

  void table() {
    out_ << "@msl_blocks = constant i32 " << costs_.size() << "\n@msl_block_costs = constant [" << costs_.size()
         << " x [" << kOperations << " x i16]] [";
    for (size_t b = 0; b < costs_.size(); ++b) {
      out_ << (b ? ", [" : "[") << kOperations << " x i16] [";
      for (unsigned k = 0; k < kOperations; ++k) out_ << (k ? ", i16 " : "i16 ") << costs_[b][k];
      out_ << "]";
    }
    out_ << "]\n";
  }

  std::vector<string_view> lines_;
  std::ostringstream out_;
  std::vector<BlockCost> costs_;
  unsigned accesses_ = 0;
  std::map<string_view, unsigned> uses_;  // of the values of this function
  std::set<string_view> private_;         // pointers to memory of the thread's own
  std::set<string_view> widened_;         // 64-bit values of 32 bits or fewer
  std::set<string_view> pairs_;           // 64-bit values whose lower half is yet to come
  std::map<string_view, std::pair<string_view, long>> offsets_;
  std::map<size_t, unsigned> copies_;  // by line
  std::set<string_view> products_;     // of this block, each used once
  std::set<std::string> divisions_;    // of this block
  std::set<std::string> results_;      // that this block has computed
};

}  // namespace

std::string instrument(const std::string& ir) { return Instrumenter(ir).run(); }

}  // namespace mps_simulator::msl
