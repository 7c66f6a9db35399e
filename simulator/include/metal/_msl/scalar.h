// Scalar types.
#pragma once

#include "keywords.h"

typedef unsigned char uchar;
typedef unsigned short ushort;
typedef unsigned int uint;
typedef unsigned long ulong;
typedef signed char int8_t;
typedef unsigned char uint8_t;
typedef short int16_t;
typedef unsigned short uint16_t;
typedef int int32_t;
typedef unsigned int uint32_t;
typedef long int64_t;
typedef unsigned long uint64_t;
typedef unsigned long size_t;
typedef long ptrdiff_t;
typedef long intptr_t;
typedef unsigned long uintptr_t;
typedef _Float16 half;

namespace msl_types {

template <bool B, class T = void>
struct enable_if {};
template <class T>
struct enable_if<true, T> {
  typedef T type;
};

struct bfloat;

template <class T>
struct is_number {
  static const bool value = __is_arithmetic(T) || __is_same(T, bfloat);
};

#define MSL_REQUIRES(...) typename msl_types::enable_if<(__VA_ARGS__), int>::type = 0

// A bfloat converts implicitly to float and to nothing else; integers convert implicitly to it, float and half only
// when it is written. The compiler's own __bf16 is laxer, and has no conversion at all to and from half.
struct bfloat {
  __bf16 bits;

  bfloat() = default;
  template <class T, MSL_REQUIRES(__is_integral(T))>
  constexpr bfloat(T x) : bits(static_cast<__bf16>(static_cast<float>(x))) {}
  template <class T, MSL_REQUIRES(__is_floating_point(T) || __is_enum(T))>
  explicit constexpr bfloat(T x) : bits(static_cast<__bf16>(static_cast<float>(x))) {}

  template <class T, MSL_REQUIRES(__is_same(T, float))>
  constexpr operator T() const {
    return static_cast<float>(bits);
  }
  template <class T, MSL_REQUIRES(__is_arithmetic(T) && !__is_same(T, float))>
  explicit constexpr operator T() const {
    return static_cast<T>(static_cast<float>(bits));
  }

  constexpr bfloat operator-() const { return bfloat(-static_cast<float>(bits)); }
  constexpr bfloat operator+() const { return *this; }
  constexpr bool operator!() const { return static_cast<float>(bits) == 0; }
#define MSL_BFLOAT_ASSIGN(op)                                                         \
  template <class T, MSL_REQUIRES(__is_same(T, bfloat) || __is_integral(T))>          \
  constexpr bfloat& operator op##=(T x) {                                             \
    return *this = bfloat(static_cast<float>(bits) op static_cast<float>(bfloat(x))); \
  }
  MSL_BFLOAT_ASSIGN(+)
  MSL_BFLOAT_ASSIGN(-)
  MSL_BFLOAT_ASSIGN(*)
  MSL_BFLOAT_ASSIGN(/)
#undef MSL_BFLOAT_ASSIGN
};

// With an integer the result is a bfloat, rounded after each operation; with a float it is a float. (With a half there
// is none.)
#define MSL_BFLOAT_OPERATOR(op, RESULT)                                         \
  constexpr RESULT operator op(bfloat a, bfloat b) {                            \
    return static_cast<RESULT>(static_cast<float>(a) op static_cast<float>(b)); \
  }                                                                             \
  template <class T, MSL_REQUIRES(__is_integral(T))>                            \
  constexpr RESULT operator op(bfloat a, T b) {                                 \
    return a op bfloat(b);                                                      \
  }                                                                             \
  template <class T, MSL_REQUIRES(__is_integral(T))>                            \
  constexpr RESULT operator op(T a, bfloat b) {                                 \
    return bfloat(a) op b;                                                      \
  }                                                                             \
  template <class T, MSL_REQUIRES(__is_same(T, float))>                         \
  constexpr auto operator op(bfloat a, T b)->decltype(b op b) {                 \
    return static_cast<float>(a) op b;                                          \
  }                                                                             \
  template <class T, MSL_REQUIRES(__is_same(T, float))>                         \
  constexpr auto operator op(T a, bfloat b)->decltype(a op a) {                 \
    return a op static_cast<float>(b);                                          \
  }
MSL_BFLOAT_OPERATOR(+, bfloat)
MSL_BFLOAT_OPERATOR(-, bfloat)
MSL_BFLOAT_OPERATOR(*, bfloat)
MSL_BFLOAT_OPERATOR(/, bfloat)
MSL_BFLOAT_OPERATOR(==, bool)
MSL_BFLOAT_OPERATOR(!=, bool)
MSL_BFLOAT_OPERATOR(<, bool)
MSL_BFLOAT_OPERATOR(<=, bool)
MSL_BFLOAT_OPERATOR(>, bool)
MSL_BFLOAT_OPERATOR(>=, bool)
#undef MSL_BFLOAT_OPERATOR

// float += bfloat, in every address space.
#define MSL_BFLOAT_ASSIGN(op)                                                  \
  template <class T, MSL_REQUIRES(__is_floating_point(T) || __is_integral(T))> \
  constexpr T& operator op##=(T & a, bfloat b) {                               \
    return a op## = static_cast<float>(b);                                     \
  }
MSL_BFLOAT_ASSIGN(+)
MSL_BFLOAT_ASSIGN(-)
MSL_BFLOAT_ASSIGN(*)
MSL_BFLOAT_ASSIGN(/)
#undef MSL_BFLOAT_ASSIGN

}  // namespace msl_types

using msl_types::bfloat;
