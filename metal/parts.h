// Sums over all positions of all samples, cut into parts that threadgroups sum.
#pragma once

#include <metal_stdlib>

#include "conv_transpose3d_params.h"

using namespace metal;

// What a threadgroup sums of one sample, [begin, end) of its terms, and how many of the samples after it. In all there
// may be more terms than 32 bits count.
struct Part {
  int n, begin, end;
  long left;

  METAL_FUNC void next(constant SplitK& split) {
    ++n;
    begin = 0;
    end = int(min(left, long(split.of_sample)));
    left -= end;
  }
};

METAL_FUNC Part part_of(constant SplitK& split, int index, int batch) {
  const long first = long(index) * split.length, terms = min(long(split.length), long(batch) * split.of_sample - first);
  const int n = int(first / split.of_sample), begin = int(first - long(n) * split.of_sample);
  const int end = int(min(begin + terms, long(split.of_sample)));
  return {n, begin, end, terms - (end - begin)};
}
