// The forward pass of ConvTranspose3d as a matrix product, for any stride, padding, dilation and kernel.
//
// Outputs o = q * stride + phase of one phase meet the same taps, and by each of these the input q + shift (per axis).
// The rows of the product are the positions q; its columns, in fragments of 8, are 8 output channels of one phase. For
// every shift that a tap of the tile has, the shifted input is staged with the weights of those taps, and multiplied
// into the fragments whose phase has such a tap: no product with an inserted zero is formed. Where the kernel tiles the
// output there is one shift, and each fragment has one tap.

#include <metal_stdlib>

#include "conv_transpose3d_params.h"
#include "places.h"
#include "tile_gemm.h"

using namespace metal;

// The tap that carries input q + shift to output q * stride + phase; negative where there is none.
inline int tap_of(constant Axis& axis, int phase, int shift) {
  const int scaled = phase + axis.padding - shift * axis.stride;
  const int tap = scaled / axis.dilation;
  return scaled >= 0 && tap < axis.taps && tap * axis.dilation == scaled ? tap : -1;
}

// Whether an output of this phase lies beyond the end where q is the last quotient.
inline bool last_is_beyond(constant Axis& axis, int phase) {
  return (axis.quotients - 1) * axis.stride + phase >= axis.output;
}

// threadgroups: x = tile of (o, phase) (neighbours share the input), y = tile of q, z = (n, group)
template <typename T, int kM, int kN, int kSumDepth>
[[kernel]] void conv_transpose3d_forward_gemm(
    device const T* input [[buffer(kInputBuffer)]], device const T* weight [[buffer(kWeightBuffer)]],
    device T* output [[buffer(kOutputBuffer)]], constant ConvTranspose3dParams& p [[buffer(kParamsBuffer)]],
    constant uint& first [[buffer(kFirstBuffer)]],
    device const T* bias [[buffer(kBiasBuffer), function_constant(has_bias)]],
    uint3 tile [[threadgroup_position_in_grid]], uint thread_index [[thread_index_in_threadgroup]],
    uint simdgroup [[simdgroup_index_in_threadgroup]], uint lane [[thread_index_in_simdgroup]]) {
  using TileA = StagedTile<T, kM, false>;
  using TileB = StagedTile<T, kN, false>;
  using Gemm = TileGemm<TileA, TileB, kM, kN, 2, 2, kSumDepth>;
  constexpr int kK = kGemmDepth, kFragments = kN / 8, kSimdgroups = kGemmThreads / 32;
  threadgroup typename Gemm::Staged a[TileA::kSize];
  threadgroup typename Gemm::Staged b[TileB::kSize];
  // Of each fragment: its tap along an axis for every shift along that axis, those of height behind those of depth, and
  // so on; and for every shift, which fragments have a tap.
  threadgroup short taps[kMaxReachBits * kFragments];
  threadgroup uint fragments[kMaxReachBits];
  threadgroup int channels[kFragments], fragment_offset[kFragments], row_offset[kM];
  threadgroup uint beyond[kFragments], last[kM];  // an output is written unless a bit is in both
  threadgroup float column_bias[kN];

  constant Axis &depth = p.depth, &height = p.height, &width = p.width;
  const int n = int(tile.z + first) / p.groups, group = int(tile.z + first) % p.groups;
  const int shifts_dh = depth.shifts + height.shifts, all_shifts = shifts_dh + width.shifts;
  const Extent strides = {depth.stride, height.stride, width.stride};
  const Extent quotients = {depth.quotients, height.quotients, width.quotients};
  const int m0 = int(tile.y) * kM, m_end = product(quotients);

  for (int e = int(thread_index); e < all_shifts * kFragments; e += kGemmThreads) {
    const int f = int(uint(e) % kFragments), s = int(uint(e) / kFragments);
    const Place phase = place_of(int(tile.x) * kFragments + f, strides);
    taps[e] = short(phase.outer * 8 >= p.out_channels ? -1
                    : s < depth.shifts                ? tap_of(depth, phase.d, depth.first_shift + s)
                    : s < shifts_dh                   ? tap_of(height, phase.h, height.first_shift + s - depth.shifts)
                                                      : tap_of(width, phase.w, width.first_shift + s - shifts_dh));
  }
  for (int f = int(thread_index); f < kFragments; f += kGemmThreads) {
    const Place phase = place_of(int(tile.x) * kFragments + f, strides);
    channels[f] = phase.outer * 8;
    fragment_offset[f] = phase.outer * 8 * int(p.output.channel) + offset_of(p.output, phase);
    beyond[f] =
        joined(last_is_beyond(depth, phase.d), last_is_beyond(height, phase.h), last_is_beyond(width, phase.w), 1, 1) |
        kNoBits;
  }
  for (int i = int(thread_index); i < kM; i += kGemmThreads) {
    const Place q = place_of(m0 + i, quotients);
    row_offset[i] = offset_of(p.output, {0, q.d * depth.stride, q.h * height.stride, q.w * width.stride});
    last[i] = m0 + i >= m_end ? kNoBits
                              : joined(q.d == quotients.d - 1, q.h == quotients.h - 1, q.w == quotients.w - 1, 1, 1);
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  for (int s = int(thread_index); s < all_shifts; s += kGemmThreads) {
    uint having = 0;
    for (int f = 0; f < kFragments; ++f) {
      having |= uint(taps[s * kFragments + f] >= 0) << f;
    }
    fragments[s] = having;
  }
  for (int i = int(thread_index); i < kN; i += kGemmThreads) {
    const int o = channels[i >> 3] + (i & 7);
    column_bias[i] = 0;
    if (has_bias && o < p.out_channels) {
      column_bias[i] = float(bias[group * p.out_channels + o]);
    }
  }

  // What this thread stages of A: its rows lane, lane + 32 ...
  int x_offset[kM / 32];
  uint within[kM / 32];
#pragma unroll
  for (int e = 0; e < kM / 32; ++e) {
    Place q = place_of(min(m0 + int(lane) + e * 32, m_end - 1), quotients);
    q.d += depth.first_shift;
    q.h += height.first_shift;
    q.w += width.first_shift;
    x_offset[e] = offset_of(p.input, q);
    within[e] = joined(bits_within(q.d, 1, depth.shifts, depth.input), bits_within(q.h, 1, height.shifts, height.input),
                       bits_within(q.w, 1, width.shifts, width.input), depth.shifts, height.shifts);
  }
  // And of B: one column, with neighbouring threads in neighbouring phases, as the weights lie in memory.
  static_assert(kN == kGemmThreads, "a thread stages one column");
  const int own = int(thread_index / 64 * 8 + thread_index % 8);
  const int column = own * 8 + int(thread_index / 8 % 8);
  const int filter = taps_per_filter(p), c_stride = p.out_channels * filter, x_channel = int(p.input.channel);
  device const T* x = input + offset(p.input, n, group * p.in_channels);
  device const T* w =
      weight + group * p.in_channels * c_stride + min(channels[own] + (column & 7), p.out_channels - 1) * filter;
  threadgroup_barrier(mem_flags::mem_threadgroup);

  Gemm gemm(simdgroup, lane);
  for (int c = 0; c < p.in_channels; c += kK) {
    device const T* x_column = x + (c + int(simdgroup)) * x_channel;
    const int x_count = (p.in_channels - c - int(simdgroup) + kSimdgroups - 1) / kSimdgroups;
    for (int sd = 0; sd < depth.shifts; ++sd) {
      for (int sh = 0; sh < height.shifts; ++sh) {
        for (int sw = 0; sw < width.shifts; ++sw) {
          const uint having = fragments[sd] & fragments[depth.shifts + sh] & fragments[shifts_dh + sw];
          if (having == 0) {
            continue;
          }
          const uint shift = bits_of(sd, sh, sw, depth.shifts, height.shifts);
          const int shifted = offset_of(p.input, {0, sd, sh, sw});
#pragma unroll
          for (int e = 0; e < kM / 32; ++e) {
            stage_line<kK / kSimdgroups, kSimdgroups * TileA::kStride>(
                a + TileA::index(int(simdgroup), int(lane) + e * 32), x_column + x_offset[e] + shifted,
                x_channel * kSimdgroups, contains(within[e], shift) ? x_count : 0);
          }
          if (having >> own & 1) {
            const int kd = taps[sd * kFragments + own];
            const int kh = taps[(depth.shifts + sh) * kFragments + own];
            const int kw = taps[(shifts_dh + sw) * kFragments + own];
            stage_line<kK, TileB::kStride>(b + column, w + c * c_stride + tap_index(p, kd, kh, kw), c_stride,
                                           p.in_channels - c);
          }
          threadgroup_barrier(mem_flags::mem_threadgroup);
          gemm.multiply(a, b, having);
          threadgroup_barrier(mem_flags::mem_threadgroup);
        }
      }
    }
  }

  device T* y = output + offset(p.output, n, group * p.out_channels);
  const int y_channel = int(p.output.channel);
  const int own_pair = gemm.column & 7;  // this lane's two channels of each fragment: this one and the next
#pragma unroll
  for (int j = 0; j < Gemm::kFragmentsN; ++j) {
    const int f = (gemm.column >> 3) + j, o = channels[f] + own_pair;
    const float2 pair_bias = {column_bias[gemm.column + j * 8], column_bias[gemm.column + j * 8 + 1]};
    device T* y_pair = y + (fragment_offset[f] + own_pair * y_channel);
#pragma unroll
    for (int i = 0; i < Gemm::kFragmentsM; ++i) {
      const int row = gemm.row + i * 8;
      const float2 value = gemm.value(i, j) + pair_bias;
      if ((last[row] & beyond[f]) == 0) {
        if (o < p.out_channels) {
          y_pair[row_offset[row]] = T(value.x);
        }
        if (o + 1 < p.out_channels) {
          y_pair[row_offset[row] + y_channel] = T(value.y);
        }
      }
    }
  }
}

#define INSTANTIATE_FORWARD_GEMM(m, n, sum_depth, type)                                                       \
  template [[host_name("conv_transpose3d_forward_gemm_" #m "x" #n                                             \
                       "_" #type)]] [[kernel]] decltype(conv_transpose3d_forward_gemm<type, m, n, sum_depth>) \
      conv_transpose3d_forward_gemm<type, m, n, sum_depth>;
#define INSTANTIATE_FORWARD_GEMMS(type)      \
  INSTANTIATE_FORWARD_GEMM(64, 128, 0, type) \
  INSTANTIATE_FORWARD_GEMM(32, 128, 64, type)

INSTANTIATE_FORWARD_GEMMS(ELEMENT)
