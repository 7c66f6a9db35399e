#include "planner/scalar.h"

#include <algorithm>

#include "planner/integers.h"

namespace mps_conv_transpose3d {
namespace {

// The largest power of two up to `most` whose multiples exceed n by least, but for powers below 8: neighbouring lanes
// shall touch neighbouring elements.
uint32_t fitting_power_of_two(int64_t n, uint32_t most) {
  uint32_t best = power_of_two_at_least(n, most);
  for (uint32_t power = best / 2; power >= 8; power /= 2) {
    if (ceil_div(n, power) * power < ceil_div(n, best) * best) {
      best = power;
    }
  }
  return best;
}

// Threads along W first.
std::array<uint32_t, 3> threadgroup_of_elements(int64_t width, int64_t height) {
  const uint32_t x = fitting_power_of_two(width, 32);
  const uint32_t y = fitting_power_of_two(height, kThreads / x);
  return {x, y, kThreads / x / y};
}

// A whole number of simdgroups, as many as there are rows to share.
std::array<uint32_t, 3> threadgroup_of_a_sum(int64_t width, int64_t rows) {
  const uint32_t x = fitting_power_of_two(width, 32);
  const uint32_t y = power_of_two_at_least(rows, kThreads / x);
  return {x, std::max(y, 32 / x), 1};
}

// Cuts a sum into parts, each of `threadgroups` threadgroups, of no fewer than 8 positions a thread. So many that a
// part's data stay in the cache for all that read them, 8 rounds of those that 38 cores keep at once, and such that
// each core gets the same number. More than 3 parts for each of those cores, which 2 channels need to fill them, would
// be long to add up; but none is of more than `max_work`, as long as it has rows to share.
SplitK choose_parts(int64_t threadgroups, int64_t rows, int64_t row_length, int64_t batch, int64_t max_work,
                    const Gpu& gpu) {
  constexpr int64_t kFittedCores = 38, kThreadgroups = 8 * kResidency.scalar * kFittedCores;
  constexpr int64_t kMostParts = 3 * kFittedCores, kLeastPositions = 8 * kThreads;
  const int64_t at_once = int64_t{kResidency.scalar} * gpu.cores;
  const int64_t most_rounds = ceil_div(std::min(kThreadgroups, kMostParts * threadgroups), at_once);
  int64_t wanted = 1;
  double best = 0;
  for (int64_t rounds = most_rounds; rounds > std::max<int64_t>(most_rounds - 8, 0); --rounds) {
    const int64_t parts = std::clamp<int64_t>(rounds * at_once / threadgroups, 1, kMostParts);
    const int64_t on_a_core = threadgroups_on_a_core(parts * threadgroups, kResidency.scalar, gpu);
    const double cycles = static_cast<double>(on_a_core) / static_cast<double>(parts);
    if (rounds == most_rounds || cycles < best) {
      wanted = parts;
      best = cycles;
    }
  }
  const int64_t most = ceil_div(batch * rows * row_length, kLeastPositions);
  const int64_t least = ceil_div(threadgroups * batch * rows * row_length, max_work);
  return make_split(std::max(std::min(wanted, most), least), batch, rows, 1);
}

}  // namespace

SplitK choose_parts(Pass pass, Family family, const KernelParams& p, int64_t max_work, const Gpu& gpu) {
  const int64_t outputs = int64_t{p.groups} * p.out_channels, pairs = outputs * p.in_channels, taps = taps_of(p);
  if (pass == Pass::bias_grad) {
    return choose_parts(outputs, output_positions_of(p), 1, p.batch, max_work, gpu);
  }
  // The grid of the direct kernel is cut by the input's channels, too.
  const int64_t rows = int64_t{p.depth.input} * p.height.input, channels = int64_t{p.groups} * p.in_channels;
  return family == Family::depthwise
             ? choose_parts(pairs, rows, p.width.input, p.batch, max_work / taps, gpu)
             : choose_parts(pairs * taps, rows, p.width.input, p.batch, max_work * channels, gpu);
}

Grid direct_grid(Pass pass, const KernelParams& p, int64_t parts) {
  const Axis &d = p.depth, &h = p.height, &w = p.width;
  const int64_t taps = taps_of(p);
  const auto reaching = [](const Axis& axis) { return ceil_div(axis.taps, axis.tap_step); };
  const auto tiles = [](int64_t channels) { return ceil_div(channels, kDirectChannels); };
  const auto at_once = [](int64_t channels) { return std::min<int64_t>(channels, kDirectChannels); };
  switch (pass) {
    case Pass::forward: {
      const int64_t taps_per_output = reaching(d) * reaching(h) * reaching(w);
      return {{w.output, h.output, int64_t{p.batch} * d.output * p.groups * tiles(p.out_channels)},
              threadgroup_of_elements(w.output, h.output),
              int64_t{w.output} * h.output * p.in_channels * at_once(p.out_channels) * taps_per_output};
    }
    case Pass::input_grad:
      return {{w.input, h.input, int64_t{p.batch} * p.groups * tiles(p.in_channels) * d.input},
              threadgroup_of_elements(w.input, h.input),
              int64_t{w.input} * h.input * p.out_channels * at_once(p.in_channels) * taps};
    case Pass::weight_grad: {
      const auto threads = threadgroup_of_a_sum(w.input, int64_t{d.input} * h.input);
      return {{taps * threads[0], int64_t{p.out_channels} * threads[1], parts * p.groups * p.in_channels},
              threads,
              ceil_div(taps * p.out_channels * p.batch * positions_of(p), parts)};
    }
    case Pass::bias_grad:
      break;
  }
  const int64_t outputs = int64_t{p.groups} * p.out_channels;
  return {{outputs * kThreads, 1, parts},
          {kThreads, 1, 1},
          ceil_div(outputs * p.batch * d.output * h.output * w.output, parts)};
}

Grid depthwise_grid(Pass pass, const KernelParams& p, int64_t parts) {
  const Axis &d = p.depth, &h = p.height, &w = p.width;
  const int64_t inputs = int64_t{p.groups} * p.in_channels, outputs = int64_t{p.groups} * p.out_channels;
  const int64_t taps = taps_of(p);
  switch (pass) {
    case Pass::forward:
      return {{w.quotients, h.quotients, p.batch * outputs * ceil_div(d.quotients, kDepthwiseRun)},
              threadgroup_of_elements(w.quotients, h.quotients),
              int64_t{w.quotients} * h.quotients * kDepthwiseRun * p.in_channels * taps};
    case Pass::input_grad:
      return {{w.input, h.input, p.batch * inputs * ceil_div(d.input, kDepthwiseRun)},
              threadgroup_of_elements(w.input, h.input),
              int64_t{w.input} * h.input * kDepthwiseRun * p.out_channels * taps};
    default: {
      const auto threads = threadgroup_of_a_sum(w.input, int64_t{d.input} * h.input);
      const int64_t pairs = inputs * p.out_channels;
      return {
          {pairs * threads[0], threads[1], parts}, threads, ceil_div(pairs * taps * p.batch * positions_of(p), parts)};
    }
  }
}

Grid reduce_parts_grid(int64_t elements, int64_t parts) {
  return {{elements, 1, 1}, {kThreads, 1, 1}, elements * parts};
}

}  // namespace mps_conv_transpose3d
