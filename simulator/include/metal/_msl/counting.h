// What a kernel that is compiled with counters (MSL_COUNTERS) shares with the executor: the log of one threadgroup in
// flight. Its code is counted block by block, its accesses to memory one by one: see src/msl/instrument.h.
#pragma once

#include "worker.h"

namespace msl_runtime {

// `what` is instruction << 12 | bytes << 1 | write. Instruction 0 is a row of a simdgroup matrix, which belongs to the
// whole simdgroup and is logged by lane 0; others are numbered as they stand in the program.
struct LoggedAccess {
  unsigned long address;
  unsigned what;
};

constexpr unsigned kMatrixRow = 0;
constexpr unsigned kInstructionShift = 12;

struct Counting {
  unsigned blocks;
  unsigned* executions;  // [thread][block]

  LoggedAccess* next[kMaxThreads];
  LoggedAccess* end[kMaxThreads];

  unsigned matrix_bytes[kSimdgroups];  // of all matrices that a lane now holds a part of
  unsigned most_matrix_bytes;

  void (*grow)(Worker&, unsigned index);  // the log of a thread is full
  void (*barrier)(Worker&);               // all threads have come to one
  void* (*new_matrix)(Worker&);           // room for one 8x8 matrix
  void (*delete_matrix)(Worker&, void*);
};

}  // namespace msl_runtime
