// Taps one by one, for the direct kernels: which reach an output, and what one adds to several channels.
#pragma once

#include <metal_stdlib>

#include "params.h"

using namespace metal;

// A tap that reaches an output, and the input that it brings to it, which may lie outside. The next one is
// (tap + tap_step, input - input_step). No tap is axis.taps.
struct TapInput {
  int tap, input;
};

METAL_FUNC TapInput first_tap(constant Axis& axis, int o) {
  const int shifted = o + axis.padding;
  if (axis.dilation == 1) {
    const int input = shifted / axis.stride;
    return {shifted - input * axis.stride, input};
  }
  int tap = 0;
  while (tap < axis.tap_step && tap < axis.taps && (shifted - tap * axis.dilation) % axis.stride != 0) {
    ++tap;
  }
  return {tap < axis.tap_step ? tap : axis.taps, (shifted - tap * axis.dilation) / axis.stride};
}

// From one channel of the sum to the next, in the values and in the weight.
struct ChannelSteps {
  long value;
  int filter;
};

// Adds one tap's products to the totals of the first `count` of kChannels channels, whose filters lie `step` apart:
// totals[e] += sum over c of value[c] * filter[c][e]. This sum is kept apart, so that the rounding error is that of
// channels plus taps, and not of channels times taps.
template <int kChannels, typename T>
METAL_FUNC void add_tap(thread float* totals, device const T* value, device const T* filter, int channels,
                        ChannelSteps steps, int step, int count) {
  float sums[kChannels] = {};
  int at = 0;
  for (int c = 0; c < channels; ++c) {
    const float factor = float(*value);
#pragma unroll
    for (int e = 0; e < kChannels; ++e) {
      if (e < count) {
        sums[e] += factor * float(filter[at + e * step]);
      }
    }
    value += steps.value;
    at += steps.filter;
  }
#pragma unroll
  for (int e = 0; e < kChannels; ++e) {
    totals[e] += sums[e];
  }
}
