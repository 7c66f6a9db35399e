// How a Metal thread waits: by going on with the next one.
//
// The threads of a threadgroup form a ring. Waiting at a barrier is a jump to the next thread; when control is back
// all others have arrived. A simdgroup operation is the same within 32 lanes. Whoever is resumed looks whether what it
// waits for has come, so threads that branched differently only make the ring turn once more.
#pragma once

#include "counting.h"
#include "shadow.h"

namespace msl_runtime {

MSL_INLINE unsigned long stack_pointer() {
#if defined(__x86_64__)
  unsigned long sp;
  __asm__("movq %%rsp, %0" : "=r"(sp));  // not volatile: which stack this is never changes for a thread
  return sp;
#else
  return reinterpret_cast<unsigned long>(__builtin_frame_address(0));
#endif
}

MSL_INLINE unsigned long stack_region() { return stack_pointer() & ~(kRegionBytes - 1); }

#ifdef MSL_COUNTERS
__attribute__((const))
#endif
MSL_INTRINSIC Worker&
worker() {
  return *reinterpret_cast<Worker*>(stack_region());
}

MSL_INTRINSIC MSL_UNCHECKED Worker& unchecked_worker() { return *(MSL_UNCHECKED Worker*)stack_region(); }

#ifdef MSL_COUNTERS
__attribute__((const))
#endif
MSL_INTRINSIC unsigned
this_fiber() {
  return ((stack_pointer() & (kRegionBytes - 1)) >> kStackShift) - 1;
}

// Inlined at each wait, so that each indirect jump has its own history in the branch predictor: 2 ns and not 14.
MSL_INLINE void switch_fiber(Worker& w, unsigned from, unsigned to) {
#if defined(__x86_64__) && !defined(MSL_PORTABLE_SWITCH)
  void** save = &w.stack_pointers[from];
  void** load = &w.stack_pointers[to];
  __asm__ volatile(
      "pushq %%rbp\n\t"
      "pushq %%rbx\n\t"
      "leaq 1f(%%rip), %%rax\n\t"
      "pushq %%rax\n\t"
      "movq %%rsp, (%%rdi)\n\t"
      "movq (%%rsi), %%rsp\n\t"
      "popq %%rax\n\t"
      "jmpq *%%rax\n"
      "1:\n\t"
      "popq %%rbx\n\t"
      "popq %%rbp\n\t"
      : "+D"(save), "+S"(load)
      :
      : "rax", "rcx", "rdx", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "memory", "cc", "xmm0", "xmm1",
        "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14",
        "xmm15"
#if defined(__AVX512F__)
        ,
        "xmm16", "xmm17", "xmm18", "xmm19", "xmm20", "xmm21", "xmm22", "xmm23", "xmm24", "xmm25", "xmm26", "xmm27",
        "xmm28", "xmm29", "xmm30", "xmm31", "k0", "k1", "k2", "k3", "k4", "k5", "k6", "k7"
#endif
  );
#else
  w.switch_fiber(&w, from, to);
#endif
}

#ifdef MSL_CHECKS
// A million barriers in one threadgroup are more than a cell can tell apart: then nobody looks for its races any more.
MSL_RUNTIME void advance(Checks& c) {
  if (c.now <= kNever - 2 * kTick) {
    c.now += kTick;
    return;
  }
  c.fence[kThreadgroupMemory] = c.fence[kDeviceMemory] = kNever;
}
MSL_RUNTIME void order(unsigned& fence, const Checks& c, bool covered) {
  if (covered && fence < c.now) fence = c.now;
}
// All threads have come to a barrier with these mem_flags: what they did before it comes before what follows.
MSL_RUNTIME void order_memory(Worker& w, unsigned flags) {
  Checks& c = *w.checks;
  if (const unsigned t = stray_lane(w); t < w.threads) {
    w.fail(&w, Fault::different_matrices, c.matrix_last[t / kSimdWidth * kSimdWidth], c.matrix_last[t]);
  }
  advance(c);
  order(c.fence[kDeviceMemory], c, flags & kOrdersDevice);
  order(c.fence[kThreadgroupMemory], c, flags & kOrdersThreadgroup);
}
MSL_RUNTIME void order_memory_of_simdgroup(Worker& w, unsigned simdgroup, unsigned flags) {
  Checks& c = *w.checks;
  if (flags == 0) return;
  advance(c);
  order(c.simd_fence[kDeviceMemory][simdgroup], c, flags & kOrdersDevice);
  order(c.simd_fence[kThreadgroupMemory][simdgroup], c, flags & kOrdersThreadgroup);
}
#endif

// The first thread at a barrier, or one at another barrier than the rest.
inline __attribute__((noinline, cold)) void begin_barrier(Worker& w, unsigned site) {
  if (w.arrivals != w.target) w.fail(&w, Fault::different_barriers, site, w.barrier_site);
  if (w.finished != 0) w.fail(&w, Fault::barrier_after_return, site, 0);
  w.suspended = 1;
  w.target += w.threads;
  w.parity ^= kBarrierEven ^ kBarrierOdd;
  w.barrier_site = site;
}

MSL_RUNTIME void threadgroup_barrier(unsigned site, [[maybe_unused]] unsigned flags) {
  Worker& w = worker();
  const unsigned fiber = this_fiber(), place = w.first + fiber;
  if (__builtin_expect((w.arrivals == w.target) | (w.barrier_site != site), 0)) begin_barrier(w, site);
  const unsigned target = w.target;
  ++w.arrivals;
#ifdef MSL_CHECKS
  if (w.arrivals == target) order_memory(w, flags);
#endif
#ifdef MSL_COUNTERS
  if (w.arrivals == target) w.counting->barrier(w);
#endif
  w.waits[w.order[place]] = w.parity;  // stays after the barrier, and then means nothing: the next has the other parity
  const unsigned next = place + 1 < w.threads ? fiber + 1 : 0;
  do {
    switch_fiber(w, fiber, next);
  } while (static_cast<int>(w.arrivals - target) < 0);
}

// Lane 0 may not be so far ahead of a lane that it forgets what that one may ask for: results of the last
// kRemembered / 2 operations. It looks every kRemembered / 4. Who has returned, or waits at a barrier, will not ask.
MSL_RUNTIME bool is_far_ahead(Worker& w, unsigned leader) {
  const unsigned incomplete_barrier = w.arrivals != w.target ? w.parity : kDone;
  for (unsigned t = leader + 1; t < leader + kSimdWidth; ++t) {
    const bool asks = w.waits[t] != kDone && w.waits[t] != incomplete_barrier;
    if (asks && w.matrices->operations[t] + kRemembered / 4 < w.matrices->operations[leader]) return true;
  }
  return false;
}

MSL_RUNTIME bool is_waiting_for_matrices(Worker& w, unsigned thread_index) {
  const unsigned leader = thread_index / kSimdWidth * kSimdWidth;
  if (w.waits[thread_index] == kFollowers) return is_far_ahead(w, leader);
  return w.waits[thread_index] == kLeader && w.matrices->operations[leader] < w.matrices->awaited[thread_index];
}

MSL_INLINE unsigned next_in_simdgroup(const Worker& w, unsigned fiber) {
  const unsigned place = w.first + fiber, begin = place / kSimdWidth * kSimdWidth;
  const unsigned first_fiber = begin > w.first ? begin - w.first : 0;
  return place + 1 < begin + kSimdWidth && place + 1 < w.threads ? fiber + 1 : first_fiber;
}

// Goes on when lane 0 has come to so many matrix operations. (Alone, so that no lane needs to meet the others: a lane
// may ask for its elements where others do not.)
inline __attribute__((noinline, no_sanitize("address", "alignment"))) void await_leader(unsigned operation,
                                                                                        unsigned site) {
  Worker& w = worker();
  const unsigned fiber = this_fiber(), thread_index = w.order[w.first + fiber],
                 leader = thread_index / kSimdWidth * kSimdWidth;
  if (w.matrices->operations[leader] >= operation) return;
  w.suspended = 1;
  w.matrices->awaited[thread_index] = operation;
  w.waits[thread_index] = kLeader;
  do {
    const unsigned wait = w.waits[leader];
    if (wait == kDone || (wait == w.parity && w.arrivals != w.target)) w.fail(&w, Fault::partial_simd_barrier, site, 0);
    switch_fiber(w, fiber, next_in_simdgroup(w, fiber));
  } while (is_waiting_for_matrices(w, thread_index));
  w.waits[thread_index] = kRunnable;
}

inline __attribute__((noinline, no_sanitize("address", "alignment"))) void await_followers() {
  Worker& w = worker();
  const unsigned fiber = this_fiber(), thread_index = w.order[w.first + fiber];
  if (!is_far_ahead(w, thread_index)) return;
  w.suspended = 1;
  w.waits[thread_index] = kFollowers;
  do {
    switch_fiber(w, fiber, next_in_simdgroup(w, fiber));
  } while (is_waiting_for_matrices(w, thread_index));
  w.waits[thread_index] = kRunnable;
}

// Ends the simdgroup operation at `site` if every lane of the simdgroup is in it or cannot come: it waits at a
// threadgroup barrier that is not complete, or for a matrix, or has returned. Those lanes are inactive, as on a GPU.
#ifdef MSL_CHECKS
MSL_RUNTIME
#else
inline __attribute__((noinline))
#endif
void try_complete(Worker& w, unsigned simdgroup, unsigned site, bool all, [[maybe_unused]] unsigned flags) {
  const unsigned begin = simdgroup * kSimdWidth;
  const unsigned lanes = w.threads - begin < kSimdWidth ? w.threads - begin : kSimdWidth;
  const unsigned incomplete_barrier = w.arrivals != w.target ? w.parity : kDone;
  unsigned mask = 0, other_site = 0;
  for (unsigned i = 0; i < lanes; ++i) {
    const unsigned wait = w.waits[begin + i];
    if (wait == site) {
      mask |= 1u << i;
    } else if (wait >= kFirstSite) {
      other_site = wait;
    } else if (wait != kDone && wait != incomplete_barrier && !is_waiting_for_matrices(w, begin + i)) {
      return;
    }
  }
  if (other_site) w.fail(&w, Fault::different_simd_sites, site, other_site);
  if (all && mask != (lanes == kSimdWidth ? ~0u : (1u << lanes) - 1)) {
    w.fail(&w, Fault::partial_simd_barrier, site, 0);
  }
  for (unsigned i = 0; i < lanes; ++i) {
    if (mask >> i & 1) w.waits[begin + i] = kRunnable;
  }
#ifdef MSL_CHECKS
  order_memory_of_simdgroup(w, simdgroup, flags);
#endif
  Simdgroup& s = w.simdgroups[simdgroup];
  s.mask[s.generation & 1] = mask;
  ++s.generation;
}

// The lanes of a simdgroup meet. Before: write to slots[lane]; after: all slots of the lanes in the mask can be read,
// until this lane's next exchange.
struct Exchange {
  Worker& w;
  Simdgroup& s;
  const unsigned generation, set;
  const unsigned fiber, lane;

  MSL_INTRINSIC Exchange() : Exchange(worker(), this_fiber()) {}
  MSL_INTRINSIC Exchange(Worker& w, unsigned fiber)
      : w(w),
        s(w.simdgroups[w.order[w.first + fiber] / kSimdWidth]),
        generation(s.generation),
        set(generation & 1),
        fiber(fiber),
        lane(w.order[w.first + fiber] % kSimdWidth) {}

  template <class T>
  MSL_INLINE T& slot(unsigned i) const {
    static_assert(sizeof(T) <= sizeof(s.slots[0][0]), "a simdgroup operation on a type this large");
    return *reinterpret_cast<T*>(s.slots[set][i]);
  }

  // The lanes that took part.
  MSL_RUNTIME unsigned meet(unsigned site, bool all = false, unsigned flags = 0) const {
    const unsigned thread_index = w.order[w.first + fiber], next = next_in_simdgroup(w, fiber);
    w.suspended = 1;
    w.waits[thread_index] = site;
    do {
      switch_fiber(w, fiber, next);
      if (w.waits[thread_index] == site) try_complete(w, thread_index / kSimdWidth, site, all, flags);
    } while (w.waits[thread_index] == site);
    return s.mask[set];
  }
};

}  // namespace msl_runtime
