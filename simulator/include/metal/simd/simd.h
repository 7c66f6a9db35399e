// The names that C, Objective-C and Metal share for vectors and matrices.
#pragma once
#ifndef MSL_READER

#include "_msl/prelude.h"

#define MSL_SIMD_NAME(T, name) \
  typedef T simd_##name;       \
  namespace simd {             \
  typedef T name;              \
  }
#define MSL_SIMD_NAMES(T)                   \
  MSL_SIMD_NAME(T##2, T##2)                 \
  MSL_SIMD_NAME(T##3, T##3)                 \
  MSL_SIMD_NAME(T##4, T##4)                 \
  typedef T##2 vector_##T##2;               \
  typedef T##3 vector_##T##3;               \
  typedef T##4 vector_##T##4;               \
  typedef packed_##T##2 simd_packed_##T##2; \
  typedef packed_##T##4 simd_packed_##T##4; \
  namespace simd {                          \
  typedef packed_##T##2 packed_##T##2;      \
  typedef packed_##T##4 packed_##T##4;      \
  }
MSL_SIMD_NAMES(char)
MSL_SIMD_NAMES(uchar)
MSL_SIMD_NAMES(short)
MSL_SIMD_NAMES(ushort)
MSL_SIMD_NAMES(half)
MSL_SIMD_NAMES(int)
MSL_SIMD_NAMES(uint)
MSL_SIMD_NAMES(float)
#undef MSL_SIMD_NAMES

#define MSL_SIMD_MATRIX(T, C, R)        \
  MSL_SIMD_NAME(T##C##x##R, T##C##x##R) \
  typedef T##C##x##R matrix_##T##C##x##R;
#define MSL_SIMD_MATRICES(T) \
  MSL_SIMD_MATRIX(T, 2, 2)   \
  MSL_SIMD_MATRIX(T, 2, 3)   \
  MSL_SIMD_MATRIX(T, 2, 4)   \
  MSL_SIMD_MATRIX(T, 3, 2)   \
  MSL_SIMD_MATRIX(T, 3, 3)   \
  MSL_SIMD_MATRIX(T, 3, 4) MSL_SIMD_MATRIX(T, 4, 2) MSL_SIMD_MATRIX(T, 4, 3) MSL_SIMD_MATRIX(T, 4, 4)
MSL_SIMD_MATRICES(float)
MSL_SIMD_MATRICES(half)
#undef MSL_SIMD_MATRICES
#undef MSL_SIMD_MATRIX
#undef MSL_SIMD_NAME

#endif
