// Kernels of 3x3x3 where a group has too few channels for a matrix product: depthwise layers, and one or two outputs.
// Memory is the limit, so that a thread computes several elements from the same loads and indices, with the 27 products
// of a filter unrolled.

#include <metal_stdlib>

#include "common.h"
#include "compensated_sum.h"
#include "coord.h"
#include "k_range.h"
#include "load_store.h"
#include "params.h"

using namespace metal;

// The taps of a pair of channels: (d, h, w) is filter[d * 9 + h * 3 + w].
enum { kFilter = 27 };

template <typename T>
inline void load_filter(thread float* filter, device const T* weight) {
#pragma unroll
  for (int k = 0; k + 4 <= kFilter; k += 4) {
    const float4 four = float4(load4(weight + k));
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      filter[k + e] = four[e];
    }
  }
#pragma unroll
  for (int k = kFilter / 4 * 4; k < kFilter; ++k) {
    filter[k] = float(weight[k]);
  }
}

template <typename T>
inline float value_or_zero(device const T* x, int offset, bool inside) {
  return inside ? float(x[offset]) : 0.0f;
}

// Stride 2, odd padding, no dilation. Along each axis, with q = o / 2 and i = q + padding / 2:
//     output 2q = x[i] w[1]        output 2q + 1 = x[i + 1] w[0] + x[i] w[2]
// so that 2x2x2 inputs make a cell of 2x2x2 outputs. A thread computes kDepthwiseRun cells along the depth.
// grid: x = q along W, y = q along H, z = (n, group, run of q along D, o). Outputs of one run read the same input.
template <typename T>
[[kernel, max_total_threads_per_threadgroup(kThreads)]] void conv_transpose3d_forward_depthwise(
    device const T* input [[buffer(kInputBuffer)]], device const T* weight [[buffer(kWeightBuffer)]],
    device T* output [[buffer(kOutputBuffer)]], constant KernelParams& p [[buffer(kParamsBuffer)]],
    constant uint& z_offset [[buffer(kZOffsetBuffer)]],
    device const T* bias [[buffer(kBiasBuffer), function_constant(has_bias)]],
    uint3 position [[thread_position_in_grid]]) {
  const int runs = (p.depth.quotients + kDepthwiseRun - 1) / kDepthwiseRun;
  const int z = int(position.z + z_offset), run = z / p.out_channels, n = run / runs / p.groups;
  const int group = run / runs % p.groups, o = group * p.out_channels + z % p.out_channels;
  const int q = run % runs * kDepthwiseRun;
  const int i = q + p.depth.padding / 2;
  const int i_h = int(position.y) + p.height.padding / 2, i_w = int(position.x) + p.width.padding / 2;

  // The 2x2 inputs of each cell in the plane (h, w).
  int corner[4];
  bool inside[4];
#pragma unroll
  for (int e = 0; e < 4; ++e) {
    const int h = i_h + e / 2, w = i_w + e % 2;
    corner[e] = h * p.input.height + w * p.input.width;
    inside[e] = lies_in(h, p.height.input) && lies_in(w, p.width.input);
  }

  device const T* x = input + offset(p.input, n, group * p.in_channels);
  device const T* w = weight + (group * p.in_channels * p.out_channels + z % p.out_channels) * kFilter;
  float y[kDepthwiseRun][8] = {};
  for (int c = 0; c < p.in_channels; ++c) {
    float filter[kFilter], lower[4], upper[4];
    load_filter(filter, w);
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      lower[e] = value_or_zero(x, corner[e] + i * p.input.depth, inside[e] && lies_in(i, p.depth.input));
    }
#pragma unroll
    for (int r = 0; r < kDepthwiseRun; ++r) {
      const int above = i + r + 1;
      const bool within = lies_in(above, p.depth.input);
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        upper[e] = value_or_zero(x, corner[e] + above * p.input.depth, inside[e] && within);
      }
      // Each channel is summed apart: the rounding error is that of channels plus taps, not of channels times taps.
      float cell[8] = {};
#pragma unroll
      for (int kd = 0; kd < 3; ++kd) {
#pragma unroll
        for (int kh = 0; kh < 3; ++kh) {
#pragma unroll
          for (int kw = 0; kw < 3; ++kw) {
            const int from = (kh == 0) * 2 + (kw == 0), to = (kd != 1) * 4 + (kh != 1) * 2 + (kw != 1);
            cell[to] += (kd == 0 ? upper[from] : lower[from]) * filter[kd * 9 + kh * 3 + kw];
          }
        }
      }
#pragma unroll
      for (int e = 0; e < 8; ++e) {
        y[r][e] += cell[e];
      }
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        lower[e] = upper[e];
      }
    }
    x += p.input.channel;
    w += p.out_channels * kFilter;
  }

  const float added = has_bias ? float(bias[o]) : 0.0f;
  const int o_h = 2 * int(position.y), o_w = 2 * int(position.x);
  device T* cell = output + offset(p.output, n, o) + offset(p.output, 0, o_h, o_w);
#pragma unroll
  for (int r = 0; r < kDepthwiseRun; ++r) {
#pragma unroll
    for (int e = 0; e < 8; ++e) {
      const int o_d = 2 * (q + r) + e / 4;
      if (o_d < p.depth.output && o_h + e / 2 % 2 < p.height.output && o_w + e % 2 < p.width.output) {
        cell[offset(p.output, o_d, e / 2 % 2, e % 2)] = T(y[r][e] + added);
      }
    }
  }
}

// The outputs that the three taps of an axis bring an input to: their offsets, and whether they lie inside.
struct Targets {
  int at[3];
  bool inside[3];
};

inline Targets targets_of(constant Axis& axis, int stride, int i) {
  Targets targets;
#pragma unroll
  for (int k = 0; k < 3; ++k) {
    const int o = target(axis, i, k);
    targets.at[k] = o * stride;
    targets.inside[k] = lies_in(o, axis.output);
  }
  return targets;
}

// Targets of the nine taps (h, w) of a plane.
struct PlaneTargets {
  int at[9];
  bool inside[9];
};

inline PlaneTargets targets_of(Targets h, Targets w) {
  PlaneTargets plane;
#pragma unroll
  for (int k = 0; k < 9; ++k) {
    plane.at[k] = h.at[k / 3] + w.at[k % 3];
    plane.inside[k] = h.inside[k / 3] && w.inside[k % 3];
  }
  return plane;
}

// A thread computes kDepthwiseRun positions along the depth.
// grid: x = W, y = H, z = (n, c, run of D) of the input
template <typename T>
[[kernel, max_total_threads_per_threadgroup(kThreads)]] void conv_transpose3d_input_grad_depthwise(
    device T* grad_input [[buffer(kInputBuffer)]], device const T* weight [[buffer(kWeightBuffer)]],
    device const T* grad_output [[buffer(kOutputBuffer)]], constant KernelParams& p [[buffer(kParamsBuffer)]],
    constant uint& z_offset [[buffer(kZOffsetBuffer)]], uint3 position [[thread_position_in_grid]]) {
  const int runs = (p.depth.input + kDepthwiseRun - 1) / kDepthwiseRun, channels = p.groups * p.in_channels;
  const int z = int(position.z + z_offset);
  const int channel = z / runs, n = channel / channels, c = channel % channels, group = c / p.in_channels;
  const int d = z % runs * kDepthwiseRun, h = int(position.y), w = int(position.x);
  const PlaneTargets plane =
      targets_of(targets_of(p.height, p.output.height, h), targets_of(p.width, p.output.width, w));

  device const T* gy = grad_output + offset(p.output, n, group * p.out_channels);
  device const T* w_pair = weight + c * p.out_channels * kFilter;
  float sums[kDepthwiseRun] = {};
  for (int o = 0; o < p.out_channels; ++o) {
    float filter[kFilter];
    load_filter(filter, w_pair);
#pragma unroll
    for (int r = 0; r < kDepthwiseRun; ++r) {
      const Targets planes = targets_of(p.depth, p.output.depth, d + r);
      float sum = 0;  // each channel apart, as in the forward pass
#pragma unroll
      for (int k = 0; k < kFilter; ++k) {
        const bool inside = planes.inside[k / 9] && plane.inside[k % 9];
        sum += value_or_zero(gy, planes.at[k / 9] + plane.at[k % 9], inside) * filter[k];
      }
      sums[r] += sum;
    }
    gy += p.output.channel;
    w_pair += kFilter;
  }

  device T* gx = grad_input + offset(p.input, n, c) + offset(p.input, 0, h, w);
#pragma unroll
  for (int r = 0; r < kDepthwiseRun; ++r) {
    if (d + r < p.depth.input) {
      gx[(d + r) * p.input.depth] = T(sums[r]);
    }
  }
}

// Terms that a thread adds up in a plain sum, before it is added to a compensated one.
enum { kPlainTerms = 64 };

// A threadgroup sums all taps of one pair of channels over one split of the rows (d, h) of the input. With has_bias it
// sums the bias gradient, too: an output belongs to the input that reaches it through a tap below the stride, or, where
// that is the last input, through any tap. Lane t of a simdgroup keeps the sum of tap t, and lane 27 that of the bias.
// Leaves partial sums [split][c][o][tap], and with has_bias [o] behind those of each split.
// threadgroups: x = (c, o of the group), z = split. Threads: x along W, y over the rows.
template <typename T>
[[kernel, max_total_threads_per_threadgroup(kThreads)]] void conv_transpose3d_weight_grad_depthwise(
    device const T* input [[buffer(kInputBuffer)]], device float* partial_sums [[buffer(kPartialSumsBuffer)]],
    device const T* grad_output [[buffer(kOutputBuffer)]], constant KernelParams& p [[buffer(kParamsBuffer)]],
    constant uint& z_offset [[buffer(kZOffsetBuffer)]], constant SplitK& split_k [[buffer(kSplitBuffer)]],
    uint3 element [[threadgroup_position_in_grid]], uint3 thread_position [[thread_position_in_threadgroup]],
    uint3 threads [[threads_per_threadgroup]], uint simdgroup [[simdgroup_index_in_threadgroup]],
    uint lane [[thread_index_in_simdgroup]], uint simdgroups [[simdgroups_per_threadgroup]]) {
  threadgroup float2 simdgroup_sums[kMaxSimdgroups][32];
  const int c = int(element.x) / p.out_channels, o = int(element.x) % p.out_channels, group = c / p.in_channels;
  const bool sums_bias = has_bias && c == group * p.in_channels;
  const int across = int(threads.x), steps = (p.width.input + across - 1) / across;

  CompensatedSum own;
  float sums[kFilter + 1] = {};
  int terms = 0;
  for (KRange range = k_range(split_k, int(element.z + z_offset), p.batch); range.begin < range.end;
       range.next(split_k)) {
    device const T* x = input + offset(p.input, range.n, c);
    device const T* gy = grad_output + offset(p.output, range.n, group * p.out_channels + o);
    for (int rows = range.begin; rows < range.end; rows += int(threads.y)) {
      const int row = rows + int(thread_position.y);
      if (row < range.end) {
        const int d = div(row, p.inputs.h), h = row - d * p.height.input;
        const Targets planes = targets_of(p.depth, p.output.depth, d),
                      along_h = targets_of(p.height, p.output.height, h);
        for (int w = int(thread_position.x); w < p.width.input; w += across) {
          const PlaneTargets plane = targets_of(along_h, targets_of(p.width, p.output.width, w));
          const float x_value = float(x[offset(p.input, d, h, w)]);
#pragma unroll
          for (int k = 0; k < kFilter; ++k) {
            const bool inside = planes.inside[k / 9] && plane.inside[k % 9];
            const float value = value_or_zero(gy, planes.at[k / 9] + plane.at[k % 9], inside);
            sums[k] += x_value * value;
            if (sums_bias && (k / 9 < p.depth.stride || d == p.depth.input - 1) &&
                (k / 3 % 3 < p.height.stride || h == p.height.input - 1) &&
                (k % 3 < p.width.stride || w == p.width.input - 1)) {
              sums[kFilter] += value;
            }
          }
        }
      }
      terms += steps;
      if (terms >= kPlainTerms || rows + int(threads.y) >= range.end) {
        float mine = 0;
#pragma unroll
        for (int k = 0; k <= kFilter; ++k) {
          const float sum = simd_sum(sums[k]);
          mine = lane == uint(k) ? sum : mine;
          sums[k] = 0;
        }
        own.add(mine);
        terms = 0;
      }
    }
  }

  simdgroup_sums[simdgroup][lane] = float2(own.sum, own.error);
  threadgroup_barrier(mem_flags::mem_threadgroup);
  if (simdgroup == 0 && lane < kFilter + uint(sums_bias)) {
    CompensatedSum total;
    for (uint s = 0; s < simdgroups; ++s) {
      total.add(simdgroup_sums[s][lane].x, simdgroup_sums[s][lane].y);
    }
    const int filters = p.groups * p.in_channels * p.out_channels, outputs = p.groups * p.out_channels;
    device float* sums_of_split =
        partial_sums + int(element.z + z_offset) * (filters * kFilter + (has_bias ? outputs : 0));
    const int at =
        lane < kFilter ? int(element.x) * kFilter + int(lane) : filters * kFilter + group * p.out_channels + o;
    sums_of_split[at] = total.rounded();
  }
}

INSTANTIATE(conv_transpose3d_forward_depthwise)
INSTANTIATE(conv_transpose3d_input_grad_depthwise)
INSTANTIATE(conv_transpose3d_weight_grad_depthwise)
