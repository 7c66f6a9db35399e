// The checks of memory accesses, compiled into a kernel (MSL_CHECKS).
//
// The compiler calls __asan_load4_noabort and its kin before each access, once the optimiser has done its work: what is
// still there then is what would run. The runtime below is ours, and has nothing in common with the address sanitizer.
#pragma once

#include "shadow.h"

#ifdef MSL_CHECKS

#include "cells.h"
#include "fiber.h"

namespace msl_runtime {

inline __attribute__((noinline, cold, no_sanitize("address", "alignment"))) void refuse(Worker& w, Refused r) {
  w.checks->refused = r;
  w.fail(&w, Fault::access, 0, 0);
}

inline __attribute__((noinline, cold, no_sanitize("address", "alignment"))) void refuse_misaligned(
    unsigned long address, bool write, unsigned long alignment, unsigned actor, unsigned long code, unsigned line) {
  refuse(worker(), {Access::misaligned, write, false, actor, 0, 0, address, 0, alignment, code, line});
}

MSL_CHECK void check_threadgroup(Worker& w, unsigned long at, unsigned long size, bool write, unsigned actor,
                                 unsigned long code) {
  Checks& c = *w.checks;
  const unsigned long address = reinterpret_cast<unsigned long>(w.arena) + at;
  const ThreadgroupCells cells(c, actor);
  unsigned long i = at;
  const bool inside = at < c.arena_bytes && at + size <= c.arena_bytes;
  if (inside && all_quiet(cells, i, at + size, write)) return;
  if (!inside || c.writes[i] == kNever) {
    refuse(w, {Access::outside, write, true, actor, 0, 0, address, size, 0, code});
  }
  if (!write && c.writes[i] < c.begin) {
    refuse(w, {Access::unwritten, write, true, actor, 0, 0, address, size, 0, code});
  }
  const unsigned other = cells.races<Vector<unsigned, 1>::type>(c.writes[i])[0] ? c.writes[i] : c.reads[i];
  refuse(w, {Access::race, write, true, actor, other & kActorMask, 0, address, size, 0, code});
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
  unsigned char& hint = c.hints[hint_of(address)];
  if (!allows(c.bound[hint], address, size, write)) {
    unsigned i = 0;
    while (i < c.bounds && !allows(c.bound[i], address, size, write)) ++i;
    if (i == c.bounds) {
      if (is_constant_of_code(address, size, write)) return;
      refuse(w, {Access::outside, write, false, actor, 0, 0, address, size, 0, code});
    }
    hint = static_cast<unsigned char>(i);
  }
  const Bound& b = c.bound[hint];
  if (b.written && !check_written(b.written + (address - b.begin), size, write)) {
    refuse(w, {Access::unwritten, write, false, actor, 0, 0, address, size, 0, code});
  }
  if (!b.writes || address >= b.shadow_end) return;
  const DeviceCells cells(c, b, actor);
  const unsigned long end = address + size < b.shadow_end ? address + size : b.shadow_end;
  unsigned long i = address - b.shadow_begin;
  if (all_quiet(cells, i, end - b.shadow_begin, write)) return;
  const DeviceCell other = cells.races<Vector<DeviceCell, 1>::type>(b.writes[i])[0] ? b.writes[i] : b.reads[i];
  const unsigned long last = other >> 32;
  const bool several = (other & kActorMask) == kSeveralGroupsActor;
  const unsigned long group = last < c.first_group ? last : several ? kSeveralGroups : last == c.group ? 0 : last;
  refuse(w,
         {Access::race, write, false, actor, static_cast<unsigned>(other & kActorMask), group, address, size, 0, code});
}

// Of what this address is, if it is in the region: what lies before and behind threadgroup memory there is the
// executor's, and the stacks of threads, which are no business of the checks.
MSL_CHECK bool is_in_region(const Worker& w, unsigned long address) {
  return address - reinterpret_cast<unsigned long>(&w) < kRegionBytes;
}
MSL_CHECK unsigned long place_in_arena(const Worker& w, unsigned long address) {
  return address - reinterpret_cast<unsigned long>(w.arena);
}
MSL_CHECK bool is_in_arena(unsigned long place) { return place < kStackBytes - __builtin_offsetof(Worker, arena); }

MSL_CHECK void check_anywhere(unsigned long address, unsigned long size, bool write, unsigned actor,
                              unsigned long code) {
  Worker& w = worker();
  const unsigned long place = place_in_arena(w, address);
  if (!is_in_region(w, address)) {
    check_device(w, address, size, write, actor, code);
  } else if (is_in_arena(place)) {
    check_threadgroup(w, place, size, write, actor, code);
  }
}

// Looks at the access, if it can be done at once: for nearly all. False: check_anywhere() must look at it.
template <unsigned long kSize, bool kWrite>
MSL_CHECK bool is_quiet(unsigned long address, unsigned actor) {
  Worker& w = worker();
  Checks& c = *w.checks;
  const unsigned long place = place_in_arena(w, address);
  if (is_in_region(w, address)) {
    if (!is_in_arena(place)) return true;
    if (place >= c.arena_bytes || place + kSize > c.arena_bytes) return false;
    return ThreadgroupCells(c, actor).quiet<kSize>(place, kWrite);
  }
  const Bound& b = c.bound[c.hints[hint_of(address)]];
  if (!allows(b, address, kSize, kWrite)) return false;
  if (b.written && !check_written(b.written + (address - b.begin), kSize, kWrite)) return false;
  if (!b.writes) return true;
  if (address + kSize > b.shadow_end) return false;
  return DeviceCells(c, b, actor).quiet<kSize>(address - b.shadow_begin, kWrite);
}

inline __attribute__((noinline, no_sanitize("address", "alignment"))) void check_access(unsigned long address,
                                                                                        unsigned long size, bool write,
                                                                                        unsigned actor,
                                                                                        unsigned long code) {
  check_anywhere(address, size, write, actor, code);
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
  const unsigned actor = actor_of_simdgroup(this_thread() / kSimdWidth);
  const unsigned long code = reinterpret_cast<unsigned long>(__builtin_return_address(0));
  if (address % element != 0) {
    refuse_misaligned(address, write, element, actor, code, 0);
  }
  for (unsigned i = 0; i < 8; ++i) check_anywhere(address + i * stride, size, write, actor, code);
}

// Every lane of a simdgroup must come to each of its matrix operations: the counts are compared at barriers and at the
// end. Sums of sites, which the compiler adds up for the lanes that do nothing else.
MSL_CHECK void reach_matrix_operation(unsigned site) {
  auto& w = unchecked_worker();
  auto* c = (MSL_UNCHECKED Checks*)(unsigned long)w.checks;
  const unsigned t = w.order[w.first + this_fiber()];
  c->matrices = true;
  c->matrix_sum[t] += site;
  c->matrix_last[t] = site;
}

extern "C" {
extern const char __ehdr_start __attribute__((visibility("hidden")));
extern const char _end __attribute__((visibility("hidden")));

#define MSL_ENTRY __attribute__((used, noinline, visibility("hidden"), no_sanitize("address", "alignment"))) inline
#define MSL_CODE reinterpret_cast<unsigned long>(__builtin_return_address(0))
// The compiler calls these where the alignment is that of the size, or 8 and more: the copy of a vector, of which it
// says nothing else.
#define MSL_ACCESS(name, SIZE, WRITE)                                                          \
  MSL_ENTRY void __asan_##name##_noabort(unsigned long address) {                              \
    const unsigned actor = actor_of_thread(this_thread());                                     \
    constexpr unsigned long alignment = SIZE < 8 ? SIZE : 8;                                   \
    if (address % alignment) refuse_misaligned(address, WRITE, alignment, actor, MSL_CODE, 0); \
    if (is_quiet<SIZE, WRITE>(address, actor)) return;                                         \
    check_access(address, SIZE, WRITE, actor, MSL_CODE);                                       \
  }
#define MSL_ACCESSES(n) MSL_ACCESS(load##n, n, false) MSL_ACCESS(store##n, n, true)
MSL_ACCESSES(1)
MSL_ACCESSES(2)
MSL_ACCESSES(4)
MSL_ACCESSES(8)
MSL_ACCESSES(16)
#undef MSL_ACCESSES
#undef MSL_ACCESS

MSL_ENTRY void __asan_loadN_noabort(unsigned long address, unsigned long size) {
  check_access(address, size, false, actor_of_thread(this_thread()), MSL_CODE);
}
MSL_ENTRY void __asan_storeN_noabort(unsigned long address, unsigned long size) {
  check_access(address, size, true, actor_of_thread(this_thread()), MSL_CODE);
}
MSL_ENTRY void __asan_handle_no_return() {}
MSL_ENTRY void* __asan_memcpy(void* to, const void* from, unsigned long size) {
  const unsigned actor = actor_of_thread(this_thread());
  check_access((unsigned long)from, size, false, actor, MSL_CODE);
  check_access((unsigned long)to, size, true, actor, MSL_CODE);
  return __builtin_memcpy(to, from, size);
}
MSL_ENTRY void* __asan_memmove(void* to, const void* from, unsigned long size) {
  const unsigned actor = actor_of_thread(this_thread());
  check_access((unsigned long)from, size, false, actor, MSL_CODE);
  check_access((unsigned long)to, size, true, actor, MSL_CODE);
  return __builtin_memmove(to, from, size);
}
MSL_ENTRY void* __asan_memset(void* to, int value, unsigned long size) {
  check_access((unsigned long)to, size, true, actor_of_thread(this_thread()), MSL_CODE);
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
  refuse_misaligned(address, m->kind == 1, 1ul << m->log_alignment, actor_of_thread(this_thread()), MSL_CODE,
                    __builtin_strcmp(m->file, "program_source") == 0 ? m->line : 0);
}
#undef MSL_ENTRY
#undef MSL_CODE
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
