// vec, packed vectors, matrices, array.
//
// Components are properties: no address can be taken of them, no reference bound to them, and those that repeat a
// component cannot be assigned to.
#pragma once

#include "traits.h"

namespace metal {
template <typename T, int N>
struct vec;
template <typename T, int N>
struct packed_vec;

template <typename T>
struct components_of {
  static constexpr constant int value = 1;
};
template <typename T, int N>
struct components_of<vec<T, N>> {
  static constexpr constant int value = N;
};
template <typename T, int N>
struct components_of<packed_vec<T, N>> {
  static constexpr constant int value = N;
};

#define SUBSCRIPTS(T)                                        \
  thread T& operator[](size_t) thread;                       \
  device T& operator[](size_t) device;                       \
  threadgroup T& operator[](size_t) threadgroup;             \
  T& operator[](size_t);                                     \
  const thread T& operator[](size_t) const thread;           \
  const device T& operator[](size_t) const device;           \
  const threadgroup T& operator[](size_t) const threadgroup; \
  const constant T& operator[](size_t) const constant;       \
  const T& operator[](size_t) const;

// Metal copies and assigns whatever lies in `constant`.
#define COPIES(C)                   \
  C() = default;                    \
  C(const C&) = default;            \
  C(const constant C&) = default;   \
  C& operator=(const C&) = default; \
  template <int = 0>                \
  C& operator=(const constant C&);

#define ASSIGNMENTS(C)              \
  C& operator+=(const C&);          \
  C& operator-=(const C&);          \
  C& operator*=(const C&);          \
  C& operator/=(const C&);          \
  C& operator%=(const C&);          \
  C& operator&=(const C&);          \
  C& operator|=(const C&);          \
  C& operator^=(const C&);          \
  C& operator<<=(const C&);         \
  C& operator>>=(const C&);         \
  C& operator+=(const constant C&); \
  C& operator-=(const constant C&); \
  C& operator*=(const constant C&); \
  C& operator/=(const constant C&); \
  C& operator++();                  \
  C& operator--();                  \
  C operator++(int);                \
  C operator--(int);

#define ACCESSORS(T)                               \
  constexpr T one() const { return T(); }          \
  constexpr T one() const constant { return T(); } \
  void set_one(T)&;                                \
  vec<T, 2> two() const;                           \
  vec<T, 2> two() const constant;                  \
  void set_two(vec<T, 2>)&;                        \
  vec<T, 3> three() const;                         \
  vec<T, 3> three() const constant;                \
  void set_three(vec<T, 3>)&;                      \
  vec<T, 4> four() const;                          \
  vec<T, 4> four() const constant;                 \
  void set_four(vec<T, 4>);

#define VECTOR(N, STORED, COMPONENTS)                                                                           \
  template <typename T>                                                                                         \
  struct alignas(sizeof(T) * STORED) vec<T, N> {                                                                \
    COPIES(vec)                                                                                                 \
    constexpr vec(T) : data{} {}                                                                                \
    constexpr vec(packed_vec<T, N>) : data{} {}                                                                 \
    template <typename U>                                                                                       \
    constexpr explicit vec(vec<U, N>) : data{} {}                                                               \
    template <typename A, typename B, typename... C>                                                            \
    constexpr vec(A a, B b, C... c) : data{} {                                                                  \
      static_assert(((components_of<A>::value + components_of<B>::value) + ... + components_of<C>::value) == N, \
                    "a vector's constructor takes as many components as it has");                               \
    }                                                                                                           \
    SUBSCRIPTS(T)                                                                                               \
    ASSIGNMENTS(vec)                                                                                            \
    ACCESSORS(T)                                                                                                \
    COMPONENTS                                                                                                  \
    friend constexpr vec operator+(vec, vec) { return vec(T()); }                                               \
    friend constexpr vec operator-(vec, vec) { return vec(T()); }                                               \
    friend constexpr vec operator*(vec, vec) { return vec(T()); }                                               \
    friend constexpr vec operator/(vec, vec) { return vec(T()); }                                               \
    friend constexpr vec operator%(vec, vec) { return vec(T()); }                                               \
    friend constexpr vec operator&(vec, vec) { return vec(T()); }                                               \
    friend constexpr vec operator|(vec, vec) { return vec(T()); }                                               \
    friend constexpr vec operator^(vec, vec) { return vec(T()); }                                               \
    friend constexpr vec operator<<(vec, vec) { return vec(T()); }                                              \
    friend constexpr vec operator>>(vec, vec) { return vec(T()); }                                              \
    friend constexpr vec operator+(vec) { return vec(T()); }                                                    \
    friend constexpr vec operator-(vec) { return vec(T()); }                                                    \
    friend constexpr vec operator~(vec) { return vec(T()); }                                                    \
    friend vec<bool, N> operator!(vec);                                                                         \
    friend vec<bool, N> operator==(vec, vec);                                                                   \
    friend vec<bool, N> operator!=(vec, vec);                                                                   \
    friend vec<bool, N> operator<(vec, vec);                                                                    \
    friend vec<bool, N> operator>(vec, vec);                                                                    \
    friend vec<bool, N> operator<=(vec, vec);                                                                   \
    friend vec<bool, N> operator>=(vec, vec);                                                                   \
    friend vec<bool, N> operator&&(vec, vec);                                                                   \
    friend vec<bool, N> operator||(vec, vec);                                                                   \
    T data[STORED];                                                                                             \
  };                                                                                                            \
  template <typename T>                                                                                         \
  struct packed_vec<T, N> {                                                                                     \
    COPIES(packed_vec)                                                                                          \
    constexpr packed_vec(T) : data{} {}                                                                         \
    constexpr packed_vec(vec<T, N>) : data{} {}                                                                 \
    template <typename A, typename B, typename... C>                                                            \
    constexpr packed_vec(A a, B b, C... c) : data{} {}                                                          \
    SUBSCRIPTS(T)                                                                                               \
    ACCESSORS(T)                                                                                                \
    COMPONENTS                                                                                                  \
    T data[N];                                                                                                  \
  };
VECTOR(2, 2, COMPONENTS_2)
VECTOR(3, 4, COMPONENTS_3)
VECTOR(4, 4, COMPONENTS_4)
#undef VECTOR

// Marks the operands of `c ? a : b` where these are vectors in different address spaces: taken as values they have one
// type, as Metal's built-in vectors do.
struct AsValue {};
template <typename T>
constexpr T operator||(AsValue, T x) {
  return x;
}

// Binds to a reference to a thread's constant, as a temporary does in Metal.
template <typename T>
const thread T& stored(T);

template <typename T, int C, int R>
struct matrix {
  COPIES(matrix)
  constexpr explicit matrix(T) : columns{} {}
  template <typename U>
  constexpr explicit matrix(matrix<U, C, R>) : columns{} {}
  template <typename A, typename B, typename... X>
  constexpr matrix(A, B, X...) : columns{} {}
  using column = vec<T, R>;
  SUBSCRIPTS(column)
  friend matrix operator+(matrix, matrix);
  friend matrix operator-(matrix, matrix);
  friend matrix operator-(matrix);
  friend matrix operator*(matrix, T);
  friend matrix operator*(T, matrix);
  friend vec<T, R> operator*(matrix, vec<T, C>);
  friend vec<T, C> operator*(vec<T, R>, matrix);
  matrix& operator+=(matrix);
  matrix& operator-=(matrix);
  matrix& operator*=(T);
  column columns[C];
};
template <typename T, int K, int R, int C>
matrix<T, C, R> operator*(matrix<T, K, R>, matrix<T, C, K>);
template <typename T, int C, int R>
matrix<T, R, C> transpose(matrix<T, C, R>);
template <typename T, int N>
T determinant(matrix<T, N, N>);

template <typename T, size_t N>
struct array {
  SUBSCRIPTS(T)
  constexpr size_t size() const { return N; }
  constexpr size_t size() const constant { return N; }
  T elements[N];
};

#define NAMES(T)                          \
  using T##2 = vec<T, 2>;                 \
  using T##3 = vec<T, 3>;                 \
  using T##4 = vec<T, 4>;                 \
  using packed_##T##2 = packed_vec<T, 2>; \
  using packed_##T##3 = packed_vec<T, 3>; \
  using packed_##T##4 = packed_vec<T, 4>;
#define MATRIX_NAMES(T)           \
  using T##2x2 = matrix<T, 2, 2>; \
  using T##2x3 = matrix<T, 2, 3>; \
  using T##2x4 = matrix<T, 2, 4>; \
  using T##3x2 = matrix<T, 3, 2>; \
  using T##3x3 = matrix<T, 3, 3>; \
  using T##3x4 = matrix<T, 3, 4>; \
  using T##4x2 = matrix<T, 4, 2>; \
  using T##4x3 = matrix<T, 4, 3>; \
  using T##4x4 = matrix<T, 4, 4>;
}  // namespace metal

// They are built in: known without a header and without a namespace, and in it.
using metal::matrix;
using metal::packed_vec;
using metal::vec;
namespace built_in {
NAMES(bool)
NAMES(char)
NAMES(uchar)
NAMES(short)
NAMES(ushort)
NAMES(int)
NAMES(uint)
NAMES(long)
NAMES(ulong)
NAMES(half)
NAMES(float)
MATRIX_NAMES(half)
MATRIX_NAMES(float)
#if __METAL_VERSION__ >= 310
NAMES(bfloat)
#endif
}  // namespace built_in
using namespace built_in;
namespace metal {
using namespace built_in;
}
#undef NAMES
#undef MATRIX_NAMES
