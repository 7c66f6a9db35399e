#include "pipeline.h"

#include <dlfcn.h>

#include <algorithm>
#include <future>
#include <mutex>
#include <sstream>

#include "checks.h"
#include "counters.h"
#include "diagnostics.h"
#include "executor.h"
#include "hash.h"
#include "toolchain.h"

namespace mps_simulator::msl {

std::string check_prologue(const Program& program) {
  std::string text = "#undef MSL_NOTE\n#define MSL_NOTE(...) __attribute__((annotate(__VA_ARGS__)))\n";
  if (program.uses_matrices) text += "#include \"metal_simdgroup_matrix\"\n";
  if (program.uses_simd_types) text += "#include \"simd/simd.h\"\n";
  return text +
         "#define MSL_INSTANTIATION(...) __VA_ARGS__\n"
         "#define MSL_KERNEL(id, ...) static constexpr auto* msl_kernel_##id = __VA_ARGS__;\n";
}

namespace {

// The entry point of one kernel, and the values of the function constants.
//
// `leader`: for lane 0 of a simdgroup, which holds the matrices; the others' code is without them.
std::string execution_prologue(const Program& program, const Kernel& kernel,
                               const std::map<uint32_t, ConstantValue>& constants, bool leader) {
  std::ostringstream s;
  if (program.uses_matrices) {
    const bool elements = program.text.find("thread_elements") != std::string::npos;
    s << "#define MSL_LEADER " << leader << "\n#define MSL_THREAD_ELEMENTS " << elements
      << "\n#include \"metal_simdgroup_matrix\"\n";
  }
  if (program.uses_simd_types) s << "#include \"simd/simd.h\"\n";
  s << "namespace msl_runtime {\n";
  for (const FunctionConstant& c : program.constants) {
    auto value = constants.find(c.index);
    s << "template <> struct ConstantValue<" << c.index << "> {\n"
      << "static constexpr bool defined = " << (value != constants.end() ? "true" : "false") << ";\n"
      << "template <class T> static constexpr T get() { ";
    if (value == constants.end()) {
      s << "return T(); }\n};\n";
      continue;
    }
    s << "return __builtin_bit_cast(T, (Bytes<sizeof(T)>{{";
    for (std::byte b : value->second.bytes) s << static_cast<unsigned>(b) << ",";
    s << "}})); }\n};\n";
  }
  s << "}\n#define MSL_INSTANTIATION(...)\n"
       "#define MSL_KERNEL(id, ...) MSL_KERNEL_##id(__VA_ARGS__)\n";
  for (const auto& [id, name] : program.names) {
    if (id != kernel.id) s << "#define MSL_KERNEL_" << id << "(...)\n";
  }
  s << "#define MSL_KERNEL_" << kernel.id << "(...) \\\n"
    << "extern \"C\" __attribute__((visibility(\"default\"))) void msl_entry() { \\\n"
    << "static constexpr msl_runtime::Argument arguments[] = {";
  for (const KernelParameter& p : kernel.parameters) {
    const std::string input = p.attribute == "threadgroup" ? "threadgroup_memory" : p.attribute;
    s << "{";
    if (!p.function_constant.empty()) s << "!(" << p.function_constant << ") ? msl_runtime::Input::absent : ";
    s << "msl_runtime::Input::" << input << ", " << std::max(p.index, 0) << "u}, ";
  }
  s << "{}}; msl_runtime::call(__VA_ARGS__, arguments); } \\\n"
    << "extern \"C\" { __attribute__((visibility(\"default\"), used)) extern const bool msl_present[]; \\\n"
    << "const bool msl_present[] = {";
  for (const KernelParameter& p : kernel.parameters) {
    s << (p.function_constant.empty() ? "true" : "bool(" + p.function_constant + ")") << ", ";
  }
  const std::string alignments = "const msl_runtime::Alignments<" + std::to_string(kernel.parameters.size()) + ">";
  s << "true}; __attribute__((visibility(\"default\"), used)) extern " << alignments << " msl_alignments; "
    << alignments
    << " msl_alignments = msl_runtime::alignments(__VA_ARGS__); }\n"
       "extern \"C\" {\n"
       "extern const unsigned long __start_msl_threadgroup[] __attribute__((weak, visibility(\"hidden\")));\n"
       "extern const unsigned long __stop_msl_threadgroup[] __attribute__((weak, visibility(\"hidden\")));\n"
       "__attribute__((visibility(\"default\"), used)) const unsigned long* msl_threadgroup_begin = "
       "__start_msl_threadgroup;\n"
       "__attribute__((visibility(\"default\"), used)) const unsigned long* msl_threadgroup_end = "
       "__stop_msl_threadgroup;\n"
       "}\n";
  return s.str();
}

std::string compiled(const Program& program, const std::string& text, const Toolchain& toolchain) {
  return toolchain.cached("kernel-" + sha256(text) + ".so", [&](const std::string& partial) {
    const Output output = toolchain.compile(text, partial);
    if (!output.ok) fail_to_compile(output.error, SourceMap(program.source));
  });
}

void* load(const std::string& path) {
  void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!library) throw std::runtime_error(std::string("cannot load a compiled kernel: ") + dlerror());
  return library;
}

// The paths of the code, which are one where a kernel has no matrices.
struct Code {
  std::string leader, follower;
};

Code code_of(const Program& program, const Kernel& kernel, const std::map<uint32_t, ConstantValue>& constants) {
  const auto text = [&](bool leader) { return execution_prologue(program, kernel, constants, leader) + program.text; };
  const Toolchain& toolchain = Toolchain::instance(program.language_version);
  std::future<std::string> follower;
  if (program.uses_matrices) {
    follower = std::async(std::launch::async, [&] { return compiled(program, text(false), toolchain); });
  }
  const std::string leader = compiled(program, text(true), toolchain);
  return {leader, follower.valid() ? follower.get() : leader};
}

template <class T>
T symbol(void* library, const char* name) {
  void* found = dlsym(library, name);
  if (!found) throw std::runtime_error(std::string("a compiled kernel lacks ") + name);
  return reinterpret_cast<T>(found);
}

// Metal's feature table for Apple GPUs: the minimum constant buffer offset alignment.
constexpr unsigned kConstantAlignment = 4;

size_t align(size_t n, size_t to) { return (n + to - 1) / to * to; }

class PipelineImpl : public Pipeline {
 public:
  PipelineImpl(std::shared_ptr<const Program> program, const Kernel& kernel,
               const std::map<uint32_t, ConstantValue>& constants)
      : name_(program->names.at(kernel.id)), program_(program), kernel_(kernel), constants_(constants) {
    const Code code = code_of(*program, kernel, constants);
    void* library = load(code.leader);
    launch_.name = name_;
    launch_.code.leader = symbol<void (*)()>(library, "msl_entry");
    launch_.code.follower = symbol<void (*)()>(load(code.follower), "msl_entry");
    launch_.variables = variables(library);
    static_bytes_ = lay_out(launch_, {}, 0);
    if (static_bytes_ > kMaxThreadgroupMemory) {
      throw CompileError("Threadgroup memory size (" + std::to_string(static_bytes_) +
                         ") exceeds the maximum threadgroup memory allowed (" + std::to_string(kMaxThreadgroupMemory) +
                         ") in kernel '" + name_ + "'");
    }

    const bool* present = symbol<const bool*>(library, "msl_present");
    const auto* alignments = symbol<const unsigned*>(library, "msl_alignments");
    for (size_t i = 0; i < kernel.parameters.size(); ++i) {
      const KernelParameter& p = kernel.parameters[i];
      const bool threadgroup = p.attribute == "threadgroup";
      if (!present[i] || (!threadgroup && p.attribute != "buffer")) continue;
      const bool constant = p.type.find("__global_host") != std::string::npos;
      const bool writable = p.type.find("const ") != 0 && !constant;
      arguments_.push_back({p.name, threadgroup ? ArgumentKind::threadgroup_memory : ArgumentKind::buffer,
                            static_cast<uint32_t>(p.index), writable,
                            constant ? std::max(alignments[i], kConstantAlignment) : alignments[i]});
      used_.push_back(p.used);
      if (!threadgroup) launch_.buffers.push_back({static_cast<uint32_t>(p.index), writable, constant});
    }
  }

  const std::string& name() const override { return name_; }
  uint32_t max_total_threads_per_threadgroup() const override {
    return std::min(kernel_.max_total_threads, kMaxThreadsPerThreadgroup);
  }
  size_t static_threadgroup_memory_length() const override { return static_bytes_; }
  const std::vector<Argument>& arguments() const override { return arguments_; }

  void run(const Dispatch& dispatch) const override {
    if (dispatch.threads_per_grid.volume() == 0) return;
    execute(launch(launch_, dispatch, checks_enabled()));
  }

  Counters count(const Dispatch& dispatch, uint64_t accesses) const override {
    Counters counters;
    if (dispatch.threads_per_grid.volume() == 0) return counters;
    const Counting& code = counting();
    Launch counted = launch_;
    counted.code = {code.entry, code.entry};
    counted.variables = code.variables;
    Launch launched = launch(counted, dispatch, false);
    counters = count_dispatch(launched, code.blocks, code.costs, accesses);
    // Not looked at store by store.
    for (const BufferUse& use : launched.buffers) {
      const BufferBinding& b = dispatch.buffers[use.index];
      if (use.writable && b.memory) b.memory->set_written();
    }
    return counters;
  }

 private:
  // The code with counters.
  struct Counting {
    void (*entry)();
    uint32_t blocks;
    const BlockCost* costs;
    std::vector<ThreadgroupVariable> variables;
  };

  const Counting& counting() const {
    std::lock_guard<std::mutex> lock(counting_mutex_);
    if (counting_) return *counting_;
    const std::string text = execution_prologue(*program_, kernel_, constants_, true) + program_->text;
    void* library = load(compiled(*program_, text, Toolchain::counting(program_->language_version)));
    Counting c{symbol<void (*)()>(library, "msl_entry"), *symbol<const uint32_t*>(library, "msl_blocks"),
               symbol<const BlockCost*>(library, "msl_block_costs"), variables(library)};
    counting_ = std::make_unique<Counting>(std::move(c));
    return *counting_;
  }

  Launch launch(Launch launch, const Dispatch& dispatch, bool with_gaps) const {
    const Uint3& group = dispatch.threads_per_threadgroup;
    const uint32_t stated = max_total_threads_per_threadgroup();
    const uint32_t limit = stated ? stated : kMaxThreadsPerThreadgroup;
    if (group.volume() == 0 || group.volume() > limit || group.x > limit || group.y > limit) {
      fault(std::to_string(group.x) + " x " + std::to_string(group.y) + " x " + std::to_string(group.z) +
            " threads per threadgroup; it must be between 1 and " + std::to_string(limit));
    }
    launch.dispatch = &dispatch;
    for (size_t i = 0; i < arguments_.size(); ++i) {
      const Argument& a = arguments_[i];
      if (a.kind == ArgumentKind::buffer) {
        const BufferBinding& b = dispatch.buffers[a.index];
        if (used_[i] && !b.base) fault("no buffer is bound at index " + std::to_string(a.index) + ", '" + a.name + "'");
        if (b.memory && b.memory->gone()) {
          throw Finding("kernel '" + name_ + "': the buffer at index " + std::to_string(a.index) + ", '" + a.name +
                        "', was released before the commands that use it were complete");
        }
        if (b.base && b.offset > b.length) {
          fault("the offset of the buffer at index " + std::to_string(a.index) + " lies past its end");
        }
      } else {
        if (used_[i] && dispatch.threadgroup_memory[a.index] == 0) {
          fault("no threadgroup memory is set at index " + std::to_string(a.index) + ", '" + a.name + "'");
        }
      }
    }
    launch.arena_bytes = lay_out(launch, dispatch.threadgroup_memory, 0);
    if (launch.arena_bytes > kMaxThreadgroupMemory) {
      fault("threadgroup memory of " + std::to_string(launch.arena_bytes) + " bytes is more than " +
            std::to_string(kMaxThreadgroupMemory));
    }
    // The widest gaps that there is room for.
    for (size_t gap = with_gaps ? 64 : 0; gap >= 16; gap /= 2) {
      Launch apart = launch;
      apart.arena_bytes = lay_out(apart, dispatch.threadgroup_memory, gap);
      if (apart.arena_bytes <= msl_runtime::kArenaBytes) return apart;
    }
    return launch;
  }

  [[noreturn]] void fault(const std::string& what) const {
    throw std::runtime_error("kernel '" + name_ + "': " + what);
  }

  // The variables that the code of this kernel names: (id, size, alignment) in a section of the library.
  static std::vector<ThreadgroupVariable> variables(void* library) {
    const auto* at = *symbol<const unsigned long**>(library, "msl_threadgroup_begin");
    const auto* end = *symbol<const unsigned long**>(library, "msl_threadgroup_end");
    std::map<uint32_t, ThreadgroupVariable> by_id;
    for (; at != end; at += 3) {
      const auto id = static_cast<uint32_t>(at[0]);
      by_id[id] = {id, at[1], std::max<size_t>(at[2], 16), 0};
    }
    std::vector<ThreadgroupVariable> found;
    for (const auto& [id, variable] : by_id) found.push_back(variable);
    return found;
  }

  // Places variables and arguments in the arena, with a gap before each, and returns how much of it they take.
  size_t lay_out(Launch& launch, const decltype(Dispatch::threadgroup_memory)& bytes, size_t gap) const {
    size_t end = 0;
    launch.pieces.clear();
    const auto place = [&](size_t size, size_t alignment, int index) {
      const size_t begin = align(end + gap, alignment);
      end = begin + size;
      launch.pieces.push_back({static_cast<unsigned>(begin), static_cast<unsigned>(end), index});
      return begin;
    };
    for (ThreadgroupVariable& v : launch.variables) v.offset = place(v.bytes, v.alignment, -1);
    for (const Argument& a : arguments_) {
      if (a.kind != ArgumentKind::threadgroup_memory) continue;
      launch.arguments[a.index] = place(bytes[a.index], 16, static_cast<int>(a.index));
    }
    return align(end, 16);
  }

  std::string name_;
  Launch launch_;
  size_t static_bytes_ = 0;
  std::vector<Argument> arguments_;
  std::vector<bool> used_;

  const std::shared_ptr<const Program> program_;
  const Kernel& kernel_;  // of program_
  const std::map<uint32_t, ConstantValue> constants_;
  mutable std::mutex counting_mutex_;
  mutable std::unique_ptr<const Counting> counting_;
};

}  // namespace

void compile_kernel(const Program& program, const Kernel& kernel, const std::map<uint32_t, ConstantValue>& constants) {
  code_of(program, kernel, constants);
}

std::shared_ptr<const Pipeline> make_pipeline(std::shared_ptr<const Program> program, const Kernel& kernel,
                                              const std::map<uint32_t, ConstantValue>& constants) {
  return std::make_shared<PipelineImpl>(std::move(program), kernel, constants);
}

}  // namespace mps_simulator::msl
