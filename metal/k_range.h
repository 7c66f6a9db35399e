// Sums over all positions of all samples, cut into parts that threadgroups sum.
#pragma once

#include <metal_stdlib>

#include "coord.h"
#include "params.h"

using namespace metal;

// What a threadgroup sums of one sample, [begin, end) of its terms, and how many of the samples after it.
struct Part {
  int n, begin, end;
  int left;

  METAL_FUNC void next(constant SplitK& split) thread {
    ++n;
    begin = 0;
    end = min(left, split.k_per_sample.value);
    left -= end;
  }
};

METAL_FUNC Part part_of(constant SplitK& split, int index, int batch) {
  const int k_per_sample = split.k_per_sample.value, first = index * split.length;
  const int terms = min(split.length, batch * k_per_sample - first);
  const int n = div(first, split.k_per_sample), begin = first - n * k_per_sample;
  const int end = min(begin + terms, k_per_sample);
  return {n, begin, end, terms - (end - begin)};
}
