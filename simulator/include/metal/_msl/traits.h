// metal_type_traits and metal_limits.
#pragma once

#include "vec.h"

namespace msl_types {
template <class T>
struct is_bfloat {
  static const bool value = __is_same(__remove_cv(T), bfloat);
};
}  // namespace msl_types

namespace metal {

template <class T, T V>
struct integral_constant {
  static constexpr constant T value = V;
  typedef T value_type;
  typedef integral_constant type;
  constexpr operator T() const { return V; }
  constexpr T operator()() const { return V; }
};
template <bool B>
using bool_constant = integral_constant<bool, B>;
typedef bool_constant<true> true_type;
typedef bool_constant<false> false_type;

using msl_types::enable_if;
template <bool B, class T = void>
using enable_if_t = typename enable_if<B, T>::type;

template <bool B, class T, class F>
struct conditional {
  typedef T type;
};
template <class T, class F>
struct conditional<false, T, F> {
  typedef F type;
};
template <bool B, class T, class F>
using conditional_t = typename conditional<B, T, F>::type;

#define MSL_TYPE_TRAIT(name, builtin) \
  template <class T>                  \
  struct name {                       \
    typedef builtin(T) type;          \
  };                                  \
  template <class T>                  \
  using name##_t = typename name<T>::type;
MSL_TYPE_TRAIT(remove_const, __remove_const)
MSL_TYPE_TRAIT(remove_volatile, __remove_volatile)
MSL_TYPE_TRAIT(remove_cv, __remove_cv)
MSL_TYPE_TRAIT(remove_reference, __remove_reference_t)
MSL_TYPE_TRAIT(remove_pointer, __remove_pointer)
MSL_TYPE_TRAIT(add_pointer, __add_pointer)
MSL_TYPE_TRAIT(add_lvalue_reference, __add_lvalue_reference)
MSL_TYPE_TRAIT(add_rvalue_reference, __add_rvalue_reference)
MSL_TYPE_TRAIT(remove_extent, __remove_extent)
MSL_TYPE_TRAIT(remove_all_extents, __remove_all_extents)
MSL_TYPE_TRAIT(decay, __decay)
MSL_TYPE_TRAIT(make_signed, __make_signed)
MSL_TYPE_TRAIT(make_unsigned, __make_unsigned)
MSL_TYPE_TRAIT(underlying_type, __underlying_type)
#undef MSL_TYPE_TRAIT

template <class T>
struct add_const {
  typedef const T type;
};
template <class T>
using add_const_t = typename add_const<T>::type;

template <class T>
struct remove_addrspace {
  typedef T type;
};
template <class T>
struct remove_addrspace<device T> {
  typedef T type;
};
template <class T>
struct remove_addrspace<threadgroup T> {
  typedef T type;
};
template <class T>
struct remove_addrspace<constant T> {
  typedef const T type;
};
template <class T>
struct remove_addrspace<const device T> {
  typedef const T type;
};
template <class T>
struct remove_addrspace<const threadgroup T> {
  typedef const T type;
};
template <class T>
using remove_addrspace_t = typename remove_addrspace<T>::type;

#define MSL_VALUE_TRAIT(name, ...)             \
  template <class T>                           \
  struct name : bool_constant<__VA_ARGS__> {}; \
  template <class T>                           \
  constexpr constant bool name##_v = name<T>::value;
MSL_VALUE_TRAIT(is_void, __is_void(T))
MSL_VALUE_TRAIT(is_integral, __is_integral(T))
MSL_VALUE_TRAIT(is_floating_point, __is_floating_point(T) || msl_types::is_bfloat<T>::value)
MSL_VALUE_TRAIT(is_arithmetic, __is_arithmetic(T) || msl_types::is_bfloat<T>::value)
MSL_VALUE_TRAIT(is_scalar, __is_scalar(T) || msl_types::is_bfloat<T>::value)
MSL_VALUE_TRAIT(is_fundamental, __is_fundamental(T) || msl_types::is_bfloat<T>::value)
MSL_VALUE_TRAIT(is_signed, __is_signed(T) || msl_types::is_bfloat<T>::value)
MSL_VALUE_TRAIT(is_unsigned, __is_unsigned(T))
MSL_VALUE_TRAIT(is_pointer, __is_pointer(T))
MSL_VALUE_TRAIT(is_array, __is_array(T))
MSL_VALUE_TRAIT(is_enum, __is_enum(T))
MSL_VALUE_TRAIT(is_class, __is_class(T) && msl_types::element_of<T>::count == 1 && !msl_types::is_bfloat<T>::value)
MSL_VALUE_TRAIT(is_union, __is_union(T))
MSL_VALUE_TRAIT(is_const, __is_const(T))
MSL_VALUE_TRAIT(is_volatile, __is_volatile(T))
MSL_VALUE_TRAIT(is_reference, __is_reference(T))
MSL_VALUE_TRAIT(is_lvalue_reference, __is_lvalue_reference(T))
MSL_VALUE_TRAIT(is_rvalue_reference, __is_rvalue_reference(T))
MSL_VALUE_TRAIT(is_trivially_copyable, __is_trivially_copyable(T))
MSL_VALUE_TRAIT(is_standard_layout, __is_standard_layout(T))
MSL_VALUE_TRAIT(is_vector, (msl_types::element_of<T>::count > 1))
#undef MSL_VALUE_TRAIT

#define MSL_RELATION_TRAIT(name, builtin)        \
  template <class T, class U>                    \
  struct name : bool_constant<builtin(T, U)> {}; \
  template <class T, class U>                    \
  constexpr constant bool name##_v = name<T, U>::value;
MSL_RELATION_TRAIT(is_same, __is_same)
MSL_RELATION_TRAIT(is_base_of, __is_base_of)
MSL_RELATION_TRAIT(is_convertible, __is_convertible)
MSL_RELATION_TRAIT(is_assignable, __is_assignable)
#undef MSL_RELATION_TRAIT

template <class...>
struct _disjunction : false_type {};
template <class B, class... R>
struct _disjunction<B, R...> : conditional_t<bool(B::value), B, _disjunction<R...>> {};

template <class T, class... A>
struct is_constructible : bool_constant<__is_constructible(T, A...)> {};
template <class T, class... A>
constexpr constant bool is_constructible_v = is_constructible<T, A...>::value;

template <class T>
add_rvalue_reference_t<T> declval();

template <class... T>
struct common_type;
template <class T>
struct common_type<T> {
  typedef decay_t<T> type;
};
template <class T, class U, class... R>
struct common_type<T, U, R...> : common_type<decltype(true ? declval<T>() : declval<U>()), R...> {};
template <class... T>
using common_type_t = typename common_type<T...>::type;

template <class T>
constexpr remove_reference_t<T>&& move(T&& x) {
  return static_cast<remove_reference_t<T>&&>(x);
}
template <class T>
constexpr T&& forward(remove_reference_t<T>& x) {
  return static_cast<T&&>(x);
}

template <class T>
struct numeric_limits {
  static constexpr constant bool is_specialized = false;
};

// Literals are doubles here whatever the user's are: converted to T they are exact.
#define MSL_FLOAT_LIMITS(T, DIGITS, DIGITS10, MAX_DIGITS10, MIN_EXP, MAX_EXP, MIN, DENORM, MAX, EPSILON) \
  template <>                                                                                            \
  struct numeric_limits<T> {                                                                             \
    static constexpr constant bool is_specialized = true;                                                \
    static constexpr constant bool is_signed = true;                                                     \
    static constexpr constant bool is_integer = false;                                                   \
    static constexpr constant bool is_exact = false;                                                     \
    static constexpr constant bool has_infinity = true;                                                  \
    static constexpr constant bool has_quiet_NaN = true;                                                 \
    static constexpr constant int digits = DIGITS;                                                       \
    static constexpr constant int digits10 = DIGITS10;                                                   \
    static constexpr constant int max_digits10 = MAX_DIGITS10;                                           \
    static constexpr constant int radix = 2;                                                             \
    static constexpr constant int min_exponent = MIN_EXP;                                                \
    static constexpr constant int max_exponent = MAX_EXP;                                                \
    static constexpr T min() { return T(MIN); }                                                          \
    static constexpr T max() { return T(MAX); }                                                          \
    static constexpr T lowest() { return T(-(MAX)); }                                                    \
    static constexpr T epsilon() { return T(EPSILON); }                                                  \
    static constexpr T round_error() { return T(0.5); }                                                  \
    static constexpr T infinity() { return T(__builtin_inff()); }                                        \
    static constexpr T quiet_NaN() { return T(__builtin_nanf("")); }                                     \
    static constexpr T signaling_NaN() { return T(__builtin_nanf("")); }                                 \
    static constexpr T denorm_min() { return T(DENORM); }                                                \
  };
MSL_FLOAT_LIMITS(float, 24, 6, 9, -125, 128, 0x1p-126, 0x1p-149, 0x1.fffffep127, 0x1p-23)
MSL_FLOAT_LIMITS(half, 11, 3, 5, -13, 16, 0x1p-14, 0x1p-24, 65504.0, 0x1p-10)
MSL_FLOAT_LIMITS(bfloat, 8, 2, 4, -125, 128, 0x1p-126, 0x1p-133, 0x1.fep127, 0x1p-7)
#undef MSL_FLOAT_LIMITS

#define MSL_INTEGER_LIMITS(T, SIGNED, MIN, MAX)                                                  \
  template <>                                                                                    \
  struct numeric_limits<T> {                                                                     \
    static constexpr constant bool is_specialized = true;                                        \
    static constexpr constant bool is_signed = SIGNED;                                           \
    static constexpr constant bool is_integer = true;                                            \
    static constexpr constant bool is_exact = true;                                              \
    static constexpr constant bool has_infinity = false;                                         \
    static constexpr constant bool has_quiet_NaN = false;                                        \
    static constexpr constant int digits = __is_same(T, bool) ? 1 : int(sizeof(T) * 8 - SIGNED); \
    static constexpr constant int digits10 = digits * 3 / 10;                                    \
    static constexpr constant int radix = 2;                                                     \
    static constexpr T min() { return MIN; }                                                     \
    static constexpr T max() { return MAX; }                                                     \
    static constexpr T lowest() { return MIN; }                                                  \
    static constexpr T epsilon() { return 0; }                                                   \
    static constexpr T infinity() { return 0; }                                                  \
    static constexpr T quiet_NaN() { return 0; }                                                 \
  };
MSL_INTEGER_LIMITS(bool, 0, false, true)
MSL_INTEGER_LIMITS(char, 1, -128, 127)
MSL_INTEGER_LIMITS(int8_t, 1, -128, 127)
MSL_INTEGER_LIMITS(uchar, 0, 0, 255)
MSL_INTEGER_LIMITS(short, 1, -32768, 32767)
MSL_INTEGER_LIMITS(ushort, 0, 0, 65535)
MSL_INTEGER_LIMITS(int, 1, -2147483647 - 1, 2147483647)
MSL_INTEGER_LIMITS(uint, 0, 0, 4294967295u)
MSL_INTEGER_LIMITS(long, 1, -9223372036854775807l - 1, 9223372036854775807l)
MSL_INTEGER_LIMITS(ulong, 0, 0, 18446744073709551615ul)
#undef MSL_INTEGER_LIMITS

}  // namespace metal
