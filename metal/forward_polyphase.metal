// The forward pass as a matrix product by output phases (polyphase/phase.h), for any stride, padding, dilation and
// kernel.
//
// The rows of the product are the q of a box. Its columns come in fragments of 8 output channels of one phase; a tile
// has 8 of these, which are all phases of a stride of 2. For every shift, the fragments whose phase has a tap of this
// shift are multiplied, so that no product with an inserted zero is formed. Phases that no tap reaches (kernel below
// stride) have no columns; their outputs are the bias alone.
//
// What overlapping taps share is staged once for 8 input channels: the inputs of the box with its halo, and the weights
// of all taps. A kernel of more taps than are staged at a time takes several blocks of shifts.

#include <metal_stdlib>

#include "common.h"
#include "coord.h"
#include "gemm/fragment.h"
#include "params.h"
#include "polyphase/k3s2_taps.h"
#include "polyphase/loader.h"
#include "polyphase/lookup_taps.h"
#include "polyphase/mma.h"
#include "polyphase/phase.h"

using namespace metal;

// The first q of a box of the volume.
METAL_FUNC Coord first_of_box(constant PolyphaseTile& t, int box) {
  const int row = div(box, t.boxes.w), d = div(row, t.boxes.h);
  return {0, d * t.box.d, (row - d * t.boxes.h.value) * t.box.h, (box - row * t.boxes.w.value) * t.box.w};
}

// Taps is K3S2Taps or LookupTaps.
// threadgroups: x and y = tile of (o, phase) and box of q, in the order of t.boxes_first, z = (n, group)
template <typename T, typename Taps>
[[kernel, max_total_threads_per_threadgroup(kThreads)]] void conv_transpose3d_forward_polyphase_gemm(
    device const T* input [[buffer(kInputBuffer)]], device const T* weight [[buffer(kWeightBuffer)]],
    device T* output [[buffer(kOutputBuffer)]], constant KernelParams& p [[buffer(kParamsBuffer)]],
    constant uint& z_offset [[buffer(kZOffsetBuffer)]], constant PolyphaseTile& t [[buffer(kPolyphaseTileBuffer)]],
    device const T* bias [[buffer(kBiasBuffer), function_constant(has_bias)]],
    uint3 tile [[threadgroup_position_in_grid]], uint thread_index [[thread_index_in_threadgroup]],
    uint simdgroup_index [[simdgroup_index_in_threadgroup]], uint lane_index [[thread_index_in_simdgroup]],
    uint simdgroup_count [[simdgroups_per_threadgroup]]) {
  using Element = typename Staging<T>::type;
  threadgroup vec<Element, 4> staged[kMaxPolyphaseElements / 4];
  threadgroup typename Taps::Tables tables;

  constant Axis &depth = p.depth, &height = p.height, &width = p.width;
  const int simdgroup = int(simdgroup_index), simdgroups = int(simdgroup_count), lane = int(lane_index);
  const int threads = simdgroups * 32;
  const BatchGroup z = batch_group(p, int(tile.z + z_offset));
  const int column_tile = int(t.boxes_first ? tile.y : tile.x);
  const Coord box = first_of_box(t, int(t.boxes_first ? tile.x : tile.y));
  Taps::fill_tables(tables, p, column_tile, int(thread_index), threads);

  threadgroup Element* x_tile = reinterpret_cast<threadgroup Element*>(staged);
  threadgroup Element* w_tile = x_tile + t.positions * kPolyphaseBK;
  const LaneRows<Element> rows(p, t, box, x_tile, simdgroup, lane_index);

  const int filter_size = Taps::filter_size(p), w_channel = p.columns;
  const long x_channel = p.input.channel;
  device const T* x = input + offset(p.input, z.n, z.group * p.in_channels);
  device const T* w = weight + (z.group * p.in_channels + simdgroup) * w_channel;
  InputLoader<T, Element> x_loader(x_tile, int(thread_index), threads);
  threadgroup Element* own_w = w_tile + (lane * kPolyphaseBK + simdgroup) * 8;
  // The last simdgroup may have fewer.
  const int fragment_rows = min(t.fragment_rows, int(uint(t.rows + 7) / 8) - simdgroup * t.fragment_rows);
  PolyphaseMMA<Element> mma;
  Taps taps(p, t);
  for (int sd = 0; sd < depth.shifts; sd += t.shifts.d) {
    for (int sh = 0; sh < height.shifts; sh += t.shifts.h) {
      for (int sw = 0; sw < width.shifts; sw += t.shifts.w) {
        const LaneTap tap = Taps::next_block(tables, p, t, {0, sd, sh, sw}, column_tile, simdgroup, lane);
        const Coord start = {0, box.d + depth.first_shift + sd, box.h + height.first_shift + sh,
                             box.w + width.first_shift + sw};
        x_loader.find(p, t, start, x);

        device const T *x_c = x, *w_c = w + tap.offset;
        for (int c = p.in_channels; c > 0; c -= kPolyphaseBK) {
          x_loader.load_safe(x_c, x_channel, c);
          if (lane < tap.count) {
            load_weights(own_w, w_c, filter_size, w_channel, tap.outputs, c, simdgroup, simdgroups);
          }
          x_c += kPolyphaseBK * x_channel;
          w_c += kPolyphaseBK * w_channel;
          threadgroup_barrier(mem_flags::mem_threadgroup);
          if (fragment_rows == 1) {
            taps.template multiply<1>(mma, tables, rows.x, w_tile);
          } else {
            taps.template multiply<kPolyphaseFragsM>(mma, tables, rows.x, w_tile);
          }
          threadgroup_barrier(mem_flags::mem_threadgroup);
        }
      }
    }
  }

  const int column = fragment_column(lane_index);
  device const T* own_bias = nullptr;
  if (has_bias) {
    own_bias = bias + z.group * p.out_channels;
  }
  device T* y = output + offset(p.output, z.n, z.group * p.out_channels);
#pragma unroll
  for (int i = 0; i < kPolyphaseFragsM; ++i) {
    float2 value[kPolyphaseFragsN];
#pragma unroll
    for (int f = 0; f < kPolyphaseFragsN; ++f) {
      value[f] = mma.value(i, f);
    }
    if (rows.last[i] & kNoOutput) {
      continue;
    }
    Taps::store(y + rows.y[i], value, own_bias, p, tables, column_tile, column, rows.last[i]);
  }
  Taps::store_rest(y, own_bias, p, column_tile, rows.y, rows.last, column);
}

INSTANTIATE_AS("conv_transpose3d_forward_polyphase_gemm", conv_transpose3d_forward_polyphase_gemm<ELEMENT, LookupTaps>)
INSTANTIATE_AS("conv_transpose3d_forward_polyphase_gemm_k3s2",
               conv_transpose3d_forward_polyphase_gemm<ELEMENT, K3S2Taps>)
