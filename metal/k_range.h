// Split-K: which terms of a sum over all samples a threadgroup adds up.
#pragma once

#include <metal_stdlib>

#include "coord.h"
#include "params.h"

using namespace metal;

// The terms [begin, end) of sample n, and how many of the samples after it.
struct KRange {
  int n, begin, end;
  int left;

  // Goes on to the next sample; without terms left, the range is empty.
  METAL_FUNC void next(constant SplitK& split_k) thread {
    ++n;
    begin = 0;
    end = min(left, split_k.k_per_sample.value);
    left -= end;
  }
};

// The first range of a split.
METAL_FUNC KRange k_range(constant SplitK& split_k, int split, int batch) {
  const int k_per_sample = split_k.k_per_sample.value, first = split * split_k.length;
  const int terms = min(split_k.length, batch * k_per_sample - first);
  const int n = div(first, split_k.k_per_sample), begin = first - n * k_per_sample;
  const int end = min(begin + terms, k_per_sample);
  return {n, begin, end, terms - (end - begin)};
}
