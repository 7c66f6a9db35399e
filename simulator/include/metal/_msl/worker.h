// What the executor and a running kernel share: the state of one threadgroup in flight.
//
// Each CPU thread that runs threadgroups owns one Region, aligned to its size: a Worker, then one stack for each Metal
// thread. So a kernel finds its Worker and its own place in it from the stack pointer alone, however deep in the
// shader's functions it is. Included by both sides, and therefore plain C++.
#pragma once

#define MSL_INLINE inline __attribute__((always_inline))
// For functions of the runtime that touch its own data: they are not to be checked, and therefore not inlined.
#ifdef MSL_CHECKS
#define MSL_RUNTIME inline __attribute__((noinline, no_sanitize("address", "alignment")))
#elif defined(MSL_COUNTERS)
#define MSL_RUNTIME inline __attribute__((noinline))
#else
#define MSL_RUNTIME MSL_INLINE
#endif
// For what is an instruction, or nothing, on a GPU: counted as such, and not by the code that stands for it here.
#ifdef MSL_COUNTERS
#define MSL_INTRINSIC inline __attribute__((noinline))
#else
#define MSL_INTRINSIC MSL_INLINE
#endif
// A pointer of this kind is not checked: to the runtime's own data, or to what a call has checked as a whole.
#if defined(MSL_CHECKS) && defined(__x86_64__)
#define MSL_UNCHECKED __attribute__((address_space(272)))
#else
#define MSL_UNCHECKED
#endif

namespace msl_runtime {

constexpr unsigned kMaxThreads = 1024;
constexpr unsigned kSimdWidth = 32;
constexpr unsigned kSimdgroups = kMaxThreads / kSimdWidth;
constexpr unsigned kBuffers = 31;
constexpr unsigned kVariables = 256;
constexpr unsigned long kArenaBytes = (32 + 4) * 1024;  // what Metal gives a threadgroup, and gaps
constexpr unsigned long kStackShift = 17;
constexpr unsigned long kStackBytes = 1ul << kStackShift;
constexpr unsigned long kRegionBytes = 1ul << 28;  // 1 Worker and 1024 stacks, and a power of two: mostly never touched

// What a thread waits for. Anything else is a simdgroup operation, named by its place in the source (MSL_SITE).
enum Wait : unsigned {
  kRunnable = 0,
  kDone = 1,
  kBarrierEven = 2,
  kBarrierOdd = 3,
  kLeader = 4,     // the result of a matrix operation, which lane 0 has
  kFollowers = 5,  // lane 0, before it forgets results that others may ask for
  kFirstSite = 256,
};

enum class Fault : unsigned {
  none,
  barrier_after_return,  // a barrier was reached after another thread had returned, or the other way round
  different_barriers,    // threads of one threadgroup wait at two places
  different_simd_sites,  // lanes of one simdgroup wait in two different simdgroup operations
  partial_simd_barrier,  // a simdgroup barrier that some lanes do not reach
  partial_simdgroup,     // a simdgroup matrix in a simdgroup of fewer than 32 threads
  different_matrices,    // lanes of one simdgroup came to different simdgroup matrix operations
  access,                // an access that a check refused: Checks::refused
  memory,                // an address that is nobody's
  misaligned,            // an address that is no multiple of what its instruction needs
  stack,                 // more thread memory than there is
  division,              // an integer divided by 0, or the least one by -1
};

struct Uint3 {
  unsigned x, y, z;
};

struct Place {
  unsigned short x, y, z;
};

// Values on their way between the lanes of a simdgroup. Two sets, used in turn: a lane that is ahead writes to one
// while the others still read the other, and cannot come further ahead than that.
struct Simdgroup {
  unsigned generation;
  unsigned mask[2];     // the lanes that took part
  unsigned reduced[2];  // the generation whose reduction `result` holds
  alignas(64) unsigned char result[2][32];
  unsigned char slots[2][kSimdWidth][32];
};

// Of kernels that use thread_elements().
constexpr unsigned kRemembered = 256;  // results of matrix operations, of each simdgroup
struct Matrices {
  unsigned operations[kMaxThreads];                                        // that each thread has come to
  unsigned awaited[kMaxThreads];                                           // the one whose result it waits for
  alignas(64) unsigned char results[kSimdgroups][kRemembered][8 * 8 * 4];  // by number
};

struct Checks;
struct Counting;

struct Worker {
  // The threadgroup in flight. Fiber f runs thread order[first + f]; those before order[first] have returned.
  unsigned threads;
  unsigned first;
  unsigned finished;
  unsigned suspended;  // some thread has waited: from here on every thread needs a stack of its own
  unsigned arrivals;   // at barriers, ever since the threadgroup began
  unsigned target;     // arrivals when the barrier in progress, or the last, is complete
  unsigned parity;     // of the barrier in progress: kBarrierEven or kBarrierOdd
  unsigned barrier_site;

  Uint3 threads_per_grid;
  Uint3 threadgroups_per_grid;
  Uint3 threads_per_threadgroup;           // of this threadgroup, smaller at the edge of a grid
  Uint3 dispatch_threads_per_threadgroup;  // of all others
  Uint3 threadgroup_position;

  void* buffers[kBuffers];
  void* threadgroup_memory[kBuffers];
  void* threadgroup_variables[kVariables];

  Matrices* matrices;
  Checks* checks;      // null: the kernel is compiled without
  Counting* counting;  // null: the kernel is compiled without

  // The kernel: for the first thread of a simdgroup, and for the others. Here and in no thread_local, because a fiber
  // goes on with whichever CPU thread runs the next dispatch.
  void (*leader)();
  void (*follower)();
  void (*fail)(Worker*, Fault, unsigned site, unsigned other_site);  // does not return
  void (*switch_fiber)(Worker*, unsigned from, unsigned to);         // where there is no inline switch

  Fault fault;
  unsigned fault_site, fault_other_site;
  struct {
    void* address;       // that was touched
    unsigned long code;  // the instruction
    unsigned thread;
  } signal;        // that stopped the kernel
  unsigned epoch;  // counts threadgroups: a fiber that is resumed in a new one has a new thread to run

  void* stack_pointers[kMaxThreads + 1];  // of the fibers, and of the executor
  unsigned waits[kMaxThreads];
  unsigned short order[kMaxThreads];  // of threads: simdgroup by simdgroup, an incomplete one at the end
  Uint3 positions_of;                 // the threadgroup size that `position_in_threadgroup` is for
  Place position_in_threadgroup[kMaxThreads];
  Simdgroup simdgroups[kSimdgroups];
  alignas(256) unsigned char arena[kArenaBytes];
};

static_assert(sizeof(Worker) <= kStackBytes, "a Worker takes the place of one stack");
static_assert((kMaxThreads + 1) * kStackBytes <= kRegionBytes, "a Region holds one Worker and all stacks");

}  // namespace msl_runtime
