// Macros of Metal's headers, and its version. The first pass of the second reading includes this under every name that
// Metal's headers have (overlay.yaml): it lists the shader's tokens, and what stands in headers is no part of them.
#pragma once

#define METAL_FUNC inline
#define METAL_CONST_FUNC inline
#define METAL_INTERNAL inline
#define METAL_ALIGN(n) alignas(n)
#define assert(condition) ((void)0)

#if __METAL_VERSION__ >= 310
#define __HAVE_BFLOAT__ 1
#endif

#define INFINITY __builtin_inff()
#define NAN __builtin_nanf("")
#define HUGE_VALF INFINITY
#define MAXFLOAT 3.402823466e+38f
#define FLT_MAX 3.402823466e+38f
#define FLT_MIN 1.175494351e-38f
#define FLT_EPSILON 1.192092896e-07f
#define HALF_MAX 6.5504e+4h
#define CHAR_BIT 8
#define INT_MAX 2147483647
#define INT_MIN (-2147483647 - 1)
#define UINT_MAX 4294967295u
#define __UINT32_MAX__ UINT_MAX
#define USHRT_MAX 65535
#define SHRT_MAX 32767
#define UCHAR_MAX 255
#define M_E_F 2.71828182845904523536f
#define M_LOG2E_F 1.44269504088896340736f
#define M_LOG10E_F 0.43429448190325182765f
#define M_LN2_F 0.69314718055994530942f
#define M_LN10_F 2.30258509299404568402f
#define M_PI_F 3.14159265358979323846f
#define M_PI_2_F 1.57079632679489661923f
#define M_PI_4_F 0.78539816339744830962f
#define M_1_PI_F 0.31830988618379067154f
#define M_2_PI_F 0.63661977236758134308f
#define M_2_SQRTPI_F 1.12837916709551257390f
#define M_SQRT2_F 1.41421356237309504880f
#define M_SQRT1_2_F 0.70710678118654752440f
