// Sums over all positions of all samples, cut into parts that threadgroups sum.
#pragma once

#include <metal_stdlib>

#include "conv_transpose3d_params.h"

using namespace metal;

// Samples and, of each, rows or positions: [first, last) and [begin, end).
struct Part {
  int first_sample, last_sample;
  int begin, end;
};

METAL_FUNC Part part_of(constant SplitK& split, int index, int batch, int length) {
  const int sample = index / split.chunks * split.samples, begin = index % split.chunks * split.length;
  return {sample, min(batch, sample + split.samples), begin, min(length, begin + split.length)};
}
