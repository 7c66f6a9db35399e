// ConvTranspose3d, directly: one thread computes one element (forward, input gradient), one threadgroup reduces one
// element (weight and bias gradient). Sums are kept in float32. Only taps that reach an element are visited.

#include <metal_stdlib>

#include "conv_transpose3d_params.h"
#include "sums.h"

using namespace metal;

constant bool has_bias [[function_constant(0)]];

// Indices and how many of them: first, first + step, ...
struct Range {
  int first, count;
};

// Smallest q with q * b >= a, and largest with q * b <= a, for b > 0.
inline int ceil_div(int a, int b) { return a > 0 ? (a - 1) / b + 1 : -(-a / b); }
inline int floor_div(int a, int b) { return -ceil_div(-a, b); }

// The taps that output coordinate `o` receives, tap_step apart, and the input that the first of them meets; each
// further tap meets the input input_step before.
struct Reaching {
  int tap, input, count;
};

inline Reaching taps_reaching(constant Axis& axis, int o) {
  const int shifted = o + axis.padding;
  int tap = 0;
  while (tap < axis.tap_step && (shifted - tap * axis.dilation) % axis.stride != 0) {
    ++tap;
  }
  int input = (shifted - tap * axis.dilation) / axis.stride;
  const int past_the_end = ceil_div(max(input - (axis.input - 1), 0), axis.input_step);
  const bool reached = tap < axis.tap_step;
  tap += past_the_end * axis.tap_step;
  input -= past_the_end * axis.input_step;
  if (!reached || tap >= axis.taps || shifted < tap * axis.dilation) {
    return {0, 0, 0};
  }
  return {tap, input, min((axis.taps - 1 - tap) / axis.tap_step, input / axis.input_step) + 1};
}

// The taps through which input coordinate `i` reaches an output.
inline Range taps_of_input(constant Axis& axis, int i) {
  const int start = i * axis.stride - axis.padding;
  const int first = max(0, ceil_div(-start, axis.dilation));
  const int last = min(axis.taps - 1, floor_div(axis.output - 1 - start, axis.dilation));
  return {first, last - first + 1};
}

// The inputs that tap `k` carries to an output.
inline Range inputs_of_tap(constant Axis& axis, int k) {
  const int start = k * axis.dilation - axis.padding;
  const int first = max(0, ceil_div(-start, axis.stride));
  const int last = min(axis.input - 1, floor_div(axis.output - 1 - start, axis.stride));
  return {first, last - first + 1};
}

inline int taps_per_filter(constant ConvTranspose3dParams& p) { return p.depth.taps * p.height.taps * p.width.taps; }

inline int tap_index(constant ConvTranspose3dParams& p, int kd, int kh, int kw) {
  return (kd * p.height.taps + kh) * p.width.taps + kw;
}

inline long offset(constant Strides& strides, int n, int channel) {
  return n * strides.batch + channel * strides.channel;
}

inline int offset(constant Strides& strides, int d, int h, int w) {
  return d * strides.depth + h * strides.height + w * strides.width;
}

// grid: x = W, y = H, z = (n, d, o) of the output: the channels of one plane, which read the same input, are neighbours
template <typename T>
[[kernel]] void conv_transpose3d_forward(device const T* input [[buffer(kInputBuffer)]],
                                         device const T* weight [[buffer(kWeightBuffer)]],
                                         device T* output [[buffer(kOutputBuffer)]],
                                         constant ConvTranspose3dParams& p [[buffer(kParamsBuffer)]],
                                         constant uint& first [[buffer(kFirstBuffer)]],
                                         device const T* bias [[buffer(kBiasBuffer), function_constant(has_bias)]],
                                         uint3 position [[thread_position_in_grid]]) {
  const int z = int(position.z + first);
  const int channels = p.groups * p.out_channels;
  const int o = z % channels, plane = z / channels;
  const int d = plane % p.depth.output, n = plane / p.depth.output;
  const int h = int(position.y), w = int(position.x);
  const int group = o / p.out_channels;

  const Reaching along_d = taps_reaching(p.depth, d);
  const Reaching along_h = taps_reaching(p.height, h);
  const Reaching along_w = taps_reaching(p.width, w);
  const int taps = taps_per_filter(p);
  device const T* x = input + offset(p.input, n, group * p.in_channels);
  device const T* filters = weight + (group * p.in_channels * p.out_channels + o % p.out_channels) * taps;

  float sum = 0;
  for (int a = 0; a < along_d.count; ++a) {
    for (int b = 0; b < along_h.count; ++b) {
      for (int c = 0; c < along_w.count; ++c) {
        const int kd = along_d.tap + a * p.depth.tap_step;
        const int kh = along_h.tap + b * p.height.tap_step;
        const int kw = along_w.tap + c * p.width.tap_step;
        device const T* x_tap =
            x + offset(p.input, along_d.input - a * p.depth.input_step, along_h.input - b * p.height.input_step,
                       along_w.input - c * p.width.input_step);
        device const T* w_tap = filters + tap_index(p, kd, kh, kw);
        float tap_sum = 0;  // summed apart: the rounding error grows with the channels or the taps, not their product
        for (int channel = 0; channel < p.in_channels; ++channel) {
          tap_sum += float(*x_tap) * float(*w_tap);
          x_tap += p.input.channel;
          w_tap += p.out_channels * taps;
        }
        sum += tap_sum;
      }
    }
  }
  if (has_bias) {
    sum += float(bias[o]);
  }
  output[offset(p.output, n, o) + offset(p.output, d, h, w)] = T(sum);
}

// grid: x = W, y = H, z = (n, c, d) of the input
template <typename T>
[[kernel]] void conv_transpose3d_input_grad(device T* grad_input [[buffer(kInputBuffer)]],
                                            device const T* weight [[buffer(kWeightBuffer)]],
                                            device const T* grad_output [[buffer(kOutputBuffer)]],
                                            constant ConvTranspose3dParams& p [[buffer(kParamsBuffer)]],
                                            constant uint& first [[buffer(kFirstBuffer)]],
                                            uint3 position [[thread_position_in_grid]]) {
  const int z = int(position.z + first);
  const int d = z % p.depth.input, h = int(position.y), w = int(position.x);
  const int channels = p.groups * p.in_channels;
  const int c = z / p.depth.input % channels, n = z / p.depth.input / channels;
  const int group = c / p.in_channels;

  const Range along_d = taps_of_input(p.depth, d);
  const Range along_h = taps_of_input(p.height, h);
  const Range along_w = taps_of_input(p.width, w);
  const int taps = taps_per_filter(p);
  device const T* gy = grad_output + offset(p.output, n, group * p.out_channels);
  device const T* filters = weight + c * p.out_channels * taps;

  float sum = 0;
  for (int kd = along_d.first; kd < along_d.first + along_d.count; ++kd) {
    for (int kh = along_h.first; kh < along_h.first + along_h.count; ++kh) {
      for (int kw = along_w.first; kw < along_w.first + along_w.count; ++kw) {
        device const T* gy_tap = gy + offset(p.output, d * p.depth.stride + kd * p.depth.dilation - p.depth.padding,
                                             h * p.height.stride + kh * p.height.dilation - p.height.padding,
                                             w * p.width.stride + kw * p.width.dilation - p.width.padding);
        device const T* w_tap = filters + tap_index(p, kd, kh, kw);
        float tap_sum = 0;
        for (int o = 0; o < p.out_channels; ++o) {
          tap_sum += float(*gy_tap) * float(*w_tap);
          gy_tap += p.output.channel;
          w_tap += taps;
        }
        sum += tap_sum;
      }
    }
  }
  grad_input[offset(p.input, n, c) + offset(p.input, d, h, w)] = T(sum);
}

// threadgroups: x = tap, y = o of the group, z = c. Threads: x along W, y over the rows (d, h) of the input.
template <typename T>
[[kernel]] void conv_transpose3d_weight_grad(
    device const T* input [[buffer(kInputBuffer)]], device T* grad_weight [[buffer(kWeightBuffer)]],
    device const T* grad_output [[buffer(kOutputBuffer)]], constant ConvTranspose3dParams& p [[buffer(kParamsBuffer)]],
    constant uint& first [[buffer(kFirstBuffer)]], uint3 element [[threadgroup_position_in_grid]],
    uint3 thread_position [[thread_position_in_threadgroup]], uint3 threads [[threads_per_threadgroup]],
    uint thread_index [[thread_index_in_threadgroup]], uint simdgroup [[simdgroup_index_in_threadgroup]],
    uint lane [[thread_index_in_simdgroup]], uint simdgroups [[simdgroups_per_threadgroup]]) {
  threadgroup float2 simdgroup_sums[kMaxSimdgroups];
  const int tap = int(element.x), o = int(element.y), c = int(element.z + first);
  const int kw = tap % p.width.taps, kh = tap / p.width.taps % p.height.taps;
  const int kd = tap / p.width.taps / p.height.taps;
  const Range along_d = inputs_of_tap(p.depth, kd);
  const Range along_h = inputs_of_tap(p.height, kh);
  const Range along_w = inputs_of_tap(p.width, kw);
  const int rows = max(along_d.count, 0) * max(along_h.count, 0);

  Sum sum;
  for (int n = 0; n < p.batch; ++n) {
    device const T* x = input + offset(p.input, n, c);
    device const T* gy = grad_output + offset(p.output, n, c / p.in_channels * p.out_channels + o);
    for (int row = int(thread_position.y); row < rows; row += int(threads.y)) {
      const int d = along_d.first + row / along_h.count, h = along_h.first + row % along_h.count;
      device const T* x_row = x + offset(p.input, d, h, 0);
      device const T* gy_row = gy + offset(p.output, d * p.depth.stride + kd * p.depth.dilation - p.depth.padding,
                                           h * p.height.stride + kh * p.height.dilation - p.height.padding, 0);
      float row_sum = 0;
      for (int i = int(thread_position.x); i < along_w.count; i += int(threads.x)) {
        const int w = along_w.first + i;
        const int w_out = w * p.width.stride + kw * p.width.dilation - p.width.padding;
        row_sum += float(x_row[w * p.input.width]) * float(gy_row[w_out * p.output.width]);
      }
      sum.add(row_sum);
    }
  }
  const float total = threadgroup_sum(sum, simdgroup_sums, simdgroup, lane, simdgroups);
  if (thread_index == 0) {
    grad_weight[(c * p.out_channels + o) * taps_per_filter(p) + tap] = T(total);
  }
}

// threadgroups: z = o. Threads: x along W, y over the rows (d, h) of the output.
template <typename T>
[[kernel]] void conv_transpose3d_bias_grad(
    device const T* grad_output [[buffer(kOutputBuffer)]], constant ConvTranspose3dParams& p [[buffer(kParamsBuffer)]],
    constant uint& first [[buffer(kFirstBuffer)]], device T* grad_bias [[buffer(kBiasBuffer)]],
    uint3 element [[threadgroup_position_in_grid]], uint3 thread_position [[thread_position_in_threadgroup]],
    uint3 threads [[threads_per_threadgroup]], uint thread_index [[thread_index_in_threadgroup]],
    uint simdgroup [[simdgroup_index_in_threadgroup]], uint lane [[thread_index_in_simdgroup]],
    uint simdgroups [[simdgroups_per_threadgroup]]) {
  threadgroup float2 simdgroup_sums[kMaxSimdgroups];
  const int o = int(element.z + first);
  const int rows = p.depth.output * p.height.output;

  Sum sum;
  for (int n = 0; n < p.batch; ++n) {
    device const T* gy = grad_output + offset(p.output, n, o);
    for (int row = int(thread_position.y); row < rows; row += int(threads.y)) {
      device const T* gy_row = gy + offset(p.output, row / p.height.output, row % p.height.output, 0);
      float row_sum = 0;
      for (int w = int(thread_position.x); w < p.width.output; w += int(threads.x)) {
        row_sum += float(gy_row[w * p.output.width]);
      }
      sum.add(row_sum);
    }
  }
  const float total = threadgroup_sum(sum, simdgroup_sums, simdgroup, lane, simdgroups);
  if (thread_index == 0) {
    grad_bias[o] = T(total);
  }
}

#define INSTANTIATE(kernel_name, type) \
  template [[host_name(#kernel_name "_" #type)]] [[kernel]] decltype(kernel_name<type>) kernel_name<type>;
#define INSTANTIATE_ALL(type)                     \
  INSTANTIATE(conv_transpose3d_forward, type)     \
  INSTANTIATE(conv_transpose3d_input_grad, type)  \
  INSTANTIATE(conv_transpose3d_weight_grad, type) \
  INSTANTIATE(conv_transpose3d_bias_grad, type)

// float, half or bfloat: the host compiles one library per dtype, of the dtypes that a program uses.
INSTANTIATE_ALL(ELEMENT)
