// ConvTranspose3d whose kernel tiles the output (kernel == stride, no padding, no dilation), as matrix products.
//
// Every output element then belongs to one input position m = (d, h, w) and one column j = (o, kd, kh, kw) of the
// weight as it lies in memory. With X[c][m] the input, W[c][j] the weight and Y[m][j] the output, all in place:
//     forward        Y[m][j] = sum over c of X[c][m] * W[c][j]  + bias[o]
//     input grad     X[c][m] = sum over j of W[c][j] * Y[m][j]
//     weight grad    W[c][j] = sum over m of X[c][m] * Y[m][j]      (and over n: split-K, then a fixed-order sum)

#include <metal_stdlib>

#include "conv_transpose3d_params.h"
#include "tile_gemm.h"

using namespace metal;

// Where Y[m][j] lies: position_offset(m) + column_offset(j).
inline int position_offset(constant ConvTranspose3dParams& p, int m) {
  const int w = m % p.width.input, row = m / p.width.input;
  const int h = row % p.height.input, d = row / p.height.input;
  return (d * p.depth.stride * p.height.output + h * p.height.stride) * p.width.output + w * p.width.stride;
}

inline int column_offset(constant ConvTranspose3dParams& p, int j) {
  const int kw = j % p.width.taps, row = j / p.width.taps;
  const int kh = row % p.height.taps, plane = row / p.height.taps;
  const int kd = plane % p.depth.taps, o = plane / p.depth.taps;
  return o * int(p.output.channel) + (kd * p.height.output + kh) * p.width.output + kw;
}

inline int positions(constant ConvTranspose3dParams& p) { return p.depth.input * p.height.input * p.width.input; }
inline int columns(constant ConvTranspose3dParams& p) {
  return p.out_channels * p.depth.taps * p.height.taps * p.width.taps;
}

// A matrix with i contiguous; zero beyond its ends.
template <typename T>
struct RowsOfK {
  device const T* data;
  int stride, k_end, i_end;
  T at(int k, int tile_k, int i, int tile_i) const {
    return k + tile_k < k_end && i + tile_i < i_end ? data[(k + tile_k) * stride + i + tile_i] : T(0);
  }
};

// A matrix with k contiguous; zero beyond its ends.
template <typename T>
struct ColumnsOfK {
  device const T* data;
  int stride, k_end, i_end;
  T at(int k, int tile_k, int i, int tile_i) const {
    return k + tile_k < k_end && i + tile_i < i_end ? data[(i + tile_i) * stride + k + tile_k] : T(0);
  }
};

// Y or its transpose, by the offsets of this tile's rows and columns.
template <typename T>
struct Output {
  device const T* data;
  threadgroup const int* k_offset;
  threadgroup const int* i_offset;
  int k_end, i_end;
  T at(int k, int tile_k, int i, int tile_i) const {
    return k + tile_k < k_end && i + tile_i < i_end ? data[k_offset[tile_k] + i_offset[tile_i]] : T(0);
  }
};

// threadgroups: x = tile of j (neighbours share the input), y = tile of m, z = (n, group)
template <typename T, int kM, int kN, int kK, int kSimdgroupsM, int kSimdgroupsN>
[[kernel]] void conv_transpose3d_forward_gemm(
    device const T* input [[buffer(kInputBuffer)]], device const T* weight [[buffer(kWeightBuffer)]],
    device T* output [[buffer(kOutputBuffer)]], constant ConvTranspose3dParams& p [[buffer(kParamsBuffer)]],
    constant uint& first [[buffer(kFirstBuffer)]],
    device const T* bias [[buffer(kBiasBuffer), function_constant(has_bias)]],
    uint3 tile [[threadgroup_position_in_grid]], uint thread_index [[thread_index_in_threadgroup]],
    uint simdgroup [[simdgroup_index_in_threadgroup]], uint lane [[thread_index_in_simdgroup]]) {
  using Gemm = TileGemm<T, kM, kN, kK, kSimdgroupsM, kSimdgroupsN>;
  threadgroup typename Gemm::Staged a[kK * Gemm::kStrideA];
  threadgroup typename Gemm::Staged b[kK * Gemm::kStrideB];
  threadgroup int m_offset[kM];
  threadgroup int j_offset[kN];
  threadgroup float j_bias[kN];

  const int m0 = int(tile.y) * kM, j0 = int(tile.x) * kN;
  const int n = int(tile.z + first) / p.groups, group = int(tile.z + first) % p.groups;
  const int taps = p.depth.taps * p.height.taps * p.width.taps;
  const int m_end = positions(p), j_end = columns(p);
  const RowsOfK<T> x{input + offset(p.input, n, group * p.in_channels), int(p.input.channel), p.in_channels, m_end};
  const RowsOfK<T> w{weight + group * p.in_channels * j_end, j_end, p.in_channels, j_end};

  for (int i = int(thread_index); i < kM; i += Gemm::kThreads) {
    m_offset[i] = position_offset(p, m0 + i);
  }
  for (int i = int(thread_index); i < kN; i += Gemm::kThreads) {
    j_offset[i] = column_offset(p, j0 + i);
    j_bias[i] = 0;
    if (has_bias && j0 + i < j_end) {
      j_bias[i] = float(bias[group * p.out_channels + (j0 + i) / taps]);
    }
  }

  Gemm gemm(simdgroup, lane);
  for (int k = 0; k < p.in_channels; k += kK) {
    Gemm::template stage<kM, false>(a, x, k, m0, thread_index);
    Gemm::template stage<kN, false>(b, w, k, j0, thread_index);
    threadgroup_barrier(mem_flags::mem_threadgroup);
    gemm.multiply(a, b, simdgroup);
    threadgroup_barrier(mem_flags::mem_threadgroup);
  }
  gemm.add_to_total();

  device T* y = output + offset(p.output, n, group * p.out_channels);
#pragma unroll
  for (int i = 0; i < Gemm::kFragmentsM; ++i) {
    const int m = gemm.row + i * 8;
#pragma unroll
    for (int j = 0; j < Gemm::kFragmentsN; ++j) {
      for (int e = 0; e < 2; ++e) {
        const int column = gemm.column + j * 8 + e;
        if (m0 + m < m_end && j0 + column < j_end) {
          y[m_offset[m] + j_offset[column]] = T(gemm.total[i][j][e] + j_bias[column]);
        }
      }
    }
  }
}

// threadgroups: x = tile of c (neighbours share the gradient of the output), y = tile of m, z = (n, group)
template <typename T, int kM, int kN, int kK, int kSimdgroupsM, int kSimdgroupsN>
[[kernel]] void conv_transpose3d_input_grad_gemm(
    device T* grad_input [[buffer(kInputBuffer)]], device const T* weight [[buffer(kWeightBuffer)]],
    device const T* grad_output [[buffer(kOutputBuffer)]], constant ConvTranspose3dParams& p [[buffer(kParamsBuffer)]],
    constant uint& first [[buffer(kFirstBuffer)]], uint3 tile [[threadgroup_position_in_grid]],
    uint thread_index [[thread_index_in_threadgroup]], uint simdgroup [[simdgroup_index_in_threadgroup]],
    uint lane [[thread_index_in_simdgroup]]) {
  using Gemm = TileGemm<T, kM, kN, kK, kSimdgroupsM, kSimdgroupsN>;
  threadgroup typename Gemm::Staged a[kK * Gemm::kStrideA];
  threadgroup typename Gemm::Staged b[kK * Gemm::kStrideB];
  threadgroup int m_offset[kN];
  threadgroup int j_offset[2][kK];  // of this step and the next

  const int c0 = int(tile.x) * kM, m0 = int(tile.y) * kN;
  const int n = int(tile.z + first) / p.groups, group = int(tile.z + first) % p.groups;
  const int m_end = positions(p), j_end = columns(p);
  const ColumnsOfK<T> w{weight + group * p.in_channels * j_end, j_end, j_end, p.in_channels};
  device const T* y = grad_output + offset(p.output, n, group * p.out_channels);

  for (int i = int(thread_index); i < kN; i += Gemm::kThreads) {
    m_offset[i] = position_offset(p, m0 + i);
  }
  if (int(thread_index) < kK) {
    j_offset[0][thread_index] = column_offset(p, int(thread_index));
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);

  Gemm gemm(simdgroup, lane);
  for (int k = 0, step = 0; k < j_end; k += kK, step ^= 1) {
    Gemm::template stage<kM, true>(a, w, k, c0, thread_index);
    Gemm::template stage<kN, false>(b, Output<T>{y, j_offset[step], m_offset, j_end, m_end}, k, m0, thread_index);
    if (int(thread_index) < kK) {
      j_offset[step ^ 1][thread_index] = column_offset(p, k + kK + int(thread_index));
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    gemm.multiply(a, b, simdgroup);
    threadgroup_barrier(mem_flags::mem_threadgroup);
  }
  gemm.add_to_total();

  device T* x = grad_input + offset(p.input, n, group * p.in_channels);
#pragma unroll
  for (int i = 0; i < Gemm::kFragmentsM; ++i) {
    const int c = c0 + gemm.row + i * 8;
#pragma unroll
    for (int j = 0; j < Gemm::kFragmentsN; ++j) {
      for (int e = 0; e < 2; ++e) {
        const int m = m0 + gemm.column + j * 8 + e;
        if (c < p.in_channels && m < m_end) {
          x[c * int(p.input.channel) + m] = T(gemm.total[i][j][e]);
        }
      }
    }
  }
}

// Leaves float32 partial sums [split][group][c][j].
// threadgroups: x = tile of j, y = tile of c, z = (split, group)
template <typename T, int kM, int kN, int kK, int kSimdgroupsM, int kSimdgroupsN>
[[kernel]] void conv_transpose3d_weight_grad_gemm(
    device const T* input [[buffer(kInputBuffer)]], device float* partial_sums [[buffer(kPartialSumsBuffer)]],
    device const T* grad_output [[buffer(kOutputBuffer)]], constant ConvTranspose3dParams& p [[buffer(kParamsBuffer)]],
    constant uint& first [[buffer(kFirstBuffer)]], constant SplitK& split_k [[buffer(kSplitBuffer)]],
    uint3 tile [[threadgroup_position_in_grid]], uint thread_index [[thread_index_in_threadgroup]],
    uint simdgroup [[simdgroup_index_in_threadgroup]], uint lane [[thread_index_in_simdgroup]]) {
  using Gemm = TileGemm<T, kM, kN, kK, kSimdgroupsM, kSimdgroupsN>;
  threadgroup typename Gemm::Staged a[kK * Gemm::kStrideA];
  threadgroup typename Gemm::Staged b[kK * Gemm::kStrideB];
  threadgroup int m_offset[2][kK];  // of this step and the next
  threadgroup int j_offset[kN];

  const int j0 = int(tile.x) * kN, c0 = int(tile.y) * kM;
  const int split = int(tile.z + first) / p.groups, group = int(tile.z + first) % p.groups;
  const int first_sample = split / split_k.chunks * split_k.samples;
  const int last_sample = min(p.batch, first_sample + split_k.samples);
  const int begin = split % split_k.chunks * split_k.length;
  const int m_end = min(positions(p), begin + split_k.length), j_end = columns(p);

  for (int i = int(thread_index); i < kN; i += Gemm::kThreads) {
    j_offset[i] = column_offset(p, j0 + i);
  }

  Gemm gemm(simdgroup, lane);
  for (int n = first_sample; n < last_sample; ++n) {
    const ColumnsOfK<T> x{input + offset(p.input, n, group * p.in_channels), int(p.input.channel), m_end,
                          p.in_channels};
    device const T* y = grad_output + offset(p.output, n, group * p.out_channels);
    if (int(thread_index) < kK) {
      m_offset[0][thread_index] = position_offset(p, begin + int(thread_index));
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    for (int k = begin, step = 0; k < m_end; k += kK, step ^= 1) {
      Gemm::template stage<kM, true>(a, x, k, c0, thread_index);
      Gemm::template stage<kN, true>(b, Output<T>{y, m_offset[step], j_offset, m_end, j_end}, k, j0, thread_index);
      if (int(thread_index) < kK) {
        m_offset[step ^ 1][thread_index] = position_offset(p, k + kK + int(thread_index));
      }
      threadgroup_barrier(mem_flags::mem_threadgroup);
      gemm.multiply(a, b, simdgroup);
      threadgroup_barrier(mem_flags::mem_threadgroup);
    }
  }
  gemm.add_to_total();

  device float* sums = partial_sums + (split * p.groups + group) * p.in_channels * j_end;
#pragma unroll
  for (int i = 0; i < Gemm::kFragmentsM; ++i) {
    const int c = c0 + gemm.row + i * 8;
#pragma unroll
    for (int j = 0; j < Gemm::kFragmentsN; ++j) {
      for (int e = 0; e < 2; ++e) {
        const int column = j0 + gemm.column + j * 8 + e;
        if (c < p.in_channels && column < j_end) {
          sums[c * j_end + column] = gemm.total[i][j][e];
        }
      }
    }
  }
}

// The partial sums of every split, added in one order. grid: x = (group, c, j)
template <typename T>
[[kernel]] void conv_transpose3d_weight_grad_sum_splits(device const float* partial_sums [[buffer(kPartialSumsBuffer)]],
                                                        device T* grad_weight [[buffer(kWeightBuffer)]],
                                                        constant SplitK& split_k [[buffer(kSplitBuffer)]],
                                                        uint element [[thread_position_in_grid]],
                                                        uint elements [[threads_per_grid]]) {
  float sum = 0;
  for (int split = 0; split < split_k.splits; ++split) {
    sum += partial_sums[split * elements + element];
  }
  grad_weight[element] = T(sum);
}

#define INSTANTIATE_GEMM(kernel_name, m, n, type)                                                               \
  template [[host_name(#kernel_name "_" #m "x" #n                                                               \
                                    "_" #type)]] [[kernel]] decltype(kernel_name<type, m, n, kGemmDepth, 2, 2>) \
      kernel_name<type, m, n, kGemmDepth, 2, 2>;
#define INSTANTIATE_GEMMS(m, n, type)                            \
  INSTANTIATE_GEMM(conv_transpose3d_forward_gemm, m, n, type)    \
  INSTANTIATE_GEMM(conv_transpose3d_input_grad_gemm, m, n, type) \
  INSTANTIATE_GEMM(conv_transpose3d_weight_grad_gemm, m, n, type)
#define INSTANTIATE_ALL_GEMMS(type) \
  INSTANTIATE_GEMMS(64, 64, type)   \
  INSTANTIATE_GEMMS(32, 64, type) INSTANTIATE(conv_transpose3d_weight_grad_sum_splits, type)

INSTANTIATE_ALL_GEMMS(ELEMENT)
