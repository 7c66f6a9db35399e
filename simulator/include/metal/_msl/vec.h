// Vectors of 2, 3 and 4 components with swizzles, as class templates: clang's own vector types have neither MSL's
// constructors and conversions nor its bool vectors.
#pragma once

#include "scalar.h"

namespace msl_types {

template <class T, int N>
struct vec;

// A scalar may stand for a vector of equal components unless that would drop a fraction.
template <class S, class T>
struct splats {
  static const bool value = is_number<S>::value && (!__is_integral(T) || __is_integral(S)) &&
                            (!__is_same(T, bfloat) || __is_same(S, bfloat) || __is_integral(S));
};

// Swizzles are properties: reading one gives a plain vector, and a repeated component cannot be assigned to.
#define MSL_FIELD_x x
#define MSL_FIELD_y y
#define MSL_FIELD_z z
#define MSL_FIELD_w w
#define MSL_FIELD_r x
#define MSL_FIELD_g y
#define MSL_FIELD_b z
#define MSL_FIELD_a w
#define MSL_PASTE(...) MSL_PASTE_EXPANDED(__VA_ARGS__)
#define MSL_PASTE_EXPANDED(prefix, f0, f1, f2, f3) prefix##f0##f1##f2##f3
#define MSL_PROPERTY(N, name, f0, f1, f2, f3)                                                                          \
  __declspec(property(get = MSL_PASTE(msl_get_, f0, f1, f2, f3), put = MSL_PASTE(msl_put_, f0, f1, f2, f3))) vec<T, N> \
      name;
#define MSL_SWIZZLE_2(n0, n1) MSL_PROPERTY(2, n0##n1, MSL_FIELD_##n0, MSL_FIELD_##n1, , )
#define MSL_SWIZZLE_3(n0, n1, n2) MSL_PROPERTY(3, n0##n1##n2, MSL_FIELD_##n0, MSL_FIELD_##n1, MSL_FIELD_##n2, )
#define MSL_SWIZZLE_4(n0, n1, n2, n3) \
  MSL_PROPERTY(4, n0##n1##n2##n3, MSL_FIELD_##n0, MSL_FIELD_##n1, MSL_FIELD_##n2, MSL_FIELD_##n3)

#define MSL_REPEATED "a component appears twice in a swizzle that is assigned to"
#define MSL_ACCESS_2(f0, f1)                                                 \
  constexpr vec<T, 2> msl_get_##f0##f1() const { return vec<T, 2>(f0, f1); } \
  constexpr void msl_put_##f0##f1(vec<T, 2> v) {                             \
    static_assert(#f0[0] != #f1[0], MSL_REPEATED);                           \
    f0 = v.x;                                                                \
    f1 = v.y;                                                                \
  }                                                                          \
  MSL_SWIZZLE_2(f0, f1)
#define MSL_ACCESS_3(f0, f1, f2)                                                           \
  constexpr vec<T, 3> msl_get_##f0##f1##f2() const { return vec<T, 3>(f0, f1, f2); }       \
  constexpr void msl_put_##f0##f1##f2(vec<T, 3> v) {                                       \
    static_assert(#f0[0] != #f1[0] && #f0[0] != #f2[0] && #f1[0] != #f2[0], MSL_REPEATED); \
    f0 = v.x;                                                                              \
    f1 = v.y;                                                                              \
    f2 = v.z;                                                                              \
  }                                                                                        \
  MSL_SWIZZLE_3(f0, f1, f2)
#define MSL_ACCESS_4(f0, f1, f2, f3)                                                                                  \
  constexpr vec<T, 4> msl_get_##f0##f1##f2##f3() const { return vec<T, 4>(f0, f1, f2, f3); }                          \
  constexpr void msl_put_##f0##f1##f2##f3(vec<T, 4> v) {                                                              \
    static_assert(#f0[0] != #f1[0] && #f0[0] != #f2[0] && #f0[0] != #f3[0] && #f1[0] != #f2[0] && #f1[0] != #f3[0] && \
                      #f2[0] != #f3[0],                                                                               \
                  MSL_REPEATED);                                                                                      \
    f0 = v.x;                                                                                                         \
    f1 = v.y;                                                                                                         \
    f2 = v.z;                                                                                                         \
    f3 = v.w;                                                                                                         \
  }                                                                                                                   \
  MSL_SWIZZLE_4(f0, f1, f2, f3)

// MSL_EACHn_LEVEL(D2, D3, D4, components so far): all swizzles that begin with them, of a vector with n components.
#define MSL_EACH2_1(D2, D3, D4, X, Y, A) MSL_EACH2_2(D2, D3, D4, X, Y, A, X) MSL_EACH2_2(D2, D3, D4, X, Y, A, Y)
#define MSL_EACH2_2(D2, D3, D4, X, Y, A, B) \
  D2(A, B) MSL_EACH2_3(D2, D3, D4, X, Y, A, B, X) MSL_EACH2_3(D2, D3, D4, X, Y, A, B, Y)
#define MSL_EACH2_3(D2, D3, D4, X, Y, A, B, C) D3(A, B, C) D4(A, B, C, X) D4(A, B, C, Y)
#define MSL_EACH2(D2, D3, D4, X, Y) MSL_EACH2_1(D2, D3, D4, X, Y, X) MSL_EACH2_1(D2, D3, D4, X, Y, Y)

#define MSL_EACH3_1(D2, D3, D4, X, Y, Z, A) \
  MSL_EACH3_2(D2, D3, D4, X, Y, Z, A, X)    \
  MSL_EACH3_2(D2, D3, D4, X, Y, Z, A, Y) MSL_EACH3_2(D2, D3, D4, X, Y, Z, A, Z)
#define MSL_EACH3_2(D2, D3, D4, X, Y, Z, A, B) \
  D2(A, B)                                     \
  MSL_EACH3_3(D2, D3, D4, X, Y, Z, A, B, X)    \
  MSL_EACH3_3(D2, D3, D4, X, Y, Z, A, B, Y) MSL_EACH3_3(D2, D3, D4, X, Y, Z, A, B, Z)
#define MSL_EACH3_3(D2, D3, D4, X, Y, Z, A, B, C) D3(A, B, C) D4(A, B, C, X) D4(A, B, C, Y) D4(A, B, C, Z)
#define MSL_EACH3(D2, D3, D4, X, Y, Z) \
  MSL_EACH3_1(D2, D3, D4, X, Y, Z, X) MSL_EACH3_1(D2, D3, D4, X, Y, Z, Y) MSL_EACH3_1(D2, D3, D4, X, Y, Z, Z)

#define MSL_EACH4_1(D2, D3, D4, X, Y, Z, W, A) \
  MSL_EACH4_2(D2, D3, D4, X, Y, Z, W, A, X)    \
  MSL_EACH4_2(D2, D3, D4, X, Y, Z, W, A, Y)    \
  MSL_EACH4_2(D2, D3, D4, X, Y, Z, W, A, Z) MSL_EACH4_2(D2, D3, D4, X, Y, Z, W, A, W)
#define MSL_EACH4_2(D2, D3, D4, X, Y, Z, W, A, B) \
  D2(A, B)                                        \
  MSL_EACH4_3(D2, D3, D4, X, Y, Z, W, A, B, X)    \
  MSL_EACH4_3(D2, D3, D4, X, Y, Z, W, A, B, Y)    \
  MSL_EACH4_3(D2, D3, D4, X, Y, Z, W, A, B, Z) MSL_EACH4_3(D2, D3, D4, X, Y, Z, W, A, B, W)
#define MSL_EACH4_3(D2, D3, D4, X, Y, Z, W, A, B, C) \
  D3(A, B, C)                                        \
  D4(A, B, C, X) D4(A, B, C, Y) D4(A, B, C, Z) D4(A, B, C, W)
#define MSL_EACH4(D2, D3, D4, X, Y, Z, W) \
  MSL_EACH4_1(D2, D3, D4, X, Y, Z, W, X)  \
  MSL_EACH4_1(D2, D3, D4, X, Y, Z, W, Y) MSL_EACH4_1(D2, D3, D4, X, Y, Z, W, Z) MSL_EACH4_1(D2, D3, D4, X, Y, Z, W, W)

#define MSL_VEC_ASSIGN(op)                 \
  template <class R>                       \
  constexpr vec& operator op##=(R right) { \
    return *this = *this op right;         \
  }

// Members that do not depend on how many components there are.
#define MSL_VEC_COMMON                                                                               \
  constexpr T& operator[](int i) { return (&x)[i]; }                                                 \
  constexpr const T& operator[](int i) const { return (&x)[i]; }                                     \
  template <class I, typename enable_if<is_number<I>::value && !__is_integral(I), int>::type = 0>    \
  void operator[](I i) const = delete;                                                               \
  static_assert(is_number<T>::value, "a vector has scalar components");                              \
  vec() = default;                                                                                   \
  template <class S, typename enable_if<splats<S, T>::value, int>::type = 0>                         \
  constexpr vec(S s) : vec(static_cast<T>(s), msl_splat()) {}                                        \
  template <class S, typename enable_if<is_number<S>::value && !splats<S, T>::value, int>::type = 0> \
  explicit constexpr vec(S s) : vec(static_cast<T>(s), msl_splat()) {}                               \
  struct msl_splat {};                                                                               \
  MSL_VEC_ASSIGN(+)                                                                                  \
  MSL_VEC_ASSIGN(-)                                                                                  \
  MSL_VEC_ASSIGN(*)                                                                                  \
  MSL_VEC_ASSIGN(/)                                                                                  \
  MSL_VEC_ASSIGN(%)                                                                                  \
  MSL_VEC_ASSIGN(&)                                                                                  \
  MSL_VEC_ASSIGN(|)                                                                                  \
  MSL_VEC_ASSIGN(^)                                                                                  \
  MSL_VEC_ASSIGN(<<)                                                                                 \
  MSL_VEC_ASSIGN(>>)                                                                                 \
  constexpr vec& operator++() { return *this = *this + T(1); }                                       \
  constexpr vec& operator--() { return *this = *this - T(1); }                                       \
  constexpr vec operator++(int) {                                                                    \
    vec old = *this;                                                                                 \
    *this = old + T(1);                                                                              \
    return old;                                                                                      \
  }                                                                                                  \
  constexpr vec operator--(int) {                                                                    \
    vec old = *this;                                                                                 \
    *this = old - T(1);                                                                              \
    return old;                                                                                      \
  }

template <class T>
struct alignas(2 * sizeof(T)) vec<T, 2> {
  union {
    T x, r;
  };
  union {
    T y, g;
  };

  MSL_VEC_COMMON
  constexpr vec(T s, msl_splat) : x(s), y(s) {}
  constexpr vec(T x, T y) : x(x), y(y) {}
  template <class U>
  explicit constexpr vec(vec<U, 2> v) : x(static_cast<T>(v.x)), y(static_cast<T>(v.y)) {}

  MSL_EACH2(MSL_ACCESS_2, MSL_ACCESS_3, MSL_ACCESS_4, x, y)
  MSL_EACH2(MSL_SWIZZLE_2, MSL_SWIZZLE_3, MSL_SWIZZLE_4, r, g)
};

template <class T>
struct alignas(4 * sizeof(T)) vec<T, 3> {
  union {
    T x, r;
  };
  union {
    T y, g;
  };
  union {
    T z, b;
  };

  MSL_VEC_COMMON
  constexpr vec(T s, msl_splat) : x(s), y(s), z(s) {}
  constexpr vec(T x, T y, T z) : x(x), y(y), z(z) {}
  constexpr vec(vec<T, 2> v, T z) : x(v.x), y(v.y), z(z) {}
  constexpr vec(T x, vec<T, 2> v) : x(x), y(v.x), z(v.y) {}
  template <class U>
  explicit constexpr vec(vec<U, 3> v) : x(static_cast<T>(v.x)), y(static_cast<T>(v.y)), z(static_cast<T>(v.z)) {}

  MSL_EACH3(MSL_ACCESS_2, MSL_ACCESS_3, MSL_ACCESS_4, x, y, z)
  MSL_EACH3(MSL_SWIZZLE_2, MSL_SWIZZLE_3, MSL_SWIZZLE_4, r, g, b)
};

template <class T>
struct alignas(4 * sizeof(T)) vec<T, 4> {
  union {
    T x, r;
  };
  union {
    T y, g;
  };
  union {
    T z, b;
  };
  union {
    T w, a;
  };

  MSL_VEC_COMMON
  constexpr vec(T s, msl_splat) : x(s), y(s), z(s), w(s) {}
  constexpr vec(T x, T y, T z, T w) : x(x), y(y), z(z), w(w) {}
  constexpr vec(vec<T, 2> v, T z, T w) : x(v.x), y(v.y), z(z), w(w) {}
  constexpr vec(T x, vec<T, 2> v, T w) : x(x), y(v.x), z(v.y), w(w) {}
  constexpr vec(T x, T y, vec<T, 2> v) : x(x), y(y), z(v.x), w(v.y) {}
  constexpr vec(vec<T, 2> u, vec<T, 2> v) : x(u.x), y(u.y), z(v.x), w(v.y) {}
  constexpr vec(vec<T, 3> v, T w) : x(v.x), y(v.y), z(v.z), w(w) {}
  constexpr vec(T x, vec<T, 3> v) : x(x), y(v.x), z(v.y), w(v.z) {}
  template <class U>
  explicit constexpr vec(vec<U, 4> v)
      : x(static_cast<T>(v.x)), y(static_cast<T>(v.y)), z(static_cast<T>(v.z)), w(static_cast<T>(v.w)) {}

  MSL_EACH4(MSL_ACCESS_2, MSL_ACCESS_3, MSL_ACCESS_4, x, y, z, w)
  MSL_EACH4(MSL_SWIZZLE_2, MSL_SWIZZLE_3, MSL_SWIZZLE_4, r, g, b, a)
};

// Componentwise operators on equal vector types, or on a vector and a scalar that splats to it.
#define MSL_COMPONENTS_2(R, expression) return vec<R, 2>(static_cast<R>(expression(x)), static_cast<R>(expression(y)))
#define MSL_COMPONENTS_3(R, expression) \
  return vec<R, 3>(static_cast<R>(expression(x)), static_cast<R>(expression(y)), static_cast<R>(expression(z)))
#define MSL_COMPONENTS_4(R, expression)                                                                         \
  return vec<R, 4>(static_cast<R>(expression(x)), static_cast<R>(expression(y)), static_cast<R>(expression(z)), \
                   static_cast<R>(expression(w)))

#define MSL_VEC_BINARY_N(N, R, op, AB)                                                \
  template <class T>                                                                  \
  constexpr vec<R, N> operator op(vec<T, N> a, vec<T, N> b) {                         \
    MSL_COMPONENTS_##N(R, AB);                                                        \
  }                                                                                   \
  template <class T, class S, typename enable_if<splats<S, T>::value, int>::type = 0> \
  constexpr vec<R, N> operator op(vec<T, N> a, S b) {                                 \
    return a op vec<T, N>(b);                                                         \
  }                                                                                   \
  template <class T, class S, typename enable_if<splats<S, T>::value, int>::type = 0> \
  constexpr vec<R, N> operator op(S a, vec<T, N> b) {                                 \
    return vec<T, N>(a) op b;                                                         \
  }
#define MSL_VEC_BINARY(R, op, AB) \
  MSL_VEC_BINARY_N(2, R, op, AB) MSL_VEC_BINARY_N(3, R, op, AB) MSL_VEC_BINARY_N(4, R, op, AB)

#define MSL_ADD(c) (a.c + b.c)
MSL_VEC_BINARY(T, +, MSL_ADD)
#undef MSL_ADD
#define MSL_SUB(c) (a.c - b.c)
MSL_VEC_BINARY(T, -, MSL_SUB)
#undef MSL_SUB
#define MSL_MUL(c) (a.c * b.c)
MSL_VEC_BINARY(T, *, MSL_MUL)
#undef MSL_MUL
#define MSL_DIV(c) (a.c / b.c)
MSL_VEC_BINARY(T, /, MSL_DIV)
#undef MSL_DIV
#define MSL_REM(c) (a.c % b.c)
MSL_VEC_BINARY(T, %, MSL_REM)
#undef MSL_REM
#define MSL_AND(c) (a.c & b.c)
MSL_VEC_BINARY(T, &, MSL_AND)
#undef MSL_AND
#define MSL_OR(c) (a.c | b.c)
MSL_VEC_BINARY(T, |, MSL_OR)
#undef MSL_OR
#define MSL_XOR(c) (a.c ^ b.c)
MSL_VEC_BINARY(T, ^, MSL_XOR)
#undef MSL_XOR
#define MSL_SHL(c) (a.c << b.c)
MSL_VEC_BINARY(T, <<, MSL_SHL)
#undef MSL_SHL
#define MSL_SHR(c) (a.c >> b.c)
MSL_VEC_BINARY(T, >>, MSL_SHR)
#undef MSL_SHR
#define MSL_EQ(c) (a.c == b.c)
MSL_VEC_BINARY(bool, ==, MSL_EQ)
#undef MSL_EQ
#define MSL_NE(c) (a.c != b.c)
MSL_VEC_BINARY(bool, !=, MSL_NE)
#undef MSL_NE
#define MSL_LT(c) (a.c < b.c)
MSL_VEC_BINARY(bool, <, MSL_LT)
#undef MSL_LT
#define MSL_LE(c) (a.c <= b.c)
MSL_VEC_BINARY(bool, <=, MSL_LE)
#undef MSL_LE
#define MSL_GT(c) (a.c > b.c)
MSL_VEC_BINARY(bool, >, MSL_GT)
#undef MSL_GT
#define MSL_GE(c) (a.c >= b.c)
MSL_VEC_BINARY(bool, >=, MSL_GE)
#undef MSL_GE
#define MSL_LAND(c) (a.c && b.c)
MSL_VEC_BINARY(bool, &&, MSL_LAND)
#undef MSL_LAND
#define MSL_LOR(c) (a.c || b.c)
MSL_VEC_BINARY(bool, ||, MSL_LOR)
#undef MSL_LOR
#undef MSL_VEC_BINARY
#undef MSL_VEC_BINARY_N

#define MSL_VEC_UNARY_N(N, R, op, A)             \
  template <class T>                             \
  constexpr vec<R, N> operator op(vec<T, N> a) { \
    MSL_COMPONENTS_##N(R, A);                    \
  }
#define MSL_VEC_UNARY(R, op, A) MSL_VEC_UNARY_N(2, R, op, A) MSL_VEC_UNARY_N(3, R, op, A) MSL_VEC_UNARY_N(4, R, op, A)
#define MSL_NEG(c) (-a.c)
MSL_VEC_UNARY(T, -, MSL_NEG)
#undef MSL_NEG
#define MSL_PLUS(c) (+a.c)
MSL_VEC_UNARY(T, +, MSL_PLUS)
#undef MSL_PLUS
#define MSL_NOT(c) (~a.c)
MSL_VEC_UNARY(T, ~, MSL_NOT)
#undef MSL_NOT
#define MSL_LNOT(c) (!a.c)
MSL_VEC_UNARY(bool, !, MSL_LNOT)
#undef MSL_LNOT
#undef MSL_VEC_UNARY
#undef MSL_VEC_UNARY_N

// One name for a vector and for a scalar, in functions that are written once for both.
template <class T>
struct element_of {
  typedef T type;
  static const int count = 1;
};
template <class T, int N>
struct element_of<vec<T, N>> {
  typedef T type;
  static const int count = N;
};
template <class T, class E>
struct rebind_element {
  typedef E type;
};
template <class T, int N, class E>
struct rebind_element<vec<T, N>, E> {
  typedef vec<E, N> type;
};

}  // namespace msl_types

namespace metal {
using msl_types::vec;
}

#define MSL_VEC_NAMES(T)             \
  typedef msl_types::vec<T, 2> T##2; \
  typedef msl_types::vec<T, 3> T##3; \
  typedef msl_types::vec<T, 4> T##4; \
  namespace metal {                  \
  using ::T##2;                      \
  using ::T##3;                      \
  using ::T##4;                      \
  }
MSL_VEC_NAMES(bool)
MSL_VEC_NAMES(char)
MSL_VEC_NAMES(uchar)
MSL_VEC_NAMES(short)
MSL_VEC_NAMES(ushort)
MSL_VEC_NAMES(int)
MSL_VEC_NAMES(uint)
MSL_VEC_NAMES(long)
MSL_VEC_NAMES(ulong)
MSL_VEC_NAMES(half)
MSL_VEC_NAMES(bfloat)
MSL_VEC_NAMES(float)
#undef MSL_VEC_NAMES
