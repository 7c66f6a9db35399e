// Runs the threadgroups of a dispatch on all cores.
#pragma once

#include <string>
#include <vector>

#include "../../include/metal/_msl/shadow.h"
#include "msl.h"

namespace mps_simulator::msl {

// A kernel in memory. Each entry point runs the calling fiber's thread; lane 0 of a simdgroup has its own.
struct Code {
  void (*leader)() = nullptr;
  void (*follower)() = nullptr;
};

struct ThreadgroupVariable {
  uint32_t id;
  size_t bytes, alignment;
  size_t offset;  // in the arena
};

struct BufferUse {
  uint32_t index;
  bool writable;
  bool constant;
};

class Collector;

struct Launch {
  std::string name;
  Code code;
  std::vector<ThreadgroupVariable> variables;
  std::vector<BufferUse> buffers;
  size_t arena_bytes = 0;                       // used by variables and by arguments
  std::array<size_t, kMaxBuffers> arguments{};  // offsets of threadgroup arguments in the arena
  std::vector<msl_runtime::Piece> pieces;       // of the arena, in order: the variables and the arguments
  const Dispatch* dispatch = nullptr;
  Collector* collector = nullptr;  // of counters, if the code counts: chooses the threadgroups that run
};

// Throws Finding for the first fault.
void execute(const Launch& launch);

}  // namespace mps_simulator::msl
