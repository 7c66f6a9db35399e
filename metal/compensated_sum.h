// Sums over whole volumes that lose no more than the last bit.
#pragma once

#include <metal_stdlib>

using namespace metal;

// A sum with what rounding took from it (Knuth's two-sum): its error does not grow with the number of terms, as a plain
// sum's over all positions of a volume would.
struct Sum {
  float value = 0, lost = 0;

  void add(float term) thread {
    const float next = value + term;
    const float added = next - value;
    lost += (value - (next - added)) + (term - added);
    value = next;
  }

  void add(float term, float lost_by_term) thread {
    add(term);
    lost += lost_by_term;
  }

  // What an infinite sum has lost is no number: infinity less infinity.
  float rounded() const thread { return isinf(value) ? value : value + lost; }
};

// The sum over a simdgroup, for all of its lanes.
METAL_FUNC Sum simdgroup_sum(Sum sum) {
  for (ushort distance = 1; distance < 32; distance *= 2) {
    sum.add(simd_shuffle_xor(sum.value, distance), simd_shuffle_xor(sum.lost, distance));
  }
  return sum;
}

// The sum over a threadgroup, for its first thread, in an order that depends on nothing but its size.
METAL_FUNC float threadgroup_sum(Sum sum, threadgroup float2* simdgroup_sums, uint simdgroup, uint lane,
                                 uint simdgroups) {
  sum = simdgroup_sum(sum);
  if (lane == 0) {
    simdgroup_sums[simdgroup] = float2(sum.value, sum.lost);
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  Sum total;
  for (uint s = 0; s < simdgroups; ++s) {
    total.add(simdgroup_sums[s].x, simdgroup_sums[s].y);
  }
  return total.rounded();
}
