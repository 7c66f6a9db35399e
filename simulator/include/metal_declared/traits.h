// Scalar types, and <metal_type_traits>, <metal_limits>.
#pragma once

#include "words.h"

#pragma OPENCL EXTENSION cl_khr_fp16 : enable
#pragma OPENCL EXTENSION __cl_clang_function_pointers : enable

#if __METAL_VERSION__ >= 310
typedef __bf16 bfloat;
#endif
typedef unsigned char uchar;
typedef unsigned short ushort;
typedef unsigned int uint;
typedef unsigned long ulong;
typedef char int8_t;
typedef uchar uint8_t;
typedef short int16_t;
typedef ushort uint16_t;
typedef int int32_t;
typedef uint uint32_t;
typedef long int64_t;
typedef ulong uint64_t;
typedef ulong size_t;
typedef long ptrdiff_t;
typedef ulong uintptr_t;
typedef long intptr_t;

namespace metal {
using ::int16_t;
using ::int32_t;
using ::int64_t;
using ::int8_t;
using ::ptrdiff_t;
using ::size_t;
using ::uint16_t;
using ::uint32_t;
using ::uint64_t;
using ::uint8_t;

template <typename T, T kValue>
struct integral_constant {
  static constexpr constant T value = kValue;
  using value_type = T;
  using type = integral_constant;
  constexpr operator T() const { return kValue; }
  constexpr T operator()() const { return kValue; }
};
template <bool kValue>
using bool_constant = integral_constant<bool, kValue>;
using true_type = bool_constant<true>;
using false_type = bool_constant<false>;

template <typename T, typename U>
struct is_same : bool_constant<__is_same(T, U)> {};
template <bool kValue, typename T = void>
struct enable_if {};
template <typename T>
struct enable_if<true, T> {
  using type = T;
};
template <bool kValue, typename T, typename U>
struct conditional {
  using type = T;
};
template <typename T, typename U>
struct conditional<false, T, U> {
  using type = U;
};
template <typename T>
struct type_identity {
  using type = T;
};

#define REMOVING(name)        \
  template <typename T>       \
  struct name {               \
    using type = __##name(T); \
  };                          \
  template <typename T>       \
  using name##_t = __##name(T);
REMOVING(remove_const)
REMOVING(remove_volatile)
REMOVING(remove_cv)
REMOVING(decay)
#undef REMOVING
template <typename T>
struct remove_reference : type_identity<T> {};
template <typename T>
struct remove_reference<T&> : type_identity<T> {};
template <typename T>
struct remove_reference<T&&> : type_identity<T> {};
template <typename T>
struct remove_addrspace : type_identity<__decay(T)> {};

template <bool kValue, typename T = void>
using enable_if_t = typename enable_if<kValue, T>::type;
template <bool kValue, typename T, typename U>
using conditional_t = typename conditional<kValue, T, U>::type;
template <typename T>
using remove_reference_t = typename remove_reference<T>::type;
template <typename T>
using remove_addrspace_t = typename remove_addrspace<T>::type;
template <typename T, typename U>
inline constexpr constant bool is_same_v = __is_same(T, U);

#define TRAIT(name, ...)                         \
  template <typename T>                          \
  struct name : bool_constant<(__VA_ARGS__)> {}; \
  template <typename T>                          \
  inline constexpr constant bool name##_v = (__VA_ARGS__);
TRAIT(is_integral, __is_integral(T))
TRAIT(is_floating_point, __is_floating_point(T))
TRAIT(is_arithmetic, __is_arithmetic(T))
TRAIT(is_scalar, __is_arithmetic(T) || __is_enum(T))
TRAIT(is_signed, __is_signed(T))
TRAIT(is_unsigned, __is_unsigned(T))
TRAIT(is_enum, __is_enum(T))
TRAIT(is_class, __is_class(T))
TRAIT(is_pointer, __is_pointer(T))
TRAIT(is_const, __is_const(T))
TRAIT(is_trivially_copyable, __is_trivially_copyable(T))
#undef TRAIT
template <typename From, typename To>
struct is_convertible : bool_constant<__is_convertible_to(From, To)> {};
template <typename From, typename To>
inline constexpr constant bool is_convertible_v = __is_convertible_to(From, To);
template <typename Base, typename Derived>
struct is_base_of : bool_constant<__is_base_of(Base, Derived)> {};
template <typename Base, typename Derived>
inline constexpr constant bool is_base_of_v = __is_base_of(Base, Derived);
template <typename... T>
struct _disjunction : bool_constant<(T::value || ...)> {};
template <typename... T>
struct _conjunction : bool_constant<(T::value && ...)> {};
template <typename T>
struct make_unsigned : type_identity<__make_unsigned(T)> {};
template <typename T>
struct make_signed : type_identity<__make_signed(T)> {};
template <typename T>
using make_unsigned_t = typename make_unsigned<T>::type;
template <typename T>
using make_signed_t = typename make_signed<T>::type;
template <typename T>
T declval();
template <typename T>
constexpr remove_reference_t<T>&& move(T&& x) {
  return static_cast<remove_reference_t<T>&&>(x);
}

template <typename T>
struct numeric_limits {
  static constexpr constant bool is_specialized = true;
  static constexpr constant bool is_integer = __is_integral(T);
  static constexpr constant bool is_signed = T(-1) < T(0);
  static constexpr constant int digits = sizeof(T) * 8 - 1;
  static constexpr T min() { return T(); }
  static constexpr T max() { return T(); }
  static constexpr T lowest() { return T(); }
  static constexpr T epsilon() { return T(); }
  static constexpr T infinity() { return T(); }
  static constexpr T quiet_NaN() { return T(); }
  static constexpr T denorm_min() { return T(); }
};
}  // namespace metal
