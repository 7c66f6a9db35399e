// metal_array, metal_pack and metal_matrix.
#pragma once

#include "math.h"

namespace metal {

template <class T, size_t N>
struct array {
  T msl_elements[N];

  constexpr T& operator[](size_t i) { return msl_elements[i]; }
  constexpr const T& operator[](size_t i) const { return msl_elements[i]; }
  constexpr T& front() { return msl_elements[0]; }
  constexpr T& back() { return msl_elements[N - 1]; }
  constexpr thread T* data() { return msl_elements; }
  constexpr const thread T* data() const { return msl_elements; }
  constexpr size_t size() const { return N; }
  constexpr bool empty() const { return N == 0; }
  void fill(T value) {
    for (size_t i = 0; i < N; ++i) msl_elements[i] = value;
  }
};

}  // namespace metal

namespace msl_types {

// A vector without padding, aligned like its element.
template <class T, int N>
struct packed_vec {
  T x, y, z;
  packed_vec() = default;
  template <class U>
  explicit constexpr packed_vec(vec<U, 3> v) : packed_vec(vec<T, 3>(v)) {}
  template <class U, typename enable_if<!__is_same(U, T), int>::type = 0>
  explicit constexpr packed_vec(packed_vec<U, 3> v) : packed_vec(vec<T, 3>(v)) {}
  constexpr packed_vec(vec<T, 3> v) : x(v.x), y(v.y), z(v.z) {}
  explicit constexpr packed_vec(T s) : x(s), y(s), z(s) {}
  constexpr packed_vec(T x, T y, T z) : x(x), y(y), z(z) {}
  constexpr operator vec<T, 3>() const {
    const packed_vec v = *this;  // one access
    return vec<T, 3>(v.x, v.y, v.z);
  }
  template <class U>
  explicit constexpr operator vec<U, 3>() const {
    return vec<U, 3>(static_cast<vec<T, 3>>(*this));
  }
  constexpr T& operator[](int i) { return (&x)[i]; }
  constexpr const T& operator[](int i) const { return (&x)[i]; }
};
template <class T>
struct packed_vec<T, 2> {
  T x, y;
  packed_vec() = default;
  template <class U>
  explicit constexpr packed_vec(vec<U, 2> v) : packed_vec(vec<T, 2>(v)) {}
  template <class U, typename enable_if<!__is_same(U, T), int>::type = 0>
  explicit constexpr packed_vec(packed_vec<U, 2> v) : packed_vec(vec<T, 2>(v)) {}
  constexpr packed_vec(vec<T, 2> v) : x(v.x), y(v.y) {}
  explicit constexpr packed_vec(T s) : x(s), y(s) {}
  constexpr packed_vec(T x, T y) : x(x), y(y) {}
  constexpr operator vec<T, 2>() const {
    const packed_vec v = *this;
    return vec<T, 2>(v.x, v.y);
  }
  template <class U>
  explicit constexpr operator vec<U, 2>() const {
    return vec<U, 2>(static_cast<vec<T, 2>>(*this));
  }
  constexpr T& operator[](int i) { return (&x)[i]; }
  constexpr const T& operator[](int i) const { return (&x)[i]; }
};
template <class T>
struct packed_vec<T, 4> {
  T x, y, z, w;
  packed_vec() = default;
  template <class U>
  explicit constexpr packed_vec(vec<U, 4> v) : packed_vec(vec<T, 4>(v)) {}
  template <class U, typename enable_if<!__is_same(U, T), int>::type = 0>
  explicit constexpr packed_vec(packed_vec<U, 4> v) : packed_vec(vec<T, 4>(v)) {}
  constexpr packed_vec(vec<T, 4> v) : x(v.x), y(v.y), z(v.z), w(v.w) {}
  explicit constexpr packed_vec(T s) : x(s), y(s), z(s), w(s) {}
  constexpr packed_vec(T x, T y, T z, T w) : x(x), y(y), z(z), w(w) {}
  constexpr operator vec<T, 4>() const {
    const packed_vec v = *this;
    return vec<T, 4>(v.x, v.y, v.z, v.w);
  }
  template <class U>
  explicit constexpr operator vec<U, 4>() const {
    return vec<U, 4>(static_cast<vec<T, 4>>(*this));
  }
  constexpr T& operator[](int i) { return (&x)[i]; }
  constexpr const T& operator[](int i) const { return (&x)[i]; }
};

// Arithmetic on packed vectors is that of the vectors they convert to.
#define MSL_PACKED_BINARY(op)                                                                                  \
  template <class T, int N>                                                                                    \
  constexpr auto operator op(packed_vec<T, N> a, packed_vec<T, N> b)->decltype(vec<T, N>(a) op vec<T, N>(b)) { \
    return vec<T, N>(a) op vec<T, N>(b);                                                                       \
  }                                                                                                            \
  template <class T, int N, class R>                                                                           \
  constexpr auto operator op(packed_vec<T, N> a, R b)->decltype(vec<T, N>(a) op b) {                           \
    return vec<T, N>(a) op b;                                                                                  \
  }                                                                                                            \
  template <class T, int N, class L>                                                                           \
  constexpr auto operator op(L a, packed_vec<T, N> b)->decltype(a op vec<T, N>(b)) {                           \
    return a op vec<T, N>(b);                                                                                  \
  }
MSL_PACKED_BINARY(+)
MSL_PACKED_BINARY(-)
MSL_PACKED_BINARY(*)
MSL_PACKED_BINARY(/)
#undef MSL_PACKED_BINARY

template <class... A>
struct all_numbers {
  static const bool value = true;
};
template <class A, class... R>
struct all_numbers<A, R...> {
  static const bool value = is_number<A>::value && all_numbers<R...>::value;
};

// C columns of R rows.
template <class T, int C, int R>
struct matrix {
  vec<T, R> columns[C];

  MSL_INLINE matrix() {}  // for objects in thread memory
  explicit constexpr matrix(T diagonal) : columns() {
    for (int i = 0; i < (C < R ? C : R); ++i) columns[i][i] = diagonal;
  }
  template <class... V, typename enable_if<sizeof...(V) == C && !all_numbers<V...>::value, int>::type = 0>
  constexpr matrix(V... v) : columns{vec<T, R>(v)...} {}

  constexpr vec<T, R>& operator[](int i) { return columns[i]; }
  constexpr const vec<T, R>& operator[](int i) const { return columns[i]; }

  friend matrix operator+(matrix a, matrix b) {
    for (int i = 0; i < C; ++i) a[i] += b[i];
    return a;
  }
  friend matrix operator-(matrix a, matrix b) {
    for (int i = 0; i < C; ++i) a[i] -= b[i];
    return a;
  }
  template <class S, typename enable_if<__is_same(S, T), int>::type = 0>
  friend matrix operator*(matrix a, S s) {
    for (int i = 0; i < C; ++i) a[i] *= s;
    return a;
  }
  template <class S, typename enable_if<__is_same(S, T), int>::type = 0>
  friend matrix operator*(S s, matrix a) {
    return a * s;
  }
  friend vec<T, R> operator*(matrix m, vec<T, C> v) {
    vec<T, R> r = m[0] * v[0];
    for (int i = 1; i < C; ++i) r += m[i] * v[i];
    return r;
  }
  friend vec<T, C> operator*(vec<T, R> v, matrix m) {
    vec<T, C> r;
    for (int i = 0; i < C; ++i) r[i] = metal::dot(v, m[i]);
    return r;
  }
  template <int K>
  friend matrix<T, K, R> operator*(matrix a, matrix<T, K, C> b) {
    matrix<T, K, R> r;
    for (int i = 0; i < K; ++i) r[i] = a * b[i];
    return r;
  }
};

}  // namespace msl_types

namespace metal {
using msl_types::matrix;

template <class T, int C, int R>
MSL_INLINE matrix<T, R, C> transpose(matrix<T, C, R> m) {
  matrix<T, R, C> t;
  for (int i = 0; i < C; ++i) {
    for (int j = 0; j < R; ++j) t[j][i] = m[i][j];
  }
  return t;
}
}  // namespace metal

#define MSL_PACKED_NAMES(T)                          \
  typedef msl_types::packed_vec<T, 2> packed_##T##2; \
  typedef msl_types::packed_vec<T, 3> packed_##T##3; \
  typedef msl_types::packed_vec<T, 4> packed_##T##4; \
  namespace metal {                                  \
  using ::packed_##T##2;                             \
  using ::packed_##T##3;                             \
  using ::packed_##T##4;                             \
  }
MSL_PACKED_NAMES(char)
MSL_PACKED_NAMES(uchar)
MSL_PACKED_NAMES(short)
MSL_PACKED_NAMES(ushort)
MSL_PACKED_NAMES(int)
MSL_PACKED_NAMES(uint)
MSL_PACKED_NAMES(long)
MSL_PACKED_NAMES(half)
MSL_PACKED_NAMES(bfloat)
MSL_PACKED_NAMES(float)
#undef MSL_PACKED_NAMES

#define MSL_MATRIX_NAME(T, C, R)                 \
  typedef msl_types::matrix<T, C, R> T##C##x##R; \
  namespace metal {                              \
  using ::T##C##x##R;                            \
  }
#define MSL_MATRIX_NAMES(T) \
  MSL_MATRIX_NAME(T, 2, 2)  \
  MSL_MATRIX_NAME(T, 2, 3)  \
  MSL_MATRIX_NAME(T, 2, 4)  \
  MSL_MATRIX_NAME(T, 3, 2)  \
  MSL_MATRIX_NAME(T, 3, 3)  \
  MSL_MATRIX_NAME(T, 3, 4) MSL_MATRIX_NAME(T, 4, 2) MSL_MATRIX_NAME(T, 4, 3) MSL_MATRIX_NAME(T, 4, 4)
MSL_MATRIX_NAMES(float)
MSL_MATRIX_NAMES(half)
#undef MSL_MATRIX_NAMES
#undef MSL_MATRIX_NAME
