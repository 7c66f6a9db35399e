// The C library's <time.h>, and the clock call that Darwin adds to it.
#include_next <time.h>

#ifndef MPS_SIMULATOR_TIME_H
#define MPS_SIMULATOR_TIME_H
#if defined(CLOCK_MONOTONIC_RAW)
#include <stdint.h>

static inline uint64_t clock_gettime_nsec_np(clockid_t clock) {
  struct timespec now;
  if (clock_gettime(clock, &now)) return 0;
  return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}
#endif
#endif
