// The checks of memory accesses, compiled into a kernel (MSL_CHECKS).
//
// The compiler calls __asan_load4_noabort and its kin before each access, once the optimiser has done its work: what is
// still there then is what would run. The runtime below is ours, and has nothing in common with the address sanitizer.
#pragma once

#include "shadow.h"

// A pointer of this kind is not checked: for what was checked as a whole, by a call.
#if defined(MSL_CHECKS) && defined(__x86_64__)
#define MSL_UNCHECKED __attribute__((address_space(272)))
#else
#define MSL_UNCHECKED
#endif

#ifdef MSL_CHECKS

#include "fiber.h"

#define MSL_CHECK inline __attribute__((always_inline, no_sanitize("address", "alignment")))

namespace msl_runtime {

MSL_CHECK unsigned simdgroup_of(unsigned actor) {
  return actor < kMaxThreads                     ? actor / kSimdWidth
         : actor < kSimdgroupActor + kSimdgroups ? actor - kSimdgroupActor
                                                 : kSimdgroups;
}

// No fence stands between the access in `cell` and now, by `actor`.
MSL_CHECK bool unordered(const Checks& c, unsigned memory, unsigned cell, unsigned actor) {
  const unsigned simdgroup = simdgroup_of(actor);
  const bool one_simdgroup = simdgroup < kSimdgroups && simdgroup_of(cell & kActorMask) == simdgroup;
  unsigned fence = c.fence[memory];
  if (one_simdgroup && c.simd_fence[memory][simdgroup] > fence) fence = c.simd_fence[memory][simdgroup];
  return cell >> kActorBits >= fence;
}

MSL_CHECK bool conflict(const Checks& c, unsigned memory, unsigned cell, unsigned actor) {
  return (cell & kActorMask) != actor && unordered(c, memory, cell, actor);
}

// `cell` is the last read, and now `actor` reads.
MSL_CHECK unsigned merged(const Checks& c, unsigned memory, unsigned cell, unsigned actor) {
  const unsigned now = c.clock << kActorBits;
  if (!conflict(c, memory, cell, actor)) return now | actor;
  const unsigned simdgroup = simdgroup_of(actor);
  const bool one_simdgroup = simdgroup < kSimdgroups && simdgroup_of(cell & kActorMask) == simdgroup;
  return now | (one_simdgroup ? kSimdgroupActor + simdgroup : kSeveralActors);
}

inline __attribute__((noinline, cold, no_sanitize("address", "alignment"))) void refuse(Worker& w, Refused r) {
  w.checks->refused = r;
  w.fail(&w, Fault::access, 0, 0);
}

// Byte by byte: only after whole accesses were found to need it.
inline __attribute__((noinline, no_sanitize("address", "alignment"))) void check_threadgroup_bytes(
    Worker& w, unsigned long at, unsigned long size, bool write, unsigned actor, unsigned long code) {
  Checks& c = *w.checks;
  const unsigned now = c.clock << kActorBits;
  const unsigned long address = reinterpret_cast<unsigned long>(w.arena) + at;
  for (unsigned long i = at; i < at + size; ++i) {
    if (!write && c.writes[i] < c.begin << kActorBits) {
      refuse(w, {Access::unwritten, write, true, actor, 0, 0, address, size, 0, code});
    }
    const unsigned cells[] = {c.writes[i], write ? c.reads[i] : 0};
    for (unsigned cell : cells) {
      if (c.races && conflict(c, kThreadgroupMemory, cell, actor)) {
        refuse(w, {Access::race, write, true, actor, cell & kActorMask, 0, address, size, 0, code});
      }
    }
    if (write) {
      c.writes[i] = now | actor;
    } else {
      c.reads[i] = merged(c, kThreadgroupMemory, c.reads[i], actor);
    }
  }
}

template <unsigned N>
MSL_CHECK bool quiet(Checks& c, unsigned long at, bool write, unsigned actor) {
  typedef unsigned Cells __attribute__((ext_vector_type(N), aligned(4)));
  Cells& writes = *reinterpret_cast<Cells*>(&c.writes[at]);
  Cells& reads = *reinterpret_cast<Cells*>(&c.reads[at]);
  const Cells now = (c.clock << kActorBits) | actor, fence = c.fence[kThreadgroupMemory] << kActorBits;
  const auto others_write = (writes >= fence) & (((writes ^ actor) & kActorMask) != 0);
  const auto others_read = (reads >= fence) & (((reads ^ actor) & kActorMask) != 0);
  if (write) {
    if (__builtin_reduce_or(others_write | others_read)) return false;
    writes = now;
    return true;
  }
  const auto several = (reads >= fence) & ((reads & kActorMask) == kSeveralActors);
  if (__builtin_reduce_or(others_write | (others_read & ~several) | (writes < (c.begin << kActorBits)))) return false;
  reads = several ? reads : now;
  return true;
}

MSL_CHECK void check_threadgroup(Worker& w, unsigned long at, unsigned long size, bool write, unsigned actor,
                                 unsigned long code) {
  Checks& c = *w.checks;
  if (at + size > c.arena_bytes) {
    refuse(w,
           {Access::outside, write, true, actor, 0, 0, reinterpret_cast<unsigned long>(w.arena) + at, size, 0, code});
  }
  bool ok = false;
  switch (size) {
    case 2:
      ok = quiet<2>(c, at, write, actor);
      break;
    case 4:
      ok = quiet<4>(c, at, write, actor);
      break;
    case 8:
      ok = quiet<8>(c, at, write, actor);
      break;
    case 16:
      ok = quiet<16>(c, at, write, actor);
      break;
    case 32:
      ok = quiet<16>(c, at, write, actor) && quiet<16>(c, at + 16, write, actor);
      break;
  }
  if (!ok) check_threadgroup_bytes(w, at, size, write, actor, code);
}

MSL_CHECK bool device_conflict(const Checks& c, const Bound& b, DeviceCell cell, unsigned actor) {
  if (cell >> 32 < b.first_group) return false;  // of an earlier dispatch, or none
  if ((cell & kActorMask) == kSeveralGroupsActor) return true;
  if (cell >> 32 != c.group) return (cell & kActorMask) != kAtomicActor || actor != kAtomicActor;
  return conflict(c, kDeviceMemory, static_cast<unsigned>(cell), actor);
}

inline __attribute__((noinline, no_sanitize("address", "alignment"))) void check_device_bytes(
    Worker& w, const Bound& b, unsigned long address, unsigned long size, bool write, unsigned actor,
    unsigned long code) {
  Checks& c = *w.checks;
  const DeviceCell now = c.group << 32 | c.clock << kActorBits | actor;
  unsigned long end = address + size;
  if (end > b.shadow_end) end = b.shadow_end;
  const unsigned long last = (end - 1 - b.shadow_begin) / kBytesPerCell;
  for (unsigned long i = (address - b.shadow_begin) / kBytesPerCell; i <= last; ++i) {
    DeviceCell& last_write = b.writes[i];
    DeviceCell& last_read = b.reads[i];
    const DeviceCell cells[] = {last_write, last_read};
    for (unsigned k = 0; k < 1 + write; ++k) {
      const DeviceCell cell = cells[k];
      if (c.races && device_conflict(c, b, cell, actor)) {
        refuse(w, {Access::race, write, false, actor, static_cast<unsigned>(cell & kActorMask),
                   (cell & kActorMask) == kSeveralGroupsActor ? kSeveralGroups
                   : cell >> 32 == c.group                    ? 0
                                                              : cell >> 32,
                   address, size, 0, code});
      }
    }
    if (write) {
      last_write = now;
    } else if (last_read != now) {
      // That of another threadgroup is kept as it is: it, too, conflicts with any write of this one. Two of them
      // conflict with each other's.
      if (last_read >> 32 < b.first_group) {
        last_read = now;
      } else if ((last_read & kActorMask) == kSeveralGroupsActor) {
        continue;
      } else if (last_read >> 32 == c.group) {
        last_read = c.group << 32 | merged(c, kDeviceMemory, static_cast<unsigned>(last_read), actor);
      } else if (actor != kAtomicActor || (last_read & kActorMask) != kAtomicActor) {
        last_read = c.group << 32 | kSeveralGroupsActor;
      }
    }
  }
}

inline __attribute__((noinline, cold, no_sanitize("address", "alignment"))) bool is_constant_of_code(
    unsigned long address, unsigned long size, bool write);

// Marks what is written. False: a byte that is read was not.
MSL_CHECK bool check_written(unsigned char* at, unsigned long size, bool write) {
  if (write) {
    __builtin_memset(at, 0xff, size);
    return true;
  }
  unsigned char all = 0xff;
  for (unsigned long i = 0; i < size; ++i) all &= at[i];
  return all != 0;
}

MSL_CHECK bool allows(const Bound& b, unsigned long address, unsigned long size, bool write) {
  return address >= b.begin && address + size <= b.end && (!write || b.writable);
}

MSL_CHECK void check_device(Worker& w, unsigned long address, unsigned long size, bool write, unsigned actor,
                            unsigned long code) {
  Checks& c = *w.checks;
  if (c.bounds == 0 || !allows(c.bound[c.last], address, size, write)) {
    unsigned i = 0;
    while (i < c.bounds && !allows(c.bound[i], address, size, write)) ++i;
    if (i == c.bounds) {
      if (is_constant_of_code(address, size, write)) return;
      refuse(w, {Access::outside, write, false, actor, 0, 0, address, size, 0, code});
    }
    c.last = i;
  }
  const Bound& b = c.bound[c.last];
  if (b.written && !check_written(b.written + (address - b.begin), size, write)) {
    refuse(w, {Access::unwritten, write, false, actor, 0, 0, address, size, 0, code});
  }
  if (b.writes && address < b.shadow_end && size > 1) check_device_bytes(w, b, address, size, write, actor, code);
}

// Any access. Threads have their stacks, and the executor its own data, in the region: no business of the checks.
MSL_CHECK void check_access(unsigned long address, unsigned long size, bool write, unsigned actor, unsigned long code) {
  Worker& w = worker();
  if (address - reinterpret_cast<unsigned long>(&w) >= kRegionBytes) {
    check_device(w, address, size, write, actor, code);
  } else if (const unsigned long at = address - reinterpret_cast<unsigned long>(w.arena);
             at < kStackBytes - __builtin_offsetof(Worker, arena)) {
    check_threadgroup(w, at, size, write, actor, code);
  }
}

MSL_CHECK unsigned this_thread() {
  const Worker& w = worker();
  return w.order[w.first + this_fiber()];
}

// An atomic operation on the object at `p`.
template <class P>
inline __attribute__((noinline, no_sanitize("address", "alignment"))) void check_atomic(P p, unsigned size,
                                                                                        bool write) {
  check_access((unsigned long)p, size, write, kAtomicActor,
               reinterpret_cast<unsigned long>(__builtin_return_address(0)));
}

// Eight rows of a matrix, by a whole simdgroup.
inline __attribute__((noinline, no_sanitize("address", "alignment"))) void check_rows(unsigned long address,
                                                                                      unsigned long stride,
                                                                                      unsigned long element,
                                                                                      bool write) {
  const unsigned long size = 8 * element;
  const unsigned actor = kSimdgroupActor + this_thread() / kSimdWidth;
  const unsigned long code = reinterpret_cast<unsigned long>(__builtin_return_address(0));
  if (address % element != 0) {
    refuse(worker(), {Access::misaligned, write, false, actor, 0, 0, address, 0, element, code});
  }
  for (unsigned i = 0; i < 8; ++i) check_access(address + i * stride, size, write, actor, code);
}

// Every lane of a simdgroup must come to each of its matrix operations: the counts are compared at barriers and at the
// end. Sums of sites, which the compiler adds up for the lanes that do nothing else.
MSL_CHECK void reach_matrix_operation(unsigned site) {
  auto* w = (MSL_UNCHECKED Worker*)stack_region();
  auto* c = (MSL_UNCHECKED Checks*)(unsigned long)w->checks;
  const unsigned t = w->order[w->first + this_fiber()];
  c->matrices = true;
  c->matrix_sum[t] += site;
  c->matrix_last[t] = site;
}

extern "C" {
extern const char __ehdr_start __attribute__((visibility("hidden")));
extern const char _end __attribute__((visibility("hidden")));

#define MSL_ENTRY __attribute__((used, noinline, visibility("hidden"), no_sanitize("address", "alignment"))) inline
#define MSL_ACCESS(name, SIZE, WRITE, ...)                                                                           \
  MSL_ENTRY void __asan_##name##_noabort(unsigned long address __VA_ARGS__) {                                        \
    check_access(address, SIZE, WRITE, this_thread(), reinterpret_cast<unsigned long>(__builtin_return_address(0))); \
  }
#define MSL_ACCESSES(n) MSL_ACCESS(load##n, n, false) MSL_ACCESS(store##n, n, true)
MSL_ACCESSES(1)
MSL_ACCESSES(2)
MSL_ACCESSES(4)
MSL_ACCESSES(8)
MSL_ACCESSES(16)
MSL_ACCESS(loadN, size, false, , unsigned long size)
MSL_ACCESS(storeN, size, true, , unsigned long size)
#undef MSL_ACCESSES
#undef MSL_ACCESS

MSL_ENTRY void __asan_handle_no_return() {}
MSL_ENTRY void* __asan_memcpy(void* to, const void* from, unsigned long size) {
  const auto code = reinterpret_cast<unsigned long>(__builtin_return_address(0));
  check_access((unsigned long)from, size, false, this_thread(), code);
  check_access((unsigned long)to, size, true, this_thread(), code);
  return __builtin_memcpy(to, from, size);
}
MSL_ENTRY void* __asan_memmove(void* to, const void* from, unsigned long size) {
  const auto code = reinterpret_cast<unsigned long>(__builtin_return_address(0));
  check_access((unsigned long)from, size, false, this_thread(), code);
  check_access((unsigned long)to, size, true, this_thread(), code);
  return __builtin_memmove(to, from, size);
}
MSL_ENTRY void* __asan_memset(void* to, int value, unsigned long size) {
  check_access((unsigned long)to, size, true, this_thread(),
               reinterpret_cast<unsigned long>(__builtin_return_address(0)));
  return __builtin_memset(to, value, size);
}

// What the compiler knows of a place where it found a pointer misaligned, or null, for what it points to.
struct MslTypeMismatch {
  const char* file;
  unsigned line, column;  // of the shader if the file is "program_source", else of a header
  const void* type;
  unsigned char log_alignment;
  unsigned char kind;
};
MSL_ENTRY void __ubsan_handle_type_mismatch_v1_abort(const MslTypeMismatch* m, unsigned long address) {
  refuse(worker(), {Access::misaligned, m->kind == 1, false, this_thread(), 0, 0, address, 0, 1ul << m->log_alignment,
                    reinterpret_cast<unsigned long>(__builtin_return_address(0)),
                    __builtin_strcmp(m->file, "program_source") == 0 ? m->line : 0});
}
#undef MSL_ENTRY
}

bool is_constant_of_code(unsigned long address, unsigned long size, bool write) {
  return !write && address >= reinterpret_cast<unsigned long>(&__ehdr_start) &&
         address + size <= reinterpret_cast<unsigned long>(&_end);
}

}  // namespace msl_runtime

#else

namespace msl_runtime {
template <class P>
MSL_INLINE void check_atomic(P, unsigned, bool) {}
MSL_INLINE void check_rows(unsigned long, unsigned long, unsigned long, bool) {}
MSL_INLINE void reach_matrix_operation(unsigned) {}
}  // namespace msl_runtime

#endif
