// What the checks know of the memory that a threadgroup may touch, and who touched it last: docs/simulator.md.
#pragma once

#include "worker.h"

namespace msl_runtime {

// Who touched a byte, and when: a cell is clock << kActorBits | actor. Every barrier advances the clock.
//
// An actor is a thread, by its index; a simdgroup, whose matrix operations are nobody's in particular; all atomic
// operations together, which never conflict; or several readers.
constexpr unsigned kActorBits = 11;
constexpr unsigned kActorMask = (1u << kActorBits) - 1;
constexpr unsigned kSimdgroupActor = kMaxThreads;         // and the next 31
constexpr unsigned kSeveralGroupsActor = kActorMask - 2;  // readers of device memory, in several threadgroups
constexpr unsigned kAtomicActor = kActorMask - 1;
constexpr unsigned kSeveralActors = kActorMask;
constexpr unsigned kClockLimit = 1u << (32 - kActorBits);

// Above a cell of device memory stands the threadgroup, by a number that no other has had before: nothing orders two of
// them. It stands for two bytes, as an access of one byte is not looked at there.
typedef unsigned long DeviceCell;
constexpr unsigned long kBytesPerCell = 2;
constexpr unsigned long kSeveralGroups = 0xffffffff;

// A buffer as bound.
struct Bound {
  unsigned long begin, end;
  unsigned index;
  bool writable;
  // Of the byte at shadow_begin and the following; null when nobody writes to this memory.
  unsigned long shadow_begin, shadow_end;
  DeviceCell* writes;
  DeviceCell* reads;
  unsigned long first_group;  // cells of earlier ones are out of date
  unsigned char* written;     // of the byte at `begin` and the following: 0xff, or 0; null when all were written
};

enum class Access : unsigned char { outside, misaligned, unwritten, race };

// The access that a check refused.
struct Refused {
  Access what;
  bool write;
  bool local;                 // threadgroup memory
  unsigned actor, other;      // of a race
  unsigned long other_group;  // 0: this one
  unsigned long address, size, alignment;
  unsigned long code;  // where in the kernel's machine code
  unsigned line;       // of the shader, where it is known
};

struct Checks {
  Bound bound[kBuffers];
  unsigned bounds;
  unsigned last;  // used
  bool races;
  unsigned long arena_bytes;
  unsigned long first_group;  // of the dispatch
  unsigned long group;        // this threadgroup

  unsigned clock;
  unsigned begin;                       // the clock when the threadgroup began
  unsigned fence[2];                    // ... at the last barrier that covers threadgroup and device memory
  unsigned simd_fence[2][kSimdgroups];  // ... or at one of the simdgroup alone, whichever came later

  // Of each thread: the sum of the sites of its simdgroup matrix operations, and the site of the last.
  bool matrices;
  unsigned matrix_sum[kMaxThreads], matrix_last[kMaxThreads];

  Refused refused;
  // Of each byte of the arena.
  unsigned writes[kArenaBytes], reads[kArenaBytes];
};

// The first lane of a simdgroup that did not do the same matrix operations as all lanes before; the number of threads
// if there is none.
MSL_RUNTIME unsigned stray_lane(const Worker& w) {
  const Checks& c = *w.checks;
  if (!c.matrices) return w.threads;
  for (unsigned t = 0; t < w.threads; ++t) {
    if (c.matrix_sum[t] != c.matrix_sum[t / kSimdWidth * kSimdWidth]) return t;
  }
  return w.threads;
}

constexpr unsigned kThreadgroupMemory = 0, kDeviceMemory = 1;
constexpr unsigned kOrdersDevice = 1, kOrdersThreadgroup = 2;  // of mem_flags

}  // namespace msl_runtime
