// What the checks know of the memory that a threadgroup may touch, and who touched it last: simulator/docs/checks.md.
#pragma once

#include "worker.h"

#define MSL_CHECK inline __attribute__((always_inline, no_sanitize("address", "alignment")))

namespace msl_runtime {

// Who touched a byte, and when: a cell is a time | an actor. Every barrier lets the time advance by kTick.
//
// An actor is a lane of a simdgroup; a simdgroup, whose matrix operations are nobody's in particular; or none of these:
// all atomic operations together, which never conflict, or several readers.
constexpr unsigned kLaneBits = 6;
constexpr unsigned kActorBits = 12;
constexpr unsigned kActorMask = (1u << kActorBits) - 1;
constexpr unsigned kTick = 1u << kActorBits;
constexpr unsigned kNever = ~0u;                  // later than all cells
constexpr unsigned kWholeSimdgroup = kSimdWidth;  // in the place of a lane
constexpr unsigned kNoSimdgroup = kSimdgroups;
constexpr unsigned kAtomicActor = kNoSimdgroup << kLaneBits;
constexpr unsigned kSeveralGroupsActor = kAtomicActor | 1;  // readers of device memory, in several threadgroups
constexpr unsigned kSeveralActors = kAtomicActor | kWholeSimdgroup;

MSL_CHECK constexpr unsigned actor_of_simdgroup(unsigned simdgroup) { return simdgroup << kLaneBits | kWholeSimdgroup; }
MSL_CHECK constexpr unsigned actor_of_thread(unsigned t) { return t / kSimdWidth << kLaneBits | t % kSimdWidth; }

// Above a cell of device memory stands the threadgroup, by a number that no other has had before: nothing orders two of
// them.
typedef unsigned long DeviceCell;
constexpr unsigned long kSeveralGroups = 0xffffffff;

// A variable in threadgroup memory, or an argument there. Nobody may touch what lies between two of them: it bears
// kNever as the time of its last write.
struct Piece {
  unsigned begin, end;
  int index;  // of an argument; -1: a variable
};

// A buffer as bound.
struct Bound {
  unsigned long begin, end;
  unsigned index;
  bool writable;
  // Of each byte from shadow_begin to shadow_end; null when nobody writes to this memory.
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

// Where the buffer of an address stands among those bound, most likely.
constexpr unsigned kHints = 1024;
MSL_CHECK constexpr unsigned hint_of(unsigned long address) { return address / 256 % kHints; }

struct Checks {
  Bound bound[kBuffers];
  unsigned bounds;
  unsigned char hints[kHints];
  Piece pieces[kVariables + kBuffers];
  unsigned piece_count;
  unsigned long arena_bytes;
  unsigned long first_group;  // of the dispatch
  unsigned long group;        // this threadgroup

  unsigned now;
  unsigned begin;                           // when the threadgroup began
  unsigned fence[2];                        // when the last barrier was that covers threadgroup and device memory
  unsigned simd_fence[2][kSimdgroups + 1];  // ... and the last one of the simdgroup alone; the last: of no simdgroup

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
