// What kernels of several files need: the function constant, taps, offsets, and instantiation.
#pragma once

#include <metal_stdlib>

#include "params.h"

using namespace metal;

// The call has a bias; a weight gradient computes the bias gradient too.
constant bool has_bias [[function_constant(0)]];

METAL_FUNC bool lies_in(int i, int size) { return uint(i) < uint(size); }

// The output that tap k brings input i to. It may lie outside.
METAL_FUNC int target(constant Axis& axis, int i, int k) { return i * axis.stride + k * axis.dilation - axis.padding; }

METAL_FUNC int taps_per_filter(constant KernelParams& p) { return p.depth.taps * p.height.taps * p.width.taps; }

METAL_FUNC int tap_index(constant KernelParams& p, int kd, int kh, int kw) {
  return (kd * p.height.taps + kh) * p.width.taps + kw;
}

METAL_FUNC long offset(constant Strides& strides, int n, int channel) {
  return n * strides.batch + channel * strides.channel;
}

METAL_FUNC int offset(constant Strides& strides, int d, int h, int w) {
  return d * strides.depth + h * strides.height + w * strides.width;
}

// Instances of kernels for ELEMENT, which the host defines as float, half or bfloat: a library has one dtype.
// INSTANTIATE(kernel) makes kernel_float, INSTANTIATE_AS("name", kernel<...>) name_float.
#define AS_TEXT(word) #word
#define TEXT_OF(macro) AS_TEXT(macro)
#define INSTANTIATE_AS(name, ...) \
  template [[host_name(name "_" TEXT_OF(ELEMENT))]] [[kernel]] decltype(__VA_ARGS__) __VA_ARGS__;
#define INSTANTIATE(kernel_name) INSTANTIATE_AS(#kernel_name, kernel_name<ELEMENT>)
