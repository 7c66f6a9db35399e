// Metal Shading Language on the CPU: compile a `.metal` source and run its kernels.
//
// The only door between the Metal runtime (src/metal) and the shader compiler and executor (src/msl).
// Nothing here knows Objective-C or PyTorch.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "buffer_memory.h"

namespace mps_simulator::msl {

constexpr size_t kMaxBuffers = 31;
constexpr size_t kMaxThreadgroupMemory = 32 * 1024;
constexpr uint32_t kMaxThreadsPerThreadgroup = 1024;
constexpr uint32_t kSimdWidth = 32;

// The source was refused. what() holds the diagnostics in clang's form, lines being those of the `.metal` source:
// "program_source:LINE:COLUMN: error: ...".
struct CompileError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// A fault of a running kernel: what() names the kernel, the line, the threadgroup, the thread, the memory.
struct Finding : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// Versions of the language are written as __METAL_VERSION__ has them: 310 is Metal 3.1.
constexpr unsigned kDefaultLanguage = 320;

struct CompileOptions {
  std::map<std::string, std::string> macros;
  unsigned language_version = kDefaultLanguage;
  bool fast_math = true;
};

// The value given to a function constant, as the bytes the host passed.
struct ConstantValue {
  std::string type;  // its MSL name: "bool", "uint", "float4"
  std::vector<std::byte> bytes;
};

struct ConstantValues {
  std::map<uint32_t, ConstantValue> by_index;
  std::map<std::string, ConstantValue> by_name;
};

struct FunctionConstant {
  std::string name;
  std::string type;
  uint32_t index;
  bool required;
};

enum class ArgumentKind { buffer, threadgroup_memory };

struct Argument {
  std::string name;
  ArgumentKind kind;
  uint32_t index;
  bool writable;       // false for `constant` and `const device`
  uint32_t alignment;  // that a buffer's offset must have: the natural one of what is pointed to; 4 for `constant`
};

struct Uint3 {
  uint32_t x = 1, y = 1, z = 1;
  uint64_t volume() const { return uint64_t{x} * y * z; }
};

// The memory bound to one buffer index: what the kernel may touch is [base + offset, base + length).
struct BufferBinding {
  std::byte* base = nullptr;  // null: nothing bound
  size_t length = 0;
  size_t offset = 0;
  std::shared_ptr<BufferMemory> memory{};  // null: bytes of the command itself
};

// Dispatches that nothing orders: those of a concurrent encoder from one barrier to the next. The checks look for races
// between them as between threadgroups of one.
class Unordered;
std::shared_ptr<Unordered> begin_unordered();
// After a barrier for the buffers at these addresses, which orders nothing else.
std::shared_ptr<Unordered> begin_unordered(std::shared_ptr<Unordered> before, const std::vector<std::byte*>& ordered);
// The order in which MPS_SIMULATOR_ORDER runs so many of them.
std::vector<size_t> order_of_unordered(size_t dispatches);

struct Dispatch {
  Uint3 threads_per_grid;  // need not be a multiple of threads_per_threadgroup: edge threadgroups are then smaller
  Uint3 threads_per_threadgroup;
  std::array<BufferBinding, kMaxBuffers> buffers;
  std::array<size_t, kMaxBuffers> threadgroup_memory{};  // bytes, by threadgroup index
  std::shared_ptr<Unordered> unordered;                  // null: all dispatches before this one are done
};

struct Traffic {
  double read = 0, written = 0;
};

// What a dispatch did. Numbers are of the whole grid; where only a part of it ran, they are scaled.
struct Counters {
  struct Operations {
    const char* name;         // instrument.h
    double executed, issued;  // by lanes that were active; by all 32 lanes of simdgroups in which one was
  };
  std::vector<Operations> operations;
  double device_bytes = 0;       // asked of memory by simdgroups: an address once, however many lanes ask for it
  double constant_bytes = 0;     // the same of `constant` buffers, which a GPU keeps in registers
  double threadgroup_bytes = 0;  // read and written
  double lines = 0;              // of 128 bytes, that each threadgroup touches, summed
  double barriers = 0;           // of threadgroups
  uint64_t threadgroups = 0;
  uint32_t threads_per_threadgroup = 0;
  size_t threadgroup_memory = 0;
  uint32_t matrix_bytes = 0;  // the most that one lane held of simdgroup matrices at a time
  uint64_t counted = 0;       // threadgroups that ran

  // Bytes between memory and a last-level cache of this size, with this many threadgroups in flight.
  std::function<Traffic(uint64_t cache_bytes, uint64_t in_flight)> traffic;
};

// A kernel specialised by its function constants and compiled to machine code; immutable, shared by threads.
class Pipeline {
 public:
  virtual ~Pipeline() = default;
  virtual const std::string& name() const = 0;
  virtual uint32_t max_total_threads_per_threadgroup() const = 0;  // that the kernel states; 0: it states none
  virtual size_t static_threadgroup_memory_length() const = 0;
  virtual const std::vector<Argument>& arguments() const = 0;
  // Runs the whole grid on all cores and returns when it is done. Throws Finding for a fault of the kernel (memory
  // that is not its, a race, a barrier that some threads never reach ...), std::runtime_error for one of the host.
  virtual void run(const Dispatch& dispatch) const = 0;
  // The same with counters, which takes ten times as long. With `accesses` not 0, no more of a large grid runs than
  // makes about this many accesses to memory; results are then not to be used.
  virtual Counters count(const Dispatch& dispatch, uint64_t accesses) const = 0;
};

// A kernel of a library, before or after specialisation.
class Function {
 public:
  virtual ~Function() = default;
  virtual const std::string& name() const = 0;
  virtual const std::vector<FunctionConstant>& constants() const = 0;
  // Those of metal_simdgroup, metal_quadgroup and metal_simdgroup_matrix that the kernel may call (simd_functions.h).
  virtual const std::vector<std::string>& simd_functions() const = 0;
  // Throws CompileError, also when static threadgroup memory passes kMaxThreadgroupMemory.
  virtual std::shared_ptr<const Pipeline> make_pipeline() const = 0;
};

class Library {
 public:
  virtual ~Library() = default;
  virtual std::vector<std::string> function_names() const = 0;
  // Null when there is no such kernel. Throws CompileError for a missing required constant or one of the wrong type;
  // `values` absent gives the unspecialised function (whose pipeline needs every constant to be optional).
  virtual std::shared_ptr<const Function> function(const std::string& name,
                                                   const ConstantValues* values = nullptr) const = 0;
};

// Reads and checks the source with typed address spaces; machine code is made by Function::make_pipeline, cached on
// disk by content. Throws CompileError.
std::shared_ptr<const Library> compile(const std::string& source, const CompileOptions& options = {});

}  // namespace mps_simulator::msl
