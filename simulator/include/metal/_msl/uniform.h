// metal_uniform: values that are the same in all threads, which only helps a GPU.
#pragma once

namespace metal {

template <class T>
using uniform = T;

template <class T>
constexpr T make_uniform(T x) {
  return x;
}

}  // namespace metal
