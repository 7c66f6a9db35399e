// The memory of who touched each byte, in vectors of cells: shadow.h tells what a cell is.
//
// An access is quiet if no check has anything to say to it. Then it is entered into the cells; else they are left
// alone.
#pragma once

#include "shadow.h"

namespace msl_runtime {

template <class Cell, unsigned N>
struct Vector {
  typedef Cell type __attribute__((ext_vector_type(N), aligned(sizeof(Cell))));
};

// An actor, and until when what was done comes before what it does: by others, and in its own simdgroup.
struct Acting {
  const Checks& c;
  const unsigned actor, fence, simd_fence;

  MSL_CHECK Acting(const Checks& c, unsigned memory, unsigned actor)
      : c(c), actor(actor), fence(c.fence[memory]), simd_fence(max(fence, c.simd_fence[memory][actor >> kLaneBits])) {}

  // Which cells of these times are of another actor, with no fence since. `other`: the bits in which the actors differ.
  template <class Cells>
  MSL_CHECK auto conflicts(Cells times, Cells other) const {
    return (other != 0) & (times >= (other >> kLaneBits == 0 ? Cells(simd_fence) : Cells(fence)));
  }
  // What stands for this actor as a reader, and for those together with it that it conflicts with.
  template <class Cells, class Mask>
  MSL_CHECK Cells reader(Cells other, Mask conflicts) const {
    const unsigned simdgroup = (actor & ~(kSimdWidth - 1)) | kWholeSimdgroup;
    const Cells several = other >> kLaneBits == 0 ? Cells(simdgroup) : Cells(kSeveralActors);
    return conflicts ? several : Cells(actor);
  }

 private:
  static MSL_CHECK unsigned max(unsigned a, unsigned b) { return a > b ? a : b; }
};

// Of threadgroup memory.
struct ThreadgroupCells : Acting {
  unsigned *const writes, *const reads;

  MSL_CHECK ThreadgroupCells(Checks& c, unsigned actor)
      : Acting(c, kThreadgroupMemory, actor), writes(c.writes), reads(c.reads) {}

  template <class Cells>
  MSL_CHECK auto races(Cells cells) const {
    return conflicts<Cells>(cells, (cells ^ actor) & kActorMask);
  }

  // The bytes from the one at `at`.
  template <unsigned N>
  MSL_CHECK bool quiet(unsigned long at, bool write) const {
    typedef typename Vector<unsigned, N>::type Cells;
    Cells& last_writes = *reinterpret_cast<Cells*>(writes + at);
    Cells& last_reads = *reinterpret_cast<Cells*>(reads + at);
    const Cells written = last_writes, read = last_reads;
    const auto with_reads = races<Cells>(read);
    if (write) {
      if (__builtin_reduce_or(races<Cells>(written) | with_reads)) return false;
      last_writes = c.now | actor;
    } else {
      if (__builtin_reduce_or(races<Cells>(written) | (written < c.begin))) return false;
      last_reads = c.now | reader<Cells>((read ^ actor) & kActorMask, with_reads);
    }
    return true;
  }
};

// Of the device memory of a buffer that somebody writes to.
struct DeviceCells : Acting {
  DeviceCell *const writes, *const reads;
  const DeviceCell oldest, group;

  MSL_CHECK DeviceCells(const Checks& c, const Bound& b, unsigned actor)
      : Acting(c, kDeviceMemory, actor),
        writes(b.writes),
        reads(b.reads),
        oldest(b.first_group << 32),
        group(c.group << 32) {}

  template <class Cells>
  MSL_CHECK auto races(Cells cells) const {
    const Cells other = (cells ^ actor) & kActorMask;
    const auto in_group = conflicts<Cells>(cells & kNever, other);
    const auto between_groups = (other | (actor ^ kAtomicActor)) != 0;
    return (cells >= oldest) & (cells >> 32 == c.group ? in_group : between_groups);
  }

  // The bytes from the one at `at`, counted from where the cells begin.
  template <unsigned N>
  MSL_CHECK bool quiet(unsigned long at, bool write) const {
    typedef typename Vector<DeviceCell, N>::type Cells;
    Cells& last_writes = *reinterpret_cast<Cells*>(writes + at);
    Cells& last_reads = *reinterpret_cast<Cells*>(reads + at);
    const Cells read = last_reads, now = group | c.now | actor;
    const auto with_reads = races<Cells>(read);
    if (write) {
      if (__builtin_reduce_or(races<Cells>(last_writes) | with_reads)) return false;
      last_writes = now;
      return true;
    }
    if (__builtin_reduce_or(races<Cells>(last_writes))) return false;
    // A reader in another threadgroup, too, conflicts with any write of this one: it may stay. Two of them conflict
    // with each other's.
    const Cells several_groups = group | (kNever & ~kActorMask) | kSeveralGroupsActor;
    const Cells in_group = group | c.now | reader<Cells>((read ^ actor) & kActorMask, with_reads);
    const Cells between_groups = with_reads ? several_groups : read;
    const Cells merged = read >> 32 == c.group ? in_group : between_groups;
    const auto keep = (read & kActorMask) == kSeveralGroupsActor;
    last_reads = read < oldest ? now : keep ? read : merged;
    return true;
  }
};

// Enters an access to the bytes from `i` to `end` into the cells. False if it is not quiet: at byte `i`.
template <class Cells>
MSL_CHECK bool all_quiet(const Cells& cells, unsigned long& i, unsigned long end, bool write) {
  while (i < end) {
    if (end - i >= 16 && cells.template quiet<16>(i, write)) {
      i += 16;
    } else if (cells.template quiet<1>(i, write)) {
      ++i;
    } else {
      return false;
    }
  }
  return true;
}

}  // namespace msl_runtime
