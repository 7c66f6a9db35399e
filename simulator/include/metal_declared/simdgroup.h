// Barriers, the functions of simdgroups and quadgroups, and their matrices.
#pragma once

#include "vectors.h"

namespace metal {
enum class mem_flags { mem_none = 0, mem_device = 1, mem_threadgroup = 2, mem_texture = 4 };
constexpr mem_flags operator|(mem_flags a, mem_flags b) { return static_cast<mem_flags>(int(a) | int(b)); }
void threadgroup_barrier(mem_flags);
void simdgroup_barrier(mem_flags);

struct simd_vote {
  explicit constexpr simd_vote(ulong) {}
  explicit constexpr operator ulong() const { return 0; }
  bool all() const;
  bool any() const;
};

// Those whose values lanes exchange: no 64 bits, no structs.
template <typename T>
inline constexpr constant bool is_exchanged = sizeof(T) <= 4 && is_arithmetic_v<T> && !is_same_v<T, bool>;
template <typename T, int N>
inline constexpr constant bool is_exchanged<vec<T, N>> = is_exchanged<T>;
template <typename T>
using exchanged = enable_if_t<is_exchanged<T>, T>;

#define REDUCTION(group, name) \
  template <typename T>        \
  exchanged<T> group##_##name(T);
#define SHUFFLE(group, name) \
  template <typename T>      \
  exchanged<T> group##_##name(T, ushort);
#define GROUP(group)                             \
  REDUCTION(group, sum)                          \
  REDUCTION(group, product)                      \
  REDUCTION(group, min)                          \
  REDUCTION(group, max)                          \
  REDUCTION(group, and)                          \
  REDUCTION(group, or)                           \
  REDUCTION(group, xor)                          \
  REDUCTION(group, broadcast_first)              \
  REDUCTION(group, prefix_inclusive_sum)         \
  REDUCTION(group, prefix_exclusive_sum)         \
  REDUCTION(group, prefix_inclusive_product)     \
  REDUCTION(group, prefix_exclusive_product)     \
  SHUFFLE(group, broadcast)                      \
  SHUFFLE(group, shuffle)                        \
  SHUFFLE(group, shuffle_xor)                    \
  SHUFFLE(group, shuffle_up)                     \
  SHUFFLE(group, shuffle_down)                   \
  SHUFFLE(group, shuffle_rotate_up)              \
  SHUFFLE(group, shuffle_rotate_down)            \
  template <typename T>                          \
  T group##_shuffle_and_fill_up(T, T, ushort);   \
  template <typename T>                          \
  T group##_shuffle_and_fill_down(T, T, ushort); \
  bool group##_all(bool);                        \
  bool group##_any(bool);                        \
  bool group##_is_first();                       \
  bool group##_is_helper_thread();               \
  simd_vote group##_ballot(bool);                \
  simd_vote group##_active_threads_mask();
GROUP(simd)
GROUP(quad)
#undef REDUCTION
#undef SHUFFLE
#undef GROUP

template <typename T, int C, int R>
struct simdgroup_matrix {
  static_assert(C == 8 && R == 8, "a simdgroup_matrix is 8x8");
  static_assert(is_floating_point_v<T>, "invalid element type for 'simdgroup_matrix'");
  simdgroup_matrix() {}  // not trivial: threadgroup memory has none
  constexpr explicit simdgroup_matrix(T) : elements{} {}
  // A matrix lies in registers: the thread's alone can be written.
  thread simdgroup_matrix& operator=(simdgroup_matrix) thread;
  thread vec<T, 2>& thread_elements() thread;
  const thread vec<T, 2>& thread_elements() const thread;
  vec<T, 2> elements;
};
template <typename T, int C = 8, int R = 8>
simdgroup_matrix<T, C, R> make_filled_simdgroup_matrix(T);
template <typename T, int C = 8, int R = 8>
simdgroup_matrix<T, C, R> make_diagonal_simdgroup_matrix(T);

#define MEMORY(space)                                                                                                 \
  template <typename T, int C, int R>                                                                                 \
  void simdgroup_load(thread simdgroup_matrix<T, C, R>&, const space T*, ulong = C, vec<ulong, 2> = 0, bool = false); \
  template <typename T, int C, int R>                                                                                 \
  void simdgroup_store(simdgroup_matrix<T, C, R>, space T*, ulong = C, vec<ulong, 2> = 0, bool = false);
MEMORY(device)
MEMORY(threadgroup)
#undef MEMORY
template <typename T, typename U, typename V, typename W>
void simdgroup_multiply_accumulate(thread simdgroup_matrix<T, 8, 8>&, thread simdgroup_matrix<U, 8, 8>&,
                                   thread simdgroup_matrix<V, 8, 8>&, thread simdgroup_matrix<W, 8, 8>&);
template <typename T, typename U, typename V>
void simdgroup_multiply(thread simdgroup_matrix<T, 8, 8>&, thread simdgroup_matrix<U, 8, 8>&,
                        thread simdgroup_matrix<V, 8, 8>&);
template <typename T>
simdgroup_matrix<T, 8, 8> operator*(simdgroup_matrix<T, 8, 8>, simdgroup_matrix<T, 8, 8>);

using simdgroup_float8x8 = simdgroup_matrix<float, 8, 8>;
using simdgroup_half8x8 = simdgroup_matrix<half, 8, 8>;
#if __METAL_VERSION__ >= 310
using simdgroup_bfloat8x8 = simdgroup_matrix<bfloat, 8, 8>;
#endif
}  // namespace metal
