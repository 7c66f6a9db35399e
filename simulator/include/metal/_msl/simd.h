// metal_simdgroup and metal_quadgroup: operations between the lanes of a simdgroup that execute them together.
#pragma once

#include "fiber.h"
#include "math.h"

// Exchanges are the runtime's own business: not to be checked, and therefore not inlined. What they call must be.
#ifdef MSL_CHECKS
#define MSL_EXCHANGE MSL_RUNTIME
#else
#define MSL_EXCHANGE MSL_INTRINSIC
#endif
#define MSL_INLINED __attribute__((always_inline))

namespace msl_runtime {

// What a lane gets from one that does not take part: undefined on a GPU, all ones here, which is a NaN and never 0.
template <class T>
MSL_INLINE T inactive_value() {
  T value;
  __builtin_memset(&value, 0xff, sizeof(T));
  return value;
}
template <>
MSL_INLINE bool inactive_value<bool>() {
  return true;
}

// What the hardware exchanges: scalars of up to 32 bits and vectors of them.
template <class T>
struct simd_type {
  typedef typename msl_types::element_of<T>::type E;
  static const bool value = __is_arithmetic(E) && sizeof(E) <= 4;
};

// Every lane gives a value; `read` then sees all of them and the mask of those that did.
template <class T, class F>
MSL_EXCHANGE auto exchange(T value, unsigned site, F read)
    -> decltype(read(static_cast<const Exchange&>(Exchange()), 0u)) {
  const Exchange e;
  e.slot<T>(e.lane) = value;
  const unsigned mask = e.meet(site);
  return read(e, mask);
}

template <class T>
MSL_INLINE T value_of(const Exchange& e, unsigned mask, unsigned lane) {
  return lane < kSimdWidth && mask >> lane & 1 ? e.slot<T>(lane) : inactive_value<T>();
}

// In the order of lanes, pairwise: the same tree whatever the order in which the lanes arrived.
template <class T, class F>
MSL_INLINE T reduce(const Exchange& e, unsigned mask, unsigned begin, unsigned count, F f) {
  T values[kSimdWidth];
  bool have[kSimdWidth];
  for (unsigned i = 0; i < count; ++i) {
    have[i] = mask >> (begin + i) & 1;
    values[i] = e.slot<T>(begin + i);
  }
  for (unsigned step = 1; step < count; step *= 2) {
    for (unsigned i = 0; i + step < count; i += 2 * step) {
      if (!have[i + step]) continue;
      values[i] = have[i] ? f(values[i], values[i + step]) : values[i + step];
      have[i] = true;
    }
  }
  return values[0];
}

// The reduction of a whole simdgroup: the first lane that comes here does it for all.
template <class T, class F>
MSL_INLINE T reduce_once(const Exchange& e, unsigned mask, F f) {
  T& result = *reinterpret_cast<T*>(e.s.result[e.set]);
  if (e.s.reduced[e.set] != e.generation) {
    e.s.reduced[e.set] = e.generation;
    result = reduce<T>(e, mask, 0, kSimdWidth, f);
  }
  return result;
}

template <class T, class F>
MSL_INLINE T scan(const Exchange& e, unsigned mask, unsigned end, T identity, F f) {
  T r = identity;
  for (unsigned i = 0; i < end; ++i) {
    if (mask >> i & 1) r = f(r, e.slot<T>(i));
  }
  return r;
}

}  // namespace msl_runtime

#define MSL_SIMD_TYPE(T) MSL_IF(msl_runtime::simd_type<T>::value)
#define MSL_SIMD_INTEGER(T) \
  MSL_IF(msl_runtime::simd_type<T>::value&& __is_integral(typename msl_types::element_of<T>::type))

namespace metal {

#define MSL_REDUCTION(name, CONDITION, ...)                                                                          \
  template <class T, CONDITION(T)>                                                                                   \
  MSL_INLINE T simd_##name(T data, MSL_SITE) {                                                                       \
    return msl_runtime::exchange(data, msl_site, [](const msl_runtime::Exchange& e, unsigned mask) MSL_INLINED {     \
      return msl_runtime::reduce_once<T>(e, mask, [](T a, T b) MSL_INLINED { return static_cast<T>(__VA_ARGS__); }); \
    });                                                                                                              \
  }                                                                                                                  \
  template <class T, CONDITION(T)>                                                                                   \
  MSL_INLINE T quad_##name(T data, MSL_SITE) {                                                                       \
    return msl_runtime::exchange(data, msl_site, [](const msl_runtime::Exchange& e, unsigned mask) MSL_INLINED {     \
      return msl_runtime::reduce<T>(e, mask, e.lane & ~3u, 4,                                                        \
                                    [](T a, T b) MSL_INLINED { return static_cast<T>(__VA_ARGS__); });               \
    });                                                                                                              \
  }
MSL_REDUCTION(sum, MSL_SIMD_TYPE, a + b)
MSL_REDUCTION(product, MSL_SIMD_TYPE, a* b)
MSL_REDUCTION(min, MSL_SIMD_TYPE, metal::min(a, b))
MSL_REDUCTION(max, MSL_SIMD_TYPE, metal::max(a, b))
MSL_REDUCTION(and, MSL_SIMD_INTEGER, a& b)
MSL_REDUCTION(or, MSL_SIMD_INTEGER, a | b)
MSL_REDUCTION(xor, MSL_SIMD_INTEGER, a ^ b)
#undef MSL_REDUCTION

#define MSL_PREFIX(name, IDENTITY, ...)                                                                          \
  template <class T, MSL_SIMD_TYPE(T)>                                                                           \
  MSL_INLINE T simd_prefix_exclusive_##name(T data, MSL_SITE) {                                                  \
    return msl_runtime::exchange(data, msl_site, [](const msl_runtime::Exchange& e, unsigned mask) MSL_INLINED { \
      return msl_runtime::scan<T>(e, mask, e.lane, T(IDENTITY),                                                  \
                                  [](T a, T b) MSL_INLINED { return static_cast<T>(__VA_ARGS__); });             \
    });                                                                                                          \
  }                                                                                                              \
  template <class T, MSL_SIMD_TYPE(T)>                                                                           \
  MSL_INLINE T simd_prefix_inclusive_##name(T data, MSL_SITE) {                                                  \
    return msl_runtime::exchange(data, msl_site, [](const msl_runtime::Exchange& e, unsigned mask) MSL_INLINED { \
      return msl_runtime::scan<T>(e, mask, e.lane + 1, T(IDENTITY),                                              \
                                  [](T a, T b) MSL_INLINED { return static_cast<T>(__VA_ARGS__); });             \
    });                                                                                                          \
  }
MSL_PREFIX(sum, 0, a + b)
MSL_PREFIX(product, 1, a* b)
#undef MSL_PREFIX

// PARTNER: the lane whose value this one gets, from `lane`, its own, and `k`, the argument.
#define MSL_SHUFFLE(name, PARTNER)                                                                                \
  template <class T, MSL_SIMD_TYPE(T)>                                                                            \
  MSL_INLINE T name(T data, ushort k, MSL_SITE) {                                                                 \
    return msl_runtime::exchange(data, msl_site, [k](const msl_runtime::Exchange& e, unsigned mask) MSL_INLINED { \
      const unsigned lane = e.lane;                                                                               \
      return msl_runtime::value_of<T>(e, mask, PARTNER);                                                          \
    });                                                                                                           \
  }
MSL_SHUFFLE(simd_shuffle, k)
MSL_SHUFFLE(simd_broadcast, k)
MSL_SHUFFLE(simd_shuffle_xor, lane ^ k)
MSL_SHUFFLE(simd_shuffle_up, lane >= k ? lane - k : 32)
MSL_SHUFFLE(simd_shuffle_down, lane + k)
MSL_SHUFFLE(simd_shuffle_rotate_up, (lane - k) & 31)
MSL_SHUFFLE(simd_shuffle_rotate_down, (lane + k) & 31)
MSL_SHUFFLE(quad_shuffle, (lane & ~3u) + k)
MSL_SHUFFLE(quad_broadcast, (lane & ~3u) + k)
MSL_SHUFFLE(quad_shuffle_xor, lane ^ k)
MSL_SHUFFLE(quad_shuffle_up, (lane & 3) >= k ? lane - k : 32)
MSL_SHUFFLE(quad_shuffle_down, (lane & 3) + k < 4 ? lane + k : 32)
#undef MSL_SHUFFLE

template <class T, MSL_SIMD_TYPE(T)>
MSL_INLINE T simd_shuffle_and_fill_up(T data, T fill, ushort k, ushort modulo = 32, MSL_SITE) {
  struct Pair {
    T data, fill;
  };
  return msl_runtime::exchange(
      Pair{data, fill}, msl_site, [k, modulo](const msl_runtime::Exchange& e, unsigned mask) MSL_INLINED {
        const unsigned in_segment = e.lane % modulo, segment = e.lane - in_segment;
        return in_segment >= k
                   ? msl_runtime::value_of<Pair>(e, mask, e.lane - k).data
                   : msl_runtime::value_of<Pair>(e, mask, segment + (in_segment + modulo - k) % modulo).fill;
      });
}
template <class T, MSL_SIMD_TYPE(T)>
MSL_INLINE T simd_shuffle_and_fill_down(T data, T fill, ushort k, ushort modulo = 32, MSL_SITE) {
  struct Pair {
    T data, fill;
  };
  return msl_runtime::exchange(
      Pair{data, fill}, msl_site, [k, modulo](const msl_runtime::Exchange& e, unsigned mask) MSL_INLINED {
        const unsigned in_segment = e.lane % modulo, segment = e.lane - in_segment;
        return in_segment + k < modulo ? msl_runtime::value_of<Pair>(e, mask, e.lane + k).data
                                       : msl_runtime::value_of<Pair>(e, mask, segment + (in_segment + k) % modulo).fill;
      });
}

template <class T, MSL_SIMD_TYPE(T)>
MSL_INLINE T simd_broadcast_first(T data, MSL_SITE) {
  return msl_runtime::exchange(data, msl_site, [](const msl_runtime::Exchange& e, unsigned mask) MSL_INLINED {
    return e.slot<T>(__builtin_ctz(mask));
  });
}

// A set of lanes.
struct simd_vote {
  typedef ulong vote_t;
  vote_t lanes;
  explicit constexpr simd_vote(vote_t lanes = 0) : lanes(lanes) {}
  explicit constexpr operator vote_t() const { return lanes; }
  constexpr bool all() const { return lanes == 0xffffffff; }
  constexpr bool any() const { return lanes != 0; }
};

namespace msl_votes {
MSL_EXCHANGE uint ballot(bool expr, unsigned site, thread uint& active) {
  const msl_runtime::Exchange e;
  e.slot<bool>(e.lane) = expr;
  active = e.meet(site);
  uint votes = 0;
  for (uint i = 0; i < 32; ++i) {
    if (active >> i & 1 && e.slot<bool>(i)) votes |= 1u << i;
  }
  return votes;
}
}  // namespace msl_votes

MSL_INLINE simd_vote simd_ballot(bool expr, MSL_SITE) {
  uint active;
  return simd_vote(msl_votes::ballot(expr, msl_site, active));
}
MSL_INLINE bool simd_all(bool expr, MSL_SITE) {
  uint active;
  return msl_votes::ballot(expr, msl_site, active) == active;
}
MSL_INLINE bool simd_any(bool expr, MSL_SITE) {
  uint active;
  return msl_votes::ballot(expr, msl_site, active) != 0;
}
MSL_INLINE simd_vote simd_active_threads_mask(MSL_SITE) {
  uint active;
  msl_votes::ballot(true, msl_site, active);
  return simd_vote(active);
}
MSL_INLINE bool simd_is_first(MSL_SITE) {
  const msl_runtime::Exchange e;
  return e.lane == static_cast<uint>(__builtin_ctz(e.meet(msl_site)));
}
MSL_INLINE bool simd_is_helper_thread() { return false; }

}  // namespace metal
