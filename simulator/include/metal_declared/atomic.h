// <metal_atomic>: operations on device and on threadgroup memory, never on a thread's.
#pragma once

#include "simdgroup.h"

namespace metal {
enum memory_order { memory_order_relaxed = 0 };

template <typename T>
struct atomic {
  atomic() = default;
  atomic(const atomic&) = delete;
  atomic& operator=(const atomic&) = delete;
  T value;
};
using atomic_int = atomic<int>;
using atomic_uint = atomic<uint>;
using atomic_bool = atomic<bool>;
using atomic_float = atomic<float>;
using atomic_ulong = atomic<ulong>;

#define FETCH(space, name) \
  template <typename T>    \
  T atomic_fetch_##name##_explicit(volatile space atomic<T>*, typename type_identity<T>::type, memory_order);
#define OPERATIONS(space)                                                                                           \
  FETCH(space, add)                                                                                                 \
  FETCH(space, sub)                                                                                                 \
  FETCH(space, and)                                                                                                 \
  FETCH(space, or)                                                                                                  \
  FETCH(space, xor)                                                                                                 \
  FETCH(space, min)                                                                                                 \
  FETCH(space, max)                                                                                                 \
  template <typename T>                                                                                             \
  T atomic_load_explicit(const volatile space atomic<T>*, memory_order);                                            \
  template <typename T>                                                                                             \
  void atomic_store_explicit(volatile space atomic<T>*, typename type_identity<T>::type, memory_order);             \
  template <typename T>                                                                                             \
  T atomic_exchange_explicit(volatile space atomic<T>*, typename type_identity<T>::type, memory_order);             \
  template <typename T>                                                                                             \
  bool atomic_compare_exchange_weak_explicit(volatile space atomic<T>*, thread T*, typename type_identity<T>::type, \
                                             memory_order, memory_order);
OPERATIONS(device)
OPERATIONS(threadgroup)
#undef FETCH
#undef OPERATIONS
#if __METAL_VERSION__ >= 320
enum thread_scope { thread_scope_thread, thread_scope_simdgroup, thread_scope_threadgroup, thread_scope_device };
void atomic_thread_fence(mem_flags, memory_order, thread_scope = thread_scope_device);
#endif
}  // namespace metal
