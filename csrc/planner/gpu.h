// What is known of Apple's GPUs: the one home of each constant, for the planner and for the model in benchmarks/.
//
// metal-benchmarks: github.com/philipturner/metal-benchmarks, measured on M1 and M2.
#pragma once

#include <array>
#include <cstdint>
#include <string>

namespace mps_conv_transpose3d {

// What a plan depends on.
struct Gpu {
  int cores;
};

// Takes the number of cores from Metal's name of a GPU, "Apple M2 Max".
Gpu gpu_named(const std::string& name);

// One core, by metal-benchmarks. "A cycle" is one of the core's clock.
struct Core {
  int lanes = 128;           // multiply-adds a cycle
  int schedulers = 4;        // simdgroups that issue an instruction a cycle
  int simd_width = 32;       // threads of a simdgroup
  int on_core_bytes = 64;    // from registers to device and threadgroup memory and back, a cycle
  int l2_bytes = 32;         // from the L2 cache, a cycle
  int line_bytes = 128;      // that the caches move at a time
  double attainable = 0.80;  // of the lanes' peak, by simdgroup matrices: 102 of 128 multiply-adds a cycle measured
  int threadgroup_memory = 60 * 1024;  // bytes
  int registers = 208 * 1024;          // bytes
  int max_threads = 3072;              // resident at a time
  int max_words = 128;                 // of 4 bytes that a thread may have; more spill to memory
  // FFMA32 takes 6 cycles, and each scheduler starts one a cycle: so many simdgroups are in flight in a busy core.
  int in_flight_when_busy = 24;
};
inline constexpr Core kCore{};

// A core's share of the memory's bandwidth, in bytes a cycle: the mean of an M1 and an M2 Max.
inline constexpr double kMemoryBytes = 7.2;
// The part of the last-level cache that a core can count on, in bytes.
inline constexpr double kCacheBytes = 1e6;
// Cycles from a dispatch that ends to the next that waits for it: some 2 us.
inline constexpr double kDispatchCycles = 2600;
// Cycles of a simdgroup in which it multiplies two fragments of 8x8: 16 multiply-adds of each lane, at 80 % of peak.
inline constexpr int kMatrixCycles = 20;

// Instructions that one lane issues, by the names of the simulator's counters, and the cycles in which the lane does
// nothing else. From metal-benchmarks, "Instruction Throughputs"; an estimate of a sequence where it says so.
struct Instruction {
  const char* name;
  double cycles;
};
inline constexpr Instruction kInstructions[] = {
    {"fma", 1 / kCore.attainable},
    {"matrix_fma", 1 / kCore.attainable},
    {"float", 1},
    {"float_divide", 30.65},  // precise: fast math is off
    {"float_special", 8},
    {"convert", 4},
    {"bfloat_convert", 8},  // estimate: add, shift, select
    {"integer", 1},
    {"shift", 4},
    {"multiply", 4},
    {"divide", 40},           // estimate: a float's reciprocal, with two corrections
    {"divide_constant", 13},  // estimate: IMULHI32, shift, add
    {"integer64", 4.68},
    {"multiply64", 16.06},
    {"divide64", 160},  // estimate
    {"simdgroup", 2.04},
    {"atomic", 8},  // estimate
    {"access", 1},  // the slot of a load or store that is given to no multiply-add; its bytes are counted apart
};

// Cores, clocks (GHz) and last-level caches (MiB) by metal-benchmarks, bandwidths (GB/s) by Apple. No measured cache of
// an M3 or M4 is known: theirs are taken to be as large as those of the generation before.
struct Chip {
  const char* name;
  int cores;
  double ghz;
  int bandwidth, cache_mib, family;
};
inline constexpr Chip kChips[] = {
    {"M1", 8, 1.278, 68, 8, 7},          {"M1 Pro", 16, 1.296, 205, 24, 7}, {"M1 Max", 32, 1.296, 410, 48, 7},
    {"M1 Ultra", 64, 1.296, 819, 96, 7}, {"M2", 10, 1.398, 102, 8, 8},      {"M2 Pro", 19, 1.398, 205, 24, 8},
    {"M2 Max", 38, 1.398, 410, 48, 8},   {"M3", 10, 1.38, 102, 8, 9},       {"M3 Pro", 18, 1.38, 154, 24, 9},
    {"M3 Max", 40, 1.38, 410, 48, 9},    {"M4", 10, 1.47, 120, 8, 9},       {"M4 Pro", 20, 1.47, 273, 24, 9},
    {"M4 Max", 40, 1.47, 546, 48, 9},
};

// How many threadgroups a core keeps at once: as many as it has registers and threadgroup memory for.
struct Residency {
  int gemm = 3;             // of 128 threads with some 110 words each
  int polyphase = 3;        // by threadgroup memory ...
  int simdgroups = 16;      // ... and by registers, some 100 words a thread
  int scalar = 6;           // of 256 threads
  int busy_simdgroups = 6;  // fewer do not hide the latency of a core's arithmetic on matrices
};
inline constexpr Residency kResidency{};

// The threadgroups of the core that has most of them, where it keeps `resident` at once: the last ones to begin take as
// long as any.
inline int64_t threadgroups_on_a_core(int64_t threadgroups, int64_t resident, const Gpu& gpu) {
  const int64_t at_once = resident * gpu.cores;
  const auto ceil_div = [](int64_t a, int64_t b) { return (a + b - 1) / b; };
  return threadgroups > at_once ? ceil_div(threadgroups, at_once) * resident : ceil_div(threadgroups, gpu.cores);
}

}  // namespace mps_conv_transpose3d
