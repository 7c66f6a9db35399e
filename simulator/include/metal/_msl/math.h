// metal_math, metal_common, metal_geometric, metal_relational and metal_integer.
//
// Scalar functions are overloads, not templates, so that a call which is ambiguous on a Mac - max(0, x) with a float x,
// max(h, f) with a half and a float - is ambiguous here. bfloat has no overloads there and converts to float.
// Everything is computed as IEEE says, in float, whichever of fast:: and precise:: was asked for.
#pragma once

#include "constants.h"
#include "traits.h"

#define MSL_IF MSL_REQUIRES
#define MSL_EACH_INTEGER(M) M(char) M(uchar) M(short) M(ushort) M(int) M(uint) M(long) M(ulong)

// A function of vectors from the function of scalars.
#define MSL_VECTOR_1(name)                                                          \
  template <class T>                                                                \
  MSL_INLINE auto name(vec<T, 2> a) -> vec<decltype(name(a.x)), 2> {                \
    return vec<decltype(name(a.x)), 2>(name(a.x), name(a.y));                       \
  }                                                                                 \
  template <class T>                                                                \
  MSL_INLINE auto name(vec<T, 3> a) -> vec<decltype(name(a.x)), 3> {                \
    return vec<decltype(name(a.x)), 3>(name(a.x), name(a.y), name(a.z));            \
  }                                                                                 \
  template <class T>                                                                \
  MSL_INLINE auto name(vec<T, 4> a) -> vec<decltype(name(a.x)), 4> {                \
    return vec<decltype(name(a.x)), 4>(name(a.x), name(a.y), name(a.z), name(a.w)); \
  }

#define MSL_VECTOR_2(name)                                                                                   \
  template <class T>                                                                                         \
  MSL_INLINE auto name(vec<T, 2> a, vec<T, 2> b) -> vec<decltype(name(a.x, b.x)), 2> {                       \
    return vec<decltype(name(a.x, b.x)), 2>(name(a.x, b.x), name(a.y, b.y));                                 \
  }                                                                                                          \
  template <class T>                                                                                         \
  MSL_INLINE auto name(vec<T, 3> a, vec<T, 3> b) -> vec<decltype(name(a.x, b.x)), 3> {                       \
    return vec<decltype(name(a.x, b.x)), 3>(name(a.x, b.x), name(a.y, b.y), name(a.z, b.z));                 \
  }                                                                                                          \
  template <class T>                                                                                         \
  MSL_INLINE auto name(vec<T, 4> a, vec<T, 4> b) -> vec<decltype(name(a.x, b.x)), 4> {                       \
    return vec<decltype(name(a.x, b.x)), 4>(name(a.x, b.x), name(a.y, b.y), name(a.z, b.z), name(a.w, b.w)); \
  }                                                                                                          \
  template <class T, int N, class S, MSL_IF(msl_types::splats<S, T>::value)>                                 \
  MSL_INLINE auto name(vec<T, N> a, S b) -> decltype(name(a, a)) {                                           \
    return name(a, vec<T, N>(b));                                                                            \
  }                                                                                                          \
  template <class T, int N, class S, MSL_IF(msl_types::splats<S, T>::value)>                                 \
  MSL_INLINE auto name(S a, vec<T, N> b) -> decltype(name(b, b)) {                                           \
    return name(vec<T, N>(a), b);                                                                            \
  }

#define MSL_VECTOR_3(name)                                                                                \
  template <class T>                                                                                      \
  MSL_INLINE vec<T, 2> name(vec<T, 2> a, vec<T, 2> b, vec<T, 2> c) {                                      \
    return vec<T, 2>(name(a.x, b.x, c.x), name(a.y, b.y, c.y));                                           \
  }                                                                                                       \
  template <class T>                                                                                      \
  MSL_INLINE vec<T, 3> name(vec<T, 3> a, vec<T, 3> b, vec<T, 3> c) {                                      \
    return vec<T, 3>(name(a.x, b.x, c.x), name(a.y, b.y, c.y), name(a.z, b.z, c.z));                      \
  }                                                                                                       \
  template <class T>                                                                                      \
  MSL_INLINE vec<T, 4> name(vec<T, 4> a, vec<T, 4> b, vec<T, 4> c) {                                      \
    return vec<T, 4>(name(a.x, b.x, c.x), name(a.y, b.y, c.y), name(a.z, b.z, c.z), name(a.w, b.w, c.w)); \
  }                                                                                                       \
  template <class T, int N, class S, class R,                                                             \
            MSL_IF((msl_types::splats<S, T>::value || __is_same(S, vec<T, N>)) &&                         \
                   (msl_types::splats<R, T>::value || __is_same(R, vec<T, N>)) &&                         \
                   !(__is_same(S, vec<T, N>) && __is_same(R, vec<T, N>)))>                                \
  MSL_INLINE vec<T, N> name(vec<T, N> a, S b, R c) {                                                      \
    return name(a, vec<T, N>(b), vec<T, N>(c));                                                           \
  }

// The floating-point overloads, of float and half, given the float one's body. Integers alone are ambiguous there.
#define MSL_FLOAT_1(name, ...)                                                            \
  MSL_INLINE float name(float x) { return __VA_ARGS__; }                                  \
  MSL_INLINE half name(half x) { return static_cast<half>(name(static_cast<float>(x))); } \
  MSL_VECTOR_1(name)

#define MSL_FLOAT_2(name, ...)                                                    \
  MSL_INLINE float name(float x, float y) { return __VA_ARGS__; }                 \
  MSL_INLINE half name(half x, half y) {                                          \
    return static_cast<half>(name(static_cast<float>(x), static_cast<float>(y))); \
  }                                                                               \
  MSL_VECTOR_2(name)

#define MSL_FLOAT_3(name, ...)                                                                           \
  MSL_INLINE float name(float x, float y, float z) { return __VA_ARGS__; }                               \
  MSL_INLINE half name(half x, half y, half z) {                                                         \
    return static_cast<half>(name(static_cast<float>(x), static_cast<float>(y), static_cast<float>(z))); \
  }                                                                                                      \
  MSL_VECTOR_3(name)

namespace metal {

// --- functions of floating-point numbers

#define MSL_MATH_FUNCTIONS(M1, M2, M3)                                                            \
  M1(acos, __builtin_acosf(x))                                                                    \
  M1(acosh, __builtin_acoshf(x))                                                                  \
  M1(asin, __builtin_asinf(x))                                                                    \
  M1(asinh, __builtin_asinhf(x))                                                                  \
  M1(atan, __builtin_atanf(x))                                                                    \
  M1(atanh, __builtin_atanhf(x))                                                                  \
  M1(ceil, __builtin_ceilf(x))                                                                    \
  M1(cos, __builtin_cosf(x))                                                                      \
  M1(cosh, __builtin_coshf(x))                                                                    \
  M1(cospi, msl_cospi(x))                                                                         \
  M1(exp, __builtin_expf(x))                                                                      \
  M1(exp2, __builtin_exp2f(x))                                                                    \
  M1(exp10, static_cast<float>(__builtin_exp(x * 2.302585092994045684)))                          \
  M1(fabs, __builtin_fabsf(x))                                                                    \
  M1(floor, __builtin_floorf(x))                                                                  \
  M1(fract, __builtin_fminf(x - __builtin_floorf(x), 0x1.fffffep-1f))                             \
  M1(log, __builtin_logf(x))                                                                      \
  M1(log2, __builtin_log2f(x))                                                                    \
  M1(log10, __builtin_log10f(x))                                                                  \
  M1(rint, __builtin_rintf(x))                                                                    \
  M1(round, __builtin_roundf(x))                                                                  \
  M1(rsqrt, 1.0f / __builtin_sqrtf(x))                                                            \
  M1(sin, __builtin_sinf(x))                                                                      \
  M1(sinh, __builtin_sinhf(x))                                                                    \
  M1(sinpi, msl_sinpi(x))                                                                         \
  M1(sqrt, __builtin_sqrtf(x))                                                                    \
  M1(tan, __builtin_tanf(x))                                                                      \
  M1(tanh, __builtin_tanhf(x))                                                                    \
  M1(tanpi, msl_sinpi(x) / msl_cospi(x))                                                          \
  M1(trunc, __builtin_truncf(x))                                                                  \
  M1(saturate, __builtin_fminf(__builtin_fmaxf(x, 0.0f), 1.0f))                                   \
  M1(sign, x > 0 ? 1.0f : x < 0 ? -1.0f : x == 0 ? x : 0.0f)                                      \
  M2(atan2, __builtin_atan2f(x, y))                                                               \
  M2(copysign, __builtin_copysignf(x, y))                                                         \
  M2(divide, x / y)                                                                               \
  M2(fdim, __builtin_fdimf(x, y))                                                                 \
  M2(fmax, __builtin_fmaxf(x, y))                                                                 \
  M2(fmin, __builtin_fminf(x, y))                                                                 \
  M2(fmod, __builtin_fmodf(x, y))                                                                 \
  M2(nextafter, __builtin_nextafterf(x, y))                                                       \
  M2(pow, __builtin_powf(x, y))                                                                   \
  M2(powr, x < 0 ? __builtin_nanf("") : __builtin_powf(x, y))                                     \
  M2(step, y < x ? 0.0f : 1.0f)                                                                   \
  M3(fma, __builtin_fmaf(x, y, z))                                                                \
  M3(fmax3, __builtin_fmaxf(x, __builtin_fmaxf(y, z)))                                            \
  M3(fmin3, __builtin_fminf(x, __builtin_fminf(y, z)))                                            \
  M3(fmedian3, __builtin_fmaxf(__builtin_fminf(x, y), __builtin_fminf(__builtin_fmaxf(x, y), z))) \
  M3(mix, x + (y - x) * z)                                                                        \
  M3(smoothstep, msl_smoothstep(x, y, z))

// Exact to a rounding for every x: the remainder of x by 2 is exact.
MSL_INLINE float msl_sinpi(float x) {
  return static_cast<float>(__builtin_sin(3.14159265358979323846 * __builtin_remainder(x, 2.0)));
}
MSL_INLINE float msl_cospi(float x) {
  return static_cast<float>(__builtin_cos(3.14159265358979323846 * __builtin_remainder(x, 2.0)));
}
MSL_INLINE float msl_smoothstep(float a, float b, float x) {
  float t = __builtin_fminf(__builtin_fmaxf((x - a) / (b - a), 0.0f), 1.0f);
  return t * t * (3.0f - 2.0f * t);
}

MSL_MATH_FUNCTIONS(MSL_FLOAT_1, MSL_FLOAT_2, MSL_FLOAT_3)

// --- min, max, abs, clamp: of floating-point numbers and of integers

MSL_FLOAT_2(max, __builtin_fmaxf(x, y))
MSL_FLOAT_2(min, __builtin_fminf(x, y))
MSL_FLOAT_3(clamp, __builtin_fminf(__builtin_fmaxf(x, y), z))
MSL_FLOAT_3(max3, __builtin_fmaxf(x, __builtin_fmaxf(y, z)))
MSL_FLOAT_3(min3, __builtin_fminf(x, __builtin_fminf(y, z)))
MSL_FLOAT_3(median3, __builtin_fmaxf(__builtin_fminf(x, y), __builtin_fminf(__builtin_fmaxf(x, y), z)))
MSL_INLINE float abs(float x) { return __builtin_fabsf(x); }
MSL_INLINE half abs(half x) { return static_cast<half>(__builtin_fabsf(x)); }

#define MSL_INTEGER_FUNCTIONS(T)                                                                                  \
  MSL_INLINE T max(T x, T y) { return x > y ? x : y; }                                                            \
  MSL_INLINE T min(T x, T y) { return x < y ? x : y; }                                                            \
  MSL_INLINE T clamp(T x, T lo, T hi) { return min(max(x, lo), hi); }                                             \
  MSL_INLINE T max3(T x, T y, T z) { return max(x, max(y, z)); }                                                  \
  MSL_INLINE T min3(T x, T y, T z) { return min(x, min(y, z)); }                                                  \
  MSL_INLINE T median3(T x, T y, T z) { return max(min(x, y), min(max(x, y), z)); }                               \
  MSL_INLINE T abs(T x) { return x < 0 ? static_cast<T>(-x) : x; }                                                \
  MSL_INLINE make_unsigned_t<T> absdiff(T x, T y) {                                                               \
    return x > y ? static_cast<make_unsigned_t<T>>(x) - static_cast<make_unsigned_t<T>>(y)                        \
                 : static_cast<make_unsigned_t<T>>(y) - static_cast<make_unsigned_t<T>>(x);                       \
  }                                                                                                               \
  MSL_INLINE T addsat(T x, T y) {                                                                                 \
    T r;                                                                                                          \
    return !__builtin_add_overflow(x, y, &r) ? r : y < 0 ? numeric_limits<T>::min() : numeric_limits<T>::max();   \
  }                                                                                                               \
  MSL_INLINE T subsat(T x, T y) {                                                                                 \
    T r;                                                                                                          \
    return !__builtin_sub_overflow(x, y, &r) ? r                                                                  \
           : y < 0 || x > y                  ? numeric_limits<T>::max()                                           \
                                             : numeric_limits<T>::min();                                                           \
  }                                                                                                               \
  MSL_INLINE T clz(T x) {                                                                                         \
    return x == 0 ? sizeof(T) * 8 : __builtin_clzl(static_cast<make_unsigned_t<T>>(x)) - (8 - sizeof(T)) * 8;     \
  }                                                                                                               \
  MSL_INLINE T ctz(T x) { return x == 0 ? sizeof(T) * 8 : __builtin_ctzl(static_cast<make_unsigned_t<T>>(x)); }   \
  MSL_INLINE T popcount(T x) { return __builtin_popcountl(static_cast<make_unsigned_t<T>>(x)); }                  \
  MSL_INLINE T reverse_bits(T x) {                                                                                \
    return static_cast<T>(__builtin_bitreverse64(static_cast<make_unsigned_t<T>>(x)) >> (8 - sizeof(T)) * 8);     \
  }                                                                                                               \
  MSL_INLINE T hadd(T x, T y) { return static_cast<T>((static_cast<__int128>(x) + y) >> 1); }                     \
  MSL_INLINE T rhadd(T x, T y) { return static_cast<T>((static_cast<__int128>(x) + y + 1) >> 1); }                \
  MSL_INLINE T mulhi(T x, T y) { return static_cast<T>((static_cast<__int128>(x) * y) >> sizeof(T) * 8); }        \
  MSL_INLINE T madhi(T x, T y, T z) { return mulhi(x, y) + z; }                                                   \
  MSL_INLINE T madsat(T x, T y, T z) {                                                                            \
    __int128 r = static_cast<__int128>(x) * y + z;                                                                \
    return r < static_cast<__int128>(numeric_limits<T>::min())   ? numeric_limits<T>::min()                       \
           : r > static_cast<__int128>(numeric_limits<T>::max()) ? numeric_limits<T>::max()                       \
                                                                 : static_cast<T>(r);                             \
  }                                                                                                               \
  MSL_INLINE T rotate(T x, T n) {                                                                                 \
    const int bits = sizeof(T) * 8, k = static_cast<int>(n) & (bits - 1);                                         \
    const make_unsigned_t<T> u = x;                                                                               \
    return k == 0 ? x : static_cast<T>(u << k | u >> (bits - k));                                                 \
  }                                                                                                               \
  MSL_INLINE T extract_bits(T x, uint offset, uint n) {                                                           \
    return n == 0 ? 0 : static_cast<T>(static_cast<T>(x << (sizeof(T) * 8 - offset - n)) >> (sizeof(T) * 8 - n)); \
  }                                                                                                               \
  MSL_INLINE T insert_bits(T base, T insert, uint offset, uint n) {                                               \
    const make_unsigned_t<T> mask = static_cast<make_unsigned_t<T>>((n >= 64 ? ~0ul : (1ul << n) - 1) << offset); \
    return static_cast<T>((base & ~mask) | ((static_cast<make_unsigned_t<T>>(insert) << offset) & mask));         \
  }
MSL_EACH_INTEGER(MSL_INTEGER_FUNCTIONS)

// Two bfloats convert to any of these types, and to none better than to another.
#define MSL_AMBIGUOUS(name)                                              \
  template <class T, MSL_IF(__is_same(T, bfloat))>                       \
  void name(T x, T y);                                                   \
  template <class T, MSL_IF(__is_same(T, bfloat)), class another = void> \
  void name(T x, T y);
MSL_AMBIGUOUS(max)
MSL_AMBIGUOUS(min)
#undef MSL_AMBIGUOUS

#undef MSL_INTEGER_FUNCTIONS

MSL_INLINE int mul24(int x, int y) { return (x << 8 >> 8) * (y << 8 >> 8); }
MSL_INLINE uint mul24(uint x, uint y) { return (x & 0xffffff) * (y & 0xffffff); }
MSL_INLINE int mad24(int x, int y, int z) { return mul24(x, y) + z; }
MSL_INLINE uint mad24(uint x, uint y, uint z) { return mul24(x, y) + z; }

MSL_VECTOR_1(abs)
MSL_VECTOR_1(clz)
MSL_VECTOR_1(ctz)
MSL_VECTOR_1(popcount)
MSL_VECTOR_1(reverse_bits)
MSL_VECTOR_2(absdiff)
MSL_VECTOR_2(addsat)
MSL_VECTOR_2(subsat)
MSL_VECTOR_2(hadd)
MSL_VECTOR_2(rhadd)
MSL_VECTOR_2(mulhi)
MSL_VECTOR_2(rotate)
MSL_VECTOR_2(mul24)
MSL_VECTOR_3(madhi)
MSL_VECTOR_3(madsat)
MSL_VECTOR_3(mad24)

// --- with a second result

template <class T, MSL_IF(__is_same(T, float) || __is_same(T, half))>
MSL_INLINE T sincos(T x, thread T& c) {
  c = cos(x);
  return sin(x);
}
template <class T, int N>
MSL_INLINE vec<T, N> sincos(vec<T, N> x, thread vec<T, N>& c) {
  c = cos(x);
  return sin(x);
}
template <class T, MSL_IF(__is_same(T, float) || __is_same(T, half))>
MSL_INLINE T modf(T x, thread T& whole) {
  whole = trunc(x);
  return copysign(__builtin_isinf(static_cast<float>(x)) ? T(0) : T(x - whole), x);
}
template <class T, MSL_IF(__is_same(T, float) || __is_same(T, half))>
MSL_INLINE T frexp(T x, thread int& exponent) {
  return static_cast<T>(__builtin_frexpf(x, &exponent));
}
template <class T, MSL_IF(__is_same(T, float) || __is_same(T, half))>
MSL_INLINE T ldexp(T x, int k) {
  return static_cast<T>(__builtin_ldexpf(x, k));
}
template <class T, MSL_IF(__is_same(T, float) || __is_same(T, half))>
MSL_INLINE int ilogb(T x) {
  return __builtin_ilogbf(x);
}

// --- relational

#define MSL_RELATIONAL_1(name, ...)                                    \
  MSL_INLINE bool name(float x) { return __VA_ARGS__; }                \
  MSL_INLINE bool name(half x) { return name(static_cast<float>(x)); } \
  MSL_VECTOR_1(name)
MSL_RELATIONAL_1(isnan, __builtin_isnan(x))
MSL_RELATIONAL_1(isinf, __builtin_isinf(x))
MSL_RELATIONAL_1(isfinite, __builtin_isfinite(x))
MSL_RELATIONAL_1(isnormal, __builtin_isnormal(x))
MSL_RELATIONAL_1(signbit, __builtin_signbitf(x))
#undef MSL_RELATIONAL_1

#define MSL_RELATIONAL_2(name, ...)                                                                   \
  MSL_INLINE bool name(float x, float y) { return __VA_ARGS__; }                                      \
  MSL_INLINE bool name(half x, half y) { return name(static_cast<float>(x), static_cast<float>(y)); } \
  MSL_VECTOR_2(name)
MSL_RELATIONAL_2(isunordered, __builtin_isunordered(x, y))
MSL_RELATIONAL_2(isordered, !__builtin_isunordered(x, y))
#undef MSL_RELATIONAL_2

MSL_INLINE bool any(bool x) { return x; }
MSL_INLINE bool any(bool2 v) { return v.x || v.y; }
MSL_INLINE bool any(bool3 v) { return v.x || v.y || v.z; }
MSL_INLINE bool any(bool4 v) { return v.x || v.y || v.z || v.w; }
MSL_INLINE bool all(bool x) { return x; }
MSL_INLINE bool all(bool2 v) { return v.x && v.y; }
MSL_INLINE bool all(bool3 v) { return v.x && v.y && v.z; }
MSL_INLINE bool all(bool4 v) { return v.x && v.y && v.z && v.w; }

// select(a, b, c) is b where c holds.
template <class T, MSL_IF(msl_types::is_number<T>::value)>
MSL_INLINE T select(T a, T b, bool c) {
  return c ? b : a;
}
template <class T>
MSL_INLINE vec<T, 2> select(vec<T, 2> a, vec<T, 2> b, bool2 c) {
  return vec<T, 2>(c.x ? b.x : a.x, c.y ? b.y : a.y);
}
template <class T>
MSL_INLINE vec<T, 3> select(vec<T, 3> a, vec<T, 3> b, bool3 c) {
  return vec<T, 3>(c.x ? b.x : a.x, c.y ? b.y : a.y, c.z ? b.z : a.z);
}
template <class T>
MSL_INLINE vec<T, 4> select(vec<T, 4> a, vec<T, 4> b, bool4 c) {
  return vec<T, 4>(c.x ? b.x : a.x, c.y ? b.y : a.y, c.z ? b.z : a.z, c.w ? b.w : a.w);
}

// --- geometric

template <class T, MSL_IF(!__is_integral(T))>
MSL_INLINE T dot(vec<T, 2> a, vec<T, 2> b) {
  return a.x * b.x + a.y * b.y;
}
template <class T, MSL_IF(!__is_integral(T))>
MSL_INLINE T dot(vec<T, 3> a, vec<T, 3> b) {
  return a.x * b.x + a.y * b.y + a.z * b.z;
}
template <class T, MSL_IF(!__is_integral(T))>
MSL_INLINE T dot(vec<T, 4> a, vec<T, 4> b) {
  return a.x * b.x + a.y * b.y + a.z * b.z + a.w * b.w;
}
template <class T>
MSL_INLINE vec<T, 3> cross(vec<T, 3> a, vec<T, 3> b) {
  return a.yzx * b.zxy - a.zxy * b.yzx;
}
template <class T, int N>
MSL_INLINE T length_squared(vec<T, N> v) {
  return dot(v, v);
}
template <class T, int N>
MSL_INLINE T length(vec<T, N> v) {
  return sqrt(dot(v, v));
}
template <class T, int N>
MSL_INLINE T distance(vec<T, N> a, vec<T, N> b) {
  return length(a - b);
}
template <class T, int N>
MSL_INLINE T distance_squared(vec<T, N> a, vec<T, N> b) {
  return length_squared(a - b);
}
template <class T, int N>
MSL_INLINE vec<T, N> normalize(vec<T, N> v) {
  return v / length(v);
}
template <class T, int N>
MSL_INLINE vec<T, N> reflect(vec<T, N> i, vec<T, N> n) {
  return i - n * (T(2) * dot(n, i));
}
template <class T, int N>
MSL_INLINE vec<T, N> faceforward(vec<T, N> n, vec<T, N> i, vec<T, N> reference) {
  return dot(reference, i) < 0 ? n : -n;
}

// --- fast:: and precise::, which take float alone

#define MSL_PRECISION_1(name, ...)                       \
  MSL_INLINE float name(float x) { return __VA_ARGS__; } \
  template <int N>                                       \
  MSL_INLINE vec<float, N> name(vec<float, N> x) {       \
    return metal::name(x);                               \
  }
#define MSL_PRECISION_2(name, ...)                                  \
  MSL_INLINE float name(float x, float y) { return __VA_ARGS__; }   \
  template <int N>                                                  \
  MSL_INLINE vec<float, N> name(vec<float, N> x, vec<float, N> y) { \
    return metal::name(x, y);                                       \
  }
#define MSL_PRECISION_3(name, ...)                                                   \
  MSL_INLINE float name(float x, float y, float z) { return __VA_ARGS__; }           \
  template <int N>                                                                   \
  MSL_INLINE vec<float, N> name(vec<float, N> x, vec<float, N> y, vec<float, N> z) { \
    return metal::name(x, y, z);                                                     \
  }
#define MSL_PRECISION_NAMESPACE(space)                                              \
  namespace space {                                                                 \
  MSL_MATH_FUNCTIONS(MSL_PRECISION_1, MSL_PRECISION_2, MSL_PRECISION_3)             \
  MSL_PRECISION_1(abs, __builtin_fabsf(x))                                          \
  MSL_PRECISION_2(max, __builtin_fmaxf(x, y))                                       \
  MSL_PRECISION_2(min, __builtin_fminf(x, y))                                       \
  MSL_PRECISION_3(clamp, __builtin_fminf(__builtin_fmaxf(x, y), z))                 \
  MSL_INLINE float sincos(float x, thread float& c) { return metal::sincos(x, c); } \
  MSL_INLINE float ldexp(float x, int k) { return metal::ldexp(x, k); }             \
  template <class T, int N>                                                         \
  MSL_INLINE T length(vec<T, N> v) {                                                \
    return metal::length(v);                                                        \
  }                                                                                 \
  template <class T, int N>                                                         \
  MSL_INLINE vec<T, N> normalize(vec<T, N> v) {                                     \
    return metal::normalize(v);                                                     \
  }                                                                                 \
  }
MSL_PRECISION_NAMESPACE(fast)
MSL_PRECISION_NAMESPACE(precise)

}  // namespace metal

#undef MSL_PRECISION_NAMESPACE
#undef MSL_PRECISION_1
#undef MSL_PRECISION_2
#undef MSL_PRECISION_3

// The same bits as another type; a name of the language, not of a namespace.
template <class To, class From>
MSL_INLINE constexpr To as_type(From from) {
  static_assert(sizeof(To) == sizeof(From), "as_type needs types of equal size");
  static_assert(msl_types::is_number<typename msl_types::element_of<To>::type>::value &&
                    msl_types::is_number<typename msl_types::element_of<From>::type>::value,
                "as_type cast of what is neither a number nor a vector is not allowed");
  return __builtin_bit_cast(To, from);
}
