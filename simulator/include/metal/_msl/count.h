// The calls that the compiler inserts into a kernel with counters, and what the library counts by itself.
#pragma once

#include "fiber.h"

namespace msl_runtime {

#ifdef MSL_COUNTERS

MSL_INLINE void log_access(Worker& w, unsigned index, unsigned long address, unsigned what) {
  Counting& c = *w.counting;
  if (c.next[index] == c.end[index]) c.grow(w, index);
  *c.next[index]++ = {address, what};
}

extern "C" {
__attribute__((used, noinline)) inline void msl_count_block(unsigned block) {
  Worker& w = *reinterpret_cast<Worker*>(stack_pointer() & ~(kRegionBytes - 1));
  const unsigned fiber = ((stack_pointer() & (kRegionBytes - 1)) >> kStackShift) - 1;
  Counting& c = *w.counting;
  ++c.executions[w.order[w.first + fiber] * c.blocks + block];
}

// A thread's own memory is no memory of a GPU's but registers.
__attribute__((used, noinline)) inline void msl_count_access(const void* p, unsigned what) {
  const unsigned long address = reinterpret_cast<unsigned long>(p);
  Worker& w = *reinterpret_cast<Worker*>(stack_pointer() & ~(kRegionBytes - 1));
  if (address - reinterpret_cast<unsigned long>(&w) < kRegionBytes &&
      address - reinterpret_cast<unsigned long>(w.arena) >= kArenaBytes) {
    return;
  }
  const unsigned fiber = ((stack_pointer() & (kRegionBytes - 1)) >> kStackShift) - 1;
  log_access(w, w.order[w.first + fiber], address, what);
}
}

MSL_INLINE unsigned this_lane() {
  const Worker& w = worker();
  return w.order[w.first + this_fiber()] % kSimdWidth;
}

// Eight rows of a matrix, by a whole simdgroup.
MSL_INLINE void count_rows(unsigned long address, unsigned long stride, unsigned long element, bool write) {
  Worker& w = worker();
  const unsigned index = w.order[w.first + this_fiber()];
  for (unsigned i = 0; i < 8; ++i) {
    log_access(w, index, address + i * stride, kMatrixRow << kInstructionShift | unsigned(8 * element) << 1 | write);
  }
}

// A simdgroup's matrix, of elements of this size, begins to take up two registers of each lane. Null: lanes other than
// the first, which do without it.
__attribute__((noinline)) inline void* new_matrix(unsigned element) {
  Worker& w = worker();
  if (this_lane() != 0) return nullptr;
  Counting& c = *w.counting;
  unsigned& bytes = c.matrix_bytes[w.order[w.first + this_fiber()] / kSimdWidth];
  bytes += 2 * element;
  if (bytes > c.most_matrix_bytes) c.most_matrix_bytes = bytes;
  return c.new_matrix(w);
}
__attribute__((noinline)) inline void delete_matrix(void* matrix, unsigned element) {
  Worker& w = worker();
  if (!matrix) return;
  w.counting->matrix_bytes[w.order[w.first + this_fiber()] / kSimdWidth] -= 2 * element;
  w.counting->delete_matrix(w, matrix);
}

#else

MSL_INLINE void count_rows(unsigned long, unsigned long, unsigned long, bool) {}

#endif

}  // namespace msl_runtime
