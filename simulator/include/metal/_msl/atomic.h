// metal_atomic.
#pragma once

#include "checks.h"
#include "traits.h"

namespace metal {

enum memory_order { memory_order_relaxed };

template <class T>
struct atomic {
  static_assert(is_same_v<T, int> || is_same_v<T, uint> || is_same_v<T, bool> || is_same_v<T, float> ||
                    is_same_v<T, ulong>,
                "atomic of int, uint, bool, float or ulong");
  atomic() = default;
  atomic(const atomic&) = delete;
  atomic& operator=(const atomic&) = delete;

 private:
  T value;
};
template <>
struct atomic<bool> {  // 4 bytes on a GPU
  atomic() = default;
  atomic(const atomic&) = delete;
  atomic& operator=(const atomic&) = delete;

 private:
  uint value;
};

typedef atomic<int> atomic_int;
typedef atomic<uint> atomic_uint;
typedef atomic<bool> atomic_bool;
typedef atomic<float> atomic_float;
typedef atomic<ulong> atomic_ulong;

namespace msl_atomics {

template <class T>
struct storage {
  typedef T type;
};
template <>
struct storage<bool> {
  typedef uint type;
};
template <>
struct storage<float> {  // bits: the builtins take integers
  typedef uint type;
};

template <class T>
MSL_INLINE typename storage<T>::type encode(T value) {
  return __builtin_bit_cast(typename storage<T>::type, value);
}
template <>
MSL_INLINE uint encode<bool>(bool value) {
  return value;
}
template <class T>
MSL_INLINE T decode(typename storage<T>::type bits) {
  return __builtin_bit_cast(T, bits);
}
template <>
MSL_INLINE bool decode<bool>(uint bits) {
  return bits != 0;
}

template <class T, bool write = true, class P>
MSL_INLINE auto address(P p) -> MSL_UNCHECKED typename storage<T>::type* {
  msl_runtime::check_atomic(p, sizeof(typename storage<T>::type), write);
  return (MSL_UNCHECKED typename storage<T>::type*)(ulong)p;
}

// Any read-modify-write; the old value.
template <class T, class P, class F>
MSL_INLINE T update(P p, F f) {
  auto* a = address<T>(p);
  auto old = __atomic_load_n(a, __ATOMIC_RELAXED);
  while (
      !__atomic_compare_exchange_n(a, &old, encode<T>(f(decode<T>(old))), true, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
  }
  return decode<T>(old);
}

}  // namespace msl_atomics

#define MSL_ATOMIC_FETCH(space, name, CONDITION, ...)                                                   \
  template <class T, MSL_ATOMIC_IF(CONDITION)>                                                          \
  MSL_INLINE T atomic_fetch_##name##_explicit(volatile space atomic<T>* object, remove_cv_t<T> operand, \
                                              memory_order) {                                           \
    return msl_atomics::update<T>(object, [operand](T old) { return static_cast<T>(__VA_ARGS__); });    \
  }
#define MSL_ATOMIC_IF(CONDITION) typename enable_if<(CONDITION), int>::type = 0
// In threadgroup memory, floats have no arithmetic.
#define MSL_ATOMICS(space, ADDS)                                                                                   \
  template <class T>                                                                                               \
  MSL_INLINE void atomic_store_explicit(volatile space atomic<T>* object, remove_cv_t<T> desired, memory_order) {  \
    __atomic_store_n(msl_atomics::address<T>(object), msl_atomics::encode<T>(desired), __ATOMIC_RELAXED);          \
  }                                                                                                                \
  template <class T>                                                                                               \
  MSL_INLINE T atomic_load_explicit(const volatile space atomic<T>* object, memory_order) {                        \
    return msl_atomics::decode<T>(__atomic_load_n(msl_atomics::address<T, false>(object), __ATOMIC_RELAXED));      \
  }                                                                                                                \
  template <class T>                                                                                               \
  MSL_INLINE T atomic_exchange_explicit(volatile space atomic<T>* object, remove_cv_t<T> desired, memory_order) {  \
    return msl_atomics::decode<T>(                                                                                 \
        __atomic_exchange_n(msl_atomics::address<T>(object), msl_atomics::encode<T>(desired), __ATOMIC_RELAXED));  \
  }                                                                                                                \
  template <class T>                                                                                               \
  MSL_INLINE bool atomic_compare_exchange_weak_explicit(volatile space atomic<T>* object, thread T* expected,      \
                                                        remove_cv_t<T> desired, memory_order, memory_order) {      \
    auto bits = msl_atomics::encode<T>(*expected);                                                                 \
    const bool done =                                                                                              \
        __atomic_compare_exchange_n(msl_atomics::address<T>(object), &bits, msl_atomics::encode<T>(desired), true, \
                                    __ATOMIC_RELAXED, __ATOMIC_RELAXED);                                           \
    *expected = msl_atomics::decode<T>(bits);                                                                      \
    return done;                                                                                                   \
  }                                                                                                                \
  MSL_ATOMIC_FETCH(space, add, (is_same_v<T, int> || is_same_v<T, uint> || ADDS), old + operand)                   \
  MSL_ATOMIC_FETCH(space, sub, (is_same_v<T, int> || is_same_v<T, uint> || ADDS), old - operand)                   \
  MSL_ATOMIC_FETCH(space, and, (is_same_v<T, int> || is_same_v<T, uint>), old& operand)                            \
  MSL_ATOMIC_FETCH(space, or, (is_same_v<T, int> || is_same_v<T, uint>), old | operand)                            \
  MSL_ATOMIC_FETCH(space, xor, (is_same_v<T, int> || is_same_v<T, uint>), old ^ operand)                           \
  MSL_ATOMIC_FETCH(space, max, (is_same_v<T, int> || is_same_v<T, uint>), old > operand ? old : operand)           \
  MSL_ATOMIC_FETCH(space, min, (is_same_v<T, int> || is_same_v<T, uint>), old < operand ? old : operand)
MSL_ATOMICS(device, (is_same_v<T, float>))
MSL_ATOMICS(threadgroup, false)
#undef MSL_ATOMICS
#undef MSL_ATOMIC_FETCH
#undef MSL_ATOMIC_IF

}  // namespace metal
