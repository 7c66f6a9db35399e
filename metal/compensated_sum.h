// Sums over whole volumes that lose no more than the last bit.
#pragma once

#include <metal_stdlib>

using namespace metal;

// A sum, and the error that rounding has left in it (Knuth's two-sum, as Neumaier sums). The error of sum + error does
// not grow with the number of terms, as a plain sum's over all positions of a volume would.
struct CompensatedSum {
  float sum = 0, error = 0;

  void add(float term) thread {
    const float next = sum + term;
    const float added = next - sum;
    error += (sum - (next - added)) + (term - added);
    sum = next;
  }

  void add(float term, float error_of_term) thread {
    add(term);
    error += error_of_term;
  }

  // The error of an infinite sum is infinity less infinity, which is no number.
  float rounded() const thread { return isinf(sum) ? sum : sum + error; }
};

// Adds up a simdgroup's sums, for each of its lanes.
METAL_FUNC CompensatedSum simdgroup_sum(CompensatedSum total) {
  for (ushort distance = 1; distance < 32; distance *= 2) {
    total.add(simd_shuffle_xor(total.sum, distance), simd_shuffle_xor(total.error, distance));
  }
  return total;
}

// Adds up a threadgroup's sums, for its first thread. The order depends on the number of simdgroups alone.
METAL_FUNC float threadgroup_sum(CompensatedSum own, threadgroup float2* simdgroup_sums, uint simdgroup, uint lane,
                                 uint simdgroups) {
  own = simdgroup_sum(own);
  if (lane == 0) {
    simdgroup_sums[simdgroup] = float2(own.sum, own.error);
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  CompensatedSum total;
  for (uint s = 0; s < simdgroups; ++s) {
    total.add(simdgroup_sums[s].x, simdgroup_sums[s].y);
  }
  return total.rounded();
}
