// What the compiler's rewriting of a shader refers to: kernel arguments, threadgroup variables, function constants.
#pragma once

#include "aggregate.h"
#include "fiber.h"
#include "traits.h"

namespace msl_runtime {

enum class Input {
  absent,
  buffer,
  threadgroup_memory,
  thread_position_in_grid,
  thread_position_in_threadgroup,
  threadgroup_position_in_grid,
  threads_per_grid,
  threadgroups_per_grid,
  threads_per_threadgroup,
  dispatch_threads_per_threadgroup,
  thread_index_in_threadgroup,
  thread_index_in_simdgroup,
  simdgroup_index_in_threadgroup,
  threads_per_simdgroup,
  simdgroups_per_threadgroup,
  dispatch_simdgroups_per_threadgroup,
  thread_execution_width,
  quadgroup_index_in_threadgroup,
  thread_index_in_quadgroup,
};

struct Argument {
  Input input;
  unsigned index;
};

template <class A>
struct Position {
  static MSL_INLINE A make(Uint3 v) { return static_cast<A>(v.x); }
};
template <class T>
struct Position<msl_types::vec<T, 2>> {
  static MSL_INLINE msl_types::vec<T, 2> make(Uint3 v) {
    return msl_types::vec<T, 2>(static_cast<T>(v.x), static_cast<T>(v.y));
  }
};
template <class T>
struct Position<msl_types::vec<T, 3>> {
  static MSL_INLINE msl_types::vec<T, 3> make(Uint3 v) {
    return msl_types::vec<T, 3>(static_cast<T>(v.x), static_cast<T>(v.y), static_cast<T>(v.z));
  }
};

typedef const MSL_UNCHECKED Worker ReadWorker;

template <class V>
MSL_INLINE unsigned component(const MSL_UNCHECKED V& v, unsigned axis) {
  return axis == 0 ? v.x : axis == 1 ? v.y : v.z;
}

// One axis: three numbers at once would come packed into two registers.
__attribute__((pure)) MSL_INTRINSIC unsigned read_input(ReadWorker& w, unsigned t, Input input, unsigned axis) {
  const unsigned place = component(w.position_in_threadgroup[t], axis);
  const unsigned size = component(w.dispatch_threads_per_threadgroup, axis);
  const bool first = axis == 0;
  switch (input) {
    case Input::thread_position_in_grid:
      return component(w.threadgroup_position, axis) * size + place;
    case Input::thread_position_in_threadgroup:
      return place;
    case Input::threadgroup_position_in_grid:
      return component(w.threadgroup_position, axis);
    case Input::threads_per_grid:
      return component(w.threads_per_grid, axis);
    case Input::threadgroups_per_grid:
      return component(w.threadgroups_per_grid, axis);
    case Input::threads_per_threadgroup:
      return component(w.threads_per_threadgroup, axis);
    case Input::dispatch_threads_per_threadgroup:
      return size;
    case Input::thread_index_in_threadgroup:
      return first ? t : 0;
    case Input::thread_index_in_simdgroup:
      return first ? t % kSimdWidth : 0;
    case Input::simdgroup_index_in_threadgroup:
      return first ? t / kSimdWidth : 0;
    case Input::threads_per_simdgroup:
    case Input::thread_execution_width:
      return first ? kSimdWidth : 0;
    case Input::simdgroups_per_threadgroup:
      return first ? (w.threads + kSimdWidth - 1) / kSimdWidth : 0;
    case Input::dispatch_simdgroups_per_threadgroup: {
      const auto& d = w.dispatch_threads_per_threadgroup;
      return first ? (d.x * d.y * d.z + kSimdWidth - 1) / kSimdWidth : 0;
    }
    case Input::quadgroup_index_in_threadgroup:
      return first ? t / 4 : 0;
    case Input::thread_index_in_quadgroup:
      return first ? t % 4 : 0;
    default:
      return 0;
  }
}

template <class A>
struct Fetch {
  static MSL_INLINE A get(ReadWorker& w, unsigned t, Argument a) {
    return Position<A>::make(
        {read_input(w, t, a.input, 0), read_input(w, t, a.input, 1), read_input(w, t, a.input, 2)});
  }
};
MSL_INLINE void* memory(ReadWorker& w, Argument a) {
  return a.input == Input::buffer               ? w.buffers[a.index]
         : a.input == Input::threadgroup_memory ? w.threadgroup_memory[a.index]
                                                : nullptr;
}
template <class T>
struct Fetch<T*> {
  static MSL_INLINE T* get(ReadWorker& w, unsigned, Argument a) { return (T*)memory(w, a); }
};
template <class T>
struct Fetch<T&> {
  static MSL_INLINE T& get(ReadWorker& w, unsigned, Argument a) { return *(T*)memory(w, a); }
};

// The alignment of what each parameter of a kernel points to.
template <class A>
struct Pointee {
  static constexpr unsigned alignment = 1;
};
template <class T>
struct Pointee<T&> {
  static constexpr unsigned alignment = alignof(T);
};
template <class T>
struct Pointee<T*> : Pointee<typename metal::conditional_t<__is_void(T), char, T>&> {};
template <unsigned N>
struct Alignments {
  unsigned at[N + 1];
};
template <class... A>
constexpr Alignments<sizeof...(A)> alignments(void (*)(A...)) {
  return {{Pointee<A>::alignment..., 1}};
}

template <unsigned... I>
struct Indices {};
template <unsigned N, unsigned... I>
struct MakeIndices : MakeIndices<N - 1, N - 1, I...> {};
template <unsigned... I>
struct MakeIndices<0, I...> {
  typedef Indices<I...> type;
};

MSL_INTRINSIC unsigned this_thread_index(ReadWorker& w) { return w.order[w.first + this_fiber()]; }

template <class... A, unsigned... I>
MSL_INLINE void call(void (*kernel)(A...), const Argument* arguments, Indices<I...>) {
  ReadWorker& w = unchecked_worker();
  const unsigned t = this_thread_index(w);
  kernel(Fetch<A>::get(w, t, arguments[I])...);
}
template <class... A>
MSL_INLINE void call(void (*kernel)(A...), const Argument* arguments) {
  call(kernel, arguments, typename MakeIndices<sizeof...(A)>::type());
}

// Whether a variable of this type can be in threadgroup memory: without a constructor, or with one for that memory,
// which the reader marks.
template <class T, class = void>
struct IsConstructed {
  static const bool value = __is_trivially_constructible(T);
};
template <class T>
struct IsConstructed<T, typename T::msl_threadgroup_constructor> {
  static const bool value = true;
};

// A threadgroup variable of a kernel: its place in the arena. Its size goes into a section of the object, where the
// executor finds it: only variables of code that was really generated are counted.
template <unsigned Id, class T>
MSL_INLINE T& threadgroup_variable() {
  static_assert(IsConstructed<metal::remove_addrspace_t<__remove_all_extents(T)>>::value,
                "no matching constructor for initialization of a threadgroup variable");
  __asm__ volatile(
      ".pushsection msl_threadgroup,\"a\",@progbits\n\t"
      ".quad %c0, %c1, %c2\n\t"
      ".popsection"
      :
      : "i"(static_cast<unsigned long>(Id)), "i"(sizeof(T)), "i"(alignof(T)));
  return *(T*)unchecked_worker().threadgroup_variables[Id];
}

// The bytes given to the function constant, by the pipeline's own specialisation.
template <unsigned Index>
struct ConstantValue {
  static constexpr bool defined = false;
  template <class T>
  static T get();
};

// Given its bytes.
template <unsigned N>
struct Bytes {
  unsigned char at[N];
};

template <unsigned Index>
struct FunctionConstant {
  template <class T>
  static constexpr T make(T*) {
    return ConstantValue<Index>::template get<T>();
  }
};

// `c ? Value(), a : Value(), b`: vectors and bfloats as values, so that both have one type whatever address spaces they
// came from. Anything else, as in other instantiations of a template, remains what it is.
struct Value {};
template <class T, int N>
constexpr msl_types::vec<T, N> operator,(Value, msl_types::vec<T, N> v) {
  return v;
}
template <class T, int N>
constexpr msl_types::packed_vec<T, N> operator,(Value, msl_types::packed_vec<T, N> v) {
  return v;
}
template <class T, MSL_REQUIRES(__is_same(T, bfloat))>
constexpr T operator,(Value, T v) {
  return v;
}

// A string literal, which is in the constant address space.
template <size_t N>
constexpr constant char (&literal(const char (&text)[N]))[N] {
  return (constant char(&)[N])text;
}

}  // namespace msl_runtime
