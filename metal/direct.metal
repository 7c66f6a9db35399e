// The direct kernels, for any problem. One thread computes one position of up to kDirectChannels channels (forward,
// input gradient); one threadgroup sums one split of one element (weight and bias gradient). Sums are float32. Only
// taps that reach an element are visited.

#include <metal_stdlib>

#include "common.h"
#include "compensated_sum.h"
#include "coord.h"
#include "direct_taps.h"
#include "k_range.h"
#include "params.h"

using namespace metal;

// ceil(a / b) and floor(a / b), for b > 0.
METAL_FUNC int ceil_div(int a, int b) { return a > 0 ? (a - 1) / b + 1 : -(-a / b); }
METAL_FUNC int floor_div(int a, int b) { return -ceil_div(-a, b); }

template <int kChannels, typename T>
METAL_FUNC void forward_at(thread float* totals, device const T* x, device const T* filters, constant KernelParams& p,
                           int d, int h, int w, int count) {
  const TapInput first_d = first_tap(p.depth, d), first_h = first_tap(p.height, h), first_w = first_tap(p.width, w);
  const int taps = taps_per_filter(p);
  const ChannelSteps steps = {p.input.channel, p.out_channels * taps};
  for (int kd = first_d.tap, i = first_d.input; kd < p.depth.taps && i >= 0;
       kd += p.depth.tap_step, i -= p.depth.input_step) {
    for (int kh = first_h.tap, j = first_h.input; i < p.depth.input && kh < p.height.taps && j >= 0;
         kh += p.height.tap_step, j -= p.height.input_step) {
      for (int kw = first_w.tap, k = first_w.input; j < p.height.input && kw < p.width.taps && k >= 0;
           kw += p.width.tap_step, k -= p.width.input_step) {
        if (k < p.width.input) {
          add_tap<kChannels>(totals, x + offset(p.input, i, j, k), filters + tap_index(p, kd, kh, kw), p.in_channels,
                             steps, taps, count);
        }
      }
    }
  }
}

// ceil(channels / kDirectChannels): how many threads share the channels of a position.
METAL_FUNC int channel_tiles(int channels) { return (channels + kDirectChannels - 1) / kDirectChannels; }

// grid: x = W, y = H, z = (n, group, d, tile of o) of the output. The tiles of one plane read the same input.
template <typename T>
[[kernel, max_total_threads_per_threadgroup(kThreads)]] void conv_transpose3d_forward_direct(
    device const T* input [[buffer(kInputBuffer)]], device const T* weight [[buffer(kWeightBuffer)]],
    device T* output [[buffer(kOutputBuffer)]], constant KernelParams& p [[buffer(kParamsBuffer)]],
    constant uint& z_offset [[buffer(kZOffsetBuffer)]],
    device const T* bias [[buffer(kBiasBuffer), function_constant(has_bias)]],
    uint3 position [[thread_position_in_grid]]) {
  const int z = int(position.z + z_offset), tiles = channel_tiles(p.out_channels);
  const int plane = z / tiles, o = z % tiles * kDirectChannels, d = plane % p.depth.output;
  const BatchGroup at = batch_group(p, plane / p.depth.output);
  const int count = min(int(kDirectChannels), p.out_channels - o);
  const int h = int(position.y), w = int(position.x);

  device const T* x = input + offset(p.input, at.n, at.group * p.in_channels);
  device const T* filters = weight + (at.group * p.in_channels * p.out_channels + o) * taps_per_filter(p);
  float totals[kDirectChannels] = {};
  if (count == 1) {
    forward_at<1>(totals, x, filters, p, d, h, w, count);
  } else if (count <= 4) {
    forward_at<4>(totals, x, filters, p, d, h, w, count);
  } else {
    forward_at<kDirectChannels>(totals, x, filters, p, d, h, w, count);
  }

  const int channel = at.group * p.out_channels + o;
  device T* y = output + offset(p.output, at.n, channel) + offset(p.output, d, h, w);
#pragma unroll
  for (int e = 0; e < kDirectChannels; ++e) {
    if (e < count) {
      *y = T(totals[e] + (has_bias ? float(bias[channel + e]) : 0.0f));
      y += p.output.channel;
    }
  }
}

template <int kChannels, typename T>
METAL_FUNC void input_grad_at(thread float* totals, device const T* gy, device const T* filters,
                              constant KernelParams& p, int d, int h, int w, int count) {
  const int taps = taps_per_filter(p);
  const ChannelSteps steps = {p.output.channel, taps};
  for (int kd = 0; kd < p.depth.taps; ++kd) {
    const int o_d = target(p.depth, d, kd);
    for (int kh = 0; lies_in(o_d, p.depth.output) && kh < p.height.taps; ++kh) {
      const int o_h = target(p.height, h, kh);
      for (int kw = 0; lies_in(o_h, p.height.output) && kw < p.width.taps; ++kw) {
        const int o_w = target(p.width, w, kw);
        if (lies_in(o_w, p.width.output)) {
          add_tap<kChannels>(totals, gy + offset(p.output, o_d, o_h, o_w), filters + tap_index(p, kd, kh, kw),
                             p.out_channels, steps, p.out_channels * taps, count);
        }
      }
    }
  }
}

// grid: x = W, y = H, z = (n, group, d, tile of c) of the input. The tiles of one plane read the same output.
template <typename T>
[[kernel, max_total_threads_per_threadgroup(kThreads)]] void conv_transpose3d_input_grad_direct(
    device T* grad_input [[buffer(kInputBuffer)]], device const T* weight [[buffer(kWeightBuffer)]],
    device const T* grad_output [[buffer(kOutputBuffer)]], constant KernelParams& p [[buffer(kParamsBuffer)]],
    constant uint& z_offset [[buffer(kZOffsetBuffer)]], uint3 position [[thread_position_in_grid]]) {
  const int z = int(position.z + z_offset), tiles = channel_tiles(p.in_channels);
  const int plane = z / tiles, c = z % tiles * kDirectChannels, row = div(plane, p.inputs.d);
  const int d = plane - row * p.depth.input;
  const BatchGroup at = batch_group(p, row);
  const int count = min(int(kDirectChannels), p.in_channels - c);
  const int h = int(position.y), w = int(position.x);

  const int channel = at.group * p.in_channels + c;
  device const T* gy = grad_output + offset(p.output, at.n, at.group * p.out_channels);
  device const T* filters = weight + channel * p.out_channels * taps_per_filter(p);
  float totals[kDirectChannels] = {};
  if (count == 1) {
    input_grad_at<1>(totals, gy, filters, p, d, h, w, count);
  } else if (count <= 4) {
    input_grad_at<4>(totals, gy, filters, p, d, h, w, count);
  } else {
    input_grad_at<kDirectChannels>(totals, gy, filters, p, d, h, w, count);
  }

  device T* gx = grad_input + offset(p.input, at.n, channel) + offset(p.input, d, h, w);
#pragma unroll
  for (int e = 0; e < kDirectChannels; ++e) {
    if (e < count) {
      *gx = T(totals[e]);
      gx += p.input.channel;
    }
  }
}

// Leaves partial sums [split][c][o][tap].
// threadgroups: x = tap, y = o of the group, z = (split, c). Threads: x along W, y over the rows (d, h) of the input.
template <typename T>
[[kernel, max_total_threads_per_threadgroup(kThreads)]] void conv_transpose3d_weight_grad_direct(
    device const T* input [[buffer(kInputBuffer)]], device float* partial_sums [[buffer(kPartialSumsBuffer)]],
    device const T* grad_output [[buffer(kOutputBuffer)]], constant KernelParams& p [[buffer(kParamsBuffer)]],
    constant uint& z_offset [[buffer(kZOffsetBuffer)]], constant SplitK& split_k [[buffer(kSplitBuffer)]],
    uint3 element [[threadgroup_position_in_grid]], uint3 thread_position [[thread_position_in_threadgroup]],
    uint3 threads [[threads_per_threadgroup]], uint thread_index [[thread_index_in_threadgroup]],
    uint simdgroup [[simdgroup_index_in_threadgroup]], uint lane [[thread_index_in_simdgroup]],
    uint simdgroups [[simdgroups_per_threadgroup]]) {
  threadgroup float2 simdgroup_sums[kMaxSimdgroups];
  const int channels = p.groups * p.in_channels, z = int(element.z + z_offset);
  const int tap = int(element.x), o = int(element.y), c = z % channels, group = c / p.in_channels;
  const int kw = tap % p.width.taps, kh = tap / p.width.taps % p.height.taps;
  const int kd = tap / p.width.taps / p.height.taps;

  // The tap brings inputs [first_w, last_w] of a row to outputs; this thread takes every across-th.
  const int start = target(p.width, 0, kw), across = int(threads.x);
  const int first_w = max(0, ceil_div(-start, p.width.stride)) + int(thread_position.x);
  const int last_w = min(p.width.input - 1, floor_div(p.width.output - 1 - start, p.width.stride));
  const int first_x = first_w * p.input.width, first_y = target(p.width, first_w, kw) * p.output.width;
  const int step_x = across * p.input.width, step_y = across * p.width.stride * p.output.width;

  CompensatedSum total;
  for (KRange range = k_range(split_k, z / channels, p.batch); range.begin < range.end; range.next(split_k)) {
    device const T* x = input + offset(p.input, range.n, c);
    device const T* gy = grad_output + offset(p.output, range.n, group * p.out_channels + o);
    for (int row = range.begin + int(thread_position.y); row < range.end; row += int(threads.y)) {
      const int d = div(row, p.inputs.h), h = row - d * p.height.input;
      const int o_d = target(p.depth, d, kd), o_h = target(p.height, h, kh);
      if (!lies_in(o_d, p.depth.output) || !lies_in(o_h, p.height.output)) {
        continue;
      }
      int at_x = first_x + offset(p.input, d, h, 0), at_y = first_y + offset(p.output, o_d, o_h, 0);
      float row_sum = 0;
      for (int w = first_w; w <= last_w; w += across) {
        row_sum += float(x[at_x]) * float(gy[at_y]);
        at_x += step_x;
        at_y += step_y;
      }
      total.add(row_sum);
    }
  }
  const float sum = threadgroup_sum(total, simdgroup_sums, simdgroup, lane, simdgroups);
  if (thread_index == 0) {
    const int taps = taps_per_filter(p);
    partial_sums[(z * p.out_channels + o) * taps + tap] = sum;
  }
}

// Values that a thread adds up in a plain sum, before it adds that to a compensated one.
enum { kPositionsAtOnce = 8 };

// Leaves partial sums [split][o].
// threadgroups: x = o, z = split
template <typename T>
[[kernel, max_total_threads_per_threadgroup(kThreads)]] void conv_transpose3d_bias_grad_direct(
    device const T* grad_output [[buffer(kOutputBuffer)]], constant KernelParams& p [[buffer(kParamsBuffer)]],
    constant uint& z_offset [[buffer(kZOffsetBuffer)]], constant SplitK& split_k [[buffer(kSplitBuffer)]],
    device float* partial_sums [[buffer(kPartialSumsBuffer)]], uint3 element [[threadgroup_position_in_grid]],
    uint3 threads [[threads_per_threadgroup]], uint thread_index [[thread_index_in_threadgroup]],
    uint simdgroup [[simdgroup_index_in_threadgroup]], uint lane [[thread_index_in_simdgroup]],
    uint simdgroups [[simdgroups_per_threadgroup]]) {
  threadgroup float2 simdgroup_sums[kMaxSimdgroups];
  const int o = int(element.x), z = int(element.z + z_offset), across = int(threads.x);
  const int row = p.width.output, plane = p.height.output * row;
  // With even distances between positions, an offset needs no coordinates.
  const bool even = p.output.height == row * p.output.width && p.output.depth == plane * p.output.width;

  CompensatedSum total;
  for (KRange range = k_range(split_k, z, p.batch); range.begin < range.end; range.next(split_k)) {
    device const T* gy = grad_output + offset(p.output, range.n, o);
    for (int i = range.begin + int(thread_index); i < range.end; i += kPositionsAtOnce * across) {
      float short_sum = 0;
#pragma unroll
      for (int e = 0; e < kPositionsAtOnce; ++e) {
        const int m = i + e * across;
        if (m < range.end) {
          const int at = even ? m * p.output.width : offset(p.output, m / plane, m / row % p.height.output, m % row);
          short_sum += float(gy[at]);
        }
      }
      total.add(short_sum);
    }
  }
  const float sum = threadgroup_sum(total, simdgroup_sums, simdgroup, lane, simdgroups);
  if (thread_index == 0) {
    partial_sums[z * p.groups * p.out_channels + o] = sum;
  }
}

METAL_FUNC float sum_of_splits(device const float* partial_sums, int splits, int elements, int element) {
  CompensatedSum total;
  for (int split = 0; split < splits; ++split) {
    total.add(partial_sums[split * elements + element]);
  }
  return total.rounded();
}

// Adds up the splits, in one order. grid: x = (c, o, tap), and with has_bias the channels o behind them
template <typename T>
[[kernel, max_total_threads_per_threadgroup(kThreads)]] void conv_transpose3d_weight_grad_sum_parts(
    device const float* partial_sums [[buffer(kPartialSumsBuffer)]], device T* grad_weight [[buffer(kWeightBuffer)]],
    device T* grad_bias [[buffer(kBiasBuffer), function_constant(has_bias)]],
    constant KernelParams& p [[buffer(kParamsBuffer)]], constant SplitK& split_k [[buffer(kSplitBuffer)]],
    uint element [[thread_position_in_grid]], uint elements [[threads_per_grid]]) {
  const float sum = sum_of_splits(partial_sums, split_k.splits, int(elements), int(element));
  const int weights = p.groups * p.in_channels * p.out_channels * taps_per_filter(p);
  if (int(element) < weights) {
    grad_weight[element] = T(sum);
  } else if (has_bias) {
    grad_bias[int(element) - weights] = T(sum);
  }
}

// Adds up the splits of the bias gradient, in one order. grid: x = o
template <typename T>
[[kernel, max_total_threads_per_threadgroup(kThreads)]] void conv_transpose3d_bias_grad_sum_parts(
    device const float* partial_sums [[buffer(kPartialSumsBuffer)]], device T* grad_bias [[buffer(kBiasBuffer)]],
    constant SplitK& split_k [[buffer(kSplitBuffer)]], uint element [[thread_position_in_grid]],
    uint elements [[threads_per_grid]]) {
  grad_bias[element] = T(sum_of_splits(partial_sums, split_k.splits, int(elements), int(element)));
}

INSTANTIATE(conv_transpose3d_forward_direct)
INSTANTIATE(conv_transpose3d_input_grad_direct)
INSTANTIATE(conv_transpose3d_weight_grad_direct)
INSTANTIATE(conv_transpose3d_bias_grad_direct)
INSTANTIATE(conv_transpose3d_weight_grad_sum_parts)
INSTANTIATE(conv_transpose3d_bias_grad_sum_parts)
