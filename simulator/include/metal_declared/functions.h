// Functions on scalars and vectors, as overloads of the types that Metal has them for.
#pragma once

#include "vectors.h"

namespace metal {
#if __METAL_VERSION__ >= 310
#define OF_BFLOAT(name) float name(bfloat);
#else
#define OF_BFLOAT(name)
#endif
#define FLOATING_1(name)       \
  OF_BFLOAT(name)              \
  half name(half);             \
  float name(float);           \
  template <typename T, int N> \
  vec<T, N> name(vec<T, N>);
#define FLOATING_2(name)                \
  half name(half, half);                \
  float name(float, float);             \
  template <typename T, int N>          \
  vec<T, N> name(vec<T, N>, vec<T, N>); \
  template <typename T, int N>          \
  vec<T, N> name(vec<T, N>, typename type_identity<T>::type);
#define FLOATING_3(name)           \
  half name(half, half, half);     \
  float name(float, float, float); \
  template <typename T, int N>     \
  vec<T, N> name(vec<T, N>, vec<T, N>, vec<T, N>);
#define EACH_INTEGER(F) F(char) F(uchar) F(short) F(ushort) F(int) F(uint) F(long) F(ulong)

FLOATING_1(acos)
FLOATING_1(acosh)
FLOATING_1(asin)
FLOATING_1(asinh)
FLOATING_1(atan)
FLOATING_1(atanh)
FLOATING_1(ceil)
FLOATING_1(cos)
FLOATING_1(cosh)
FLOATING_1(cospi)
FLOATING_1(exp)
FLOATING_1(exp2)
FLOATING_1(exp10)
FLOATING_1(fabs)
FLOATING_1(floor)
FLOATING_1(fract)
FLOATING_1(log)
FLOATING_1(log2)
FLOATING_1(log10)
FLOATING_1(rint)
FLOATING_1(round)
FLOATING_1(rsqrt)
FLOATING_1(sin)
FLOATING_1(sinh)
FLOATING_1(sinpi)
FLOATING_1(sqrt)
FLOATING_1(tan)
FLOATING_1(tanh)
FLOATING_1(tanpi)
FLOATING_1(trunc)
FLOATING_1(saturate)
FLOATING_2(atan2)
FLOATING_2(copysign)
FLOATING_2(fdim)
FLOATING_2(fmax)
FLOATING_2(fmin)
FLOATING_2(fmod)
FLOATING_2(pow)
FLOATING_2(powr)
FLOATING_2(step)
FLOATING_2(nextafter)
FLOATING_3(fma)
FLOATING_3(mix)
FLOATING_3(smoothstep)
FLOATING_3(fmedian3)
float divide(float, float);
half divide(half, half);
float sincos(float, thread float&);
float frexp(float, thread int&);
float ldexp(float, int);
float modf(float, thread float&);
int ilogb(float);

namespace precise {
using namespace metal;
}
namespace fast {
using namespace metal;
}

#define COMMON(T)                                                          \
  constexpr T min(T a, T b) { return a < b ? a : b; }                      \
  constexpr T max(T a, T b) { return a < b ? b : a; }                      \
  constexpr T clamp(T x, T low, T high) { return min(max(x, low), high); } \
  T min3(T, T, T);                                                         \
  T max3(T, T, T);                                                         \
  T median3(T, T, T);
EACH_INTEGER(COMMON)
COMMON(half)
COMMON(float)
#undef COMMON
template <typename T, int N>
vec<T, N> min(vec<T, N>, vec<T, N>);
template <typename T, int N>
vec<T, N> min(vec<T, N>, typename type_identity<T>::type);
template <typename T, int N>
vec<T, N> max(vec<T, N>, vec<T, N>);
template <typename T, int N>
vec<T, N> max(vec<T, N>, typename type_identity<T>::type);
template <typename T, int N>
vec<T, N> clamp(vec<T, N>, vec<T, N>, vec<T, N>);
template <typename T, int N>
vec<T, N> clamp(vec<T, N>, typename type_identity<T>::type, typename type_identity<T>::type);
float abs(float);
half abs(half);
float sign(float);
half sign(half);
#define INTEGER(T)               \
  T abs(T);                      \
  T absdiff(T, T);               \
  T addsat(T, T);                \
  T subsat(T, T);                \
  T hadd(T, T);                  \
  T rhadd(T, T);                 \
  T mulhi(T, T);                 \
  T madhi(T, T, T);              \
  T popcount(T);                 \
  T clz(T);                      \
  T ctz(T);                      \
  T rotate(T, T);                \
  T reverse_bits(T);             \
  T extract_bits(T, uint, uint); \
  T insert_bits(T, T, uint, uint);
EACH_INTEGER(INTEGER)
#undef INTEGER
template <typename T, int N>
vec<T, N> abs(vec<T, N>);
template <typename T, int N>
vec<T, N> sign(vec<T, N>);
template <typename T, int N>
vec<T, N> mulhi(vec<T, N>, vec<T, N>);
template <typename T, int N>
vec<T, N> popcount(vec<T, N>);

#define RELATIONAL(name)       \
  bool name(half);             \
  bool name(float);            \
  template <typename T, int N> \
  vec<bool, N> name(vec<T, N>);
RELATIONAL(isfinite)
RELATIONAL(isinf)
RELATIONAL(isnan)
RELATIONAL(isnormal)
RELATIONAL(signbit)
#undef RELATIONAL
template <int N>
bool all(vec<bool, N>);
template <int N>
bool any(vec<bool, N>);
bool all(bool);
bool any(bool);
template <typename T>
T select(T, T, bool);
template <typename T, int N>
vec<T, N> select(vec<T, N>, vec<T, N>, vec<bool, N>);

template <typename T, int N>
enable_if_t<is_floating_point_v<T>, T> dot(vec<T, N>, vec<T, N>);
template <typename T, int N>
T length(vec<T, N>);
template <typename T, int N>
T length_squared(vec<T, N>);
template <typename T, int N>
T distance(vec<T, N>, vec<T, N>);
template <typename T, int N>
vec<T, N> normalize(vec<T, N>);
template <typename T>
vec<T, 3> cross(vec<T, 3>, vec<T, 3>);

vec<half, 2> unpack_unorm2x16_to_half(uint);
vec<float, 4> unpack_unorm4x8_to_float(uint);
vec<float, 4> unpack_snorm4x8_to_float(uint);
uint pack_float_to_unorm4x8(vec<float, 4>);
uint pack_float_to_snorm4x8(vec<float, 4>);

template <typename T>
bool is_function_constant_defined(const constant T&);
template <typename T>
T& threadgroup_variable();
template <typename... T>
void assume(T...);

template <typename T>
struct uniform {
  constexpr uniform(T) {}
  constexpr operator T() const { return T(); }
};
template <typename T>
constexpr uniform<T> make_uniform(T x) {
  return x;
}

#if __METAL_VERSION__ >= 320
struct os_log {
  constexpr os_log(const constant char*, const constant char*) constant {}
  template <typename... T>
  void log(const constant char*, T...) const constant;
  template <typename... T>
  void log_debug(const constant char*, T...) const constant;
  template <typename... T>
  void log_info(const constant char*, T...) const constant;
  template <typename... T>
  void log_error(const constant char*, T...) const constant;
  template <typename... T>
  void log_fault(const constant char*, T...) const constant;
};
#endif

#undef FLOATING_1
#undef OF_BFLOAT
#undef FLOATING_2
#undef FLOATING_3
#undef EACH_INTEGER
}  // namespace metal

template <typename T>
inline constexpr constant bool is_scalar_or_vector = metal::is_arithmetic_v<T>;
template <typename T, int N>
inline constexpr constant bool is_scalar_or_vector<vec<T, N>> = true;
template <typename T, int N>
inline constexpr constant bool is_scalar_or_vector<packed_vec<T, N>> = true;
template <typename To, typename From>
constexpr metal::enable_if_t<is_scalar_or_vector<To> && is_scalar_or_vector<From>, To> as_type(From) {
  static_assert(sizeof(To) == sizeof(From), "as_type takes types of one size");
  return To();
}
namespace metal {
using ::as_type;
}
