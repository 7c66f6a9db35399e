#include "gemm_grid.h"

#include <algorithm>

#include "integers.h"
#include "phase_tile.h"

namespace mps_conv_transpose3d {
namespace {

// M rows and N columns.
// `speed`, in products, of a tile of 64x64. Beside its multiply-adds of 1.25 cycles (m * n * 16 / 128 for each thread
// and step), a thread takes some 30 + 0.55 * (m + n) cycles to stage and to load fragments: 64x128 is 5 % faster, 48x64
// 3 % slower. Smaller ones are held up by on-core data: a core moves 64 bytes a cycle and multiplies 102 times, 0.625
// bytes a product, of which 32x64 needs 0.75 and 16x64 1.13 (4 bytes times 1/8 of (1/N' + 1/M') for fragments of a
// simdgroup's M' x N', and twice (1/M + 1/N) for what is staged).
// `resident`: threadgroups for which a core has registers and threadgroup memory, by benchmarks/model.py.
struct Tile {
  int64_t m, n;
  double speed;
  int64_t resident;
};

constexpr Tile tile_of(Method method) {
  switch (method) {
    case Method::one_tap_gemm_64x128:
      return {64, 128, 1.05, 3};
    case Method::gemm_48x64:
      return {48, 64, 0.97, 5};
    case Method::gemm_32x64:
    case Method::one_tap_gemm_32x64:
      return {32, 64, 0.83, 6};
    case Method::gemm_16x64:
      return {16, 64, 0.55, 8};
    default:
      return {64, 64, 1, 4};
  }
}

// The time of a grid in multiply-adds of a core. A threadgroup alone on its core leaves a third of it idle: nothing
// hides the latency of its arithmetic.
double time_of_grid(const Tile& tile, int64_t threadgroups, int64_t depth, const Device& device) {
  const int64_t on_a_core = threadgroups_on_a_core(threadgroups, tile.resident, device.cores);
  return std::max(1.5, static_cast<double>(on_a_core)) * static_cast<double>(tile.m * tile.n * depth) / tile.speed;
}

int64_t tiles_of(const Product& product, const Tile& tile, const ConvTranspose3dParams& p) {
  return ceil_div(product.rows, tile.m) * ceil_div(product.columns, tile.n) * p.groups;
}

// A weight gradient's splits, and their time in multiply-adds of one core.
struct TimedSplit {
  SplitK split;
  double time;
};

// The fastest of those that give each core the same number of threadgroups, with no fewer than 8 tiles of depth each
// and partial sums of at most 8 MB. A single split has none.
TimedSplit fastest_split(Method method, const ConvTranspose3dParams& p, const Device& device) {
  constexpr int64_t kPartialSums = (8 << 20) / sizeof(float), kMostWaves = 4;
  // A partial sum is written and read: 8 bytes, and a core makes some 13 multiply-adds for each byte of its share of
  // the memory's bandwidth.
  constexpr double kTimeOfASum = 8 * 13;
  // And a dispatch that waits for another starts some 2 us after it.
  constexpr double kTimeOfADispatch = 2.6e5;
  const Product product = product_of(Pass::weight_grad, method, p);
  const Tile tile = tile_of(method);
  const int64_t tiles = tiles_of(product, tile, p);
  // Two more rows: a bias gradient's sums, and what rounding took from them.
  const int64_t sums = (product.rows + 2) * product.columns * p.groups;
  const int64_t most_chunks = ceil_div(product.depth, 8 * kGemmDepth);
  const int64_t most = std::clamp<int64_t>(kPartialSums / sums, 1, p.batch * most_chunks);
  TimedSplit best{};
  int64_t last_wanted = 0;
  // Up to as many as are resident, then in whole waves of those.
  for (int64_t on_a_core = 0; on_a_core <= kMostWaves * tile.resident;
       on_a_core += on_a_core < tile.resident ? 1 : tile.resident) {
    const int64_t wanted = std::clamp<int64_t>(on_a_core * device.cores / tiles, 1, most);
    if (wanted == last_wanted || wanted == best.split.splits) {
      continue;
    }
    last_wanted = wanted;
    const SplitK split = make_split(wanted, p.batch, product.depth, most_chunks, kGemmDepth);
    double time = time_of_grid(tile, tiles * split.splits, int64_t{split.samples} * split.length, device);
    if (split.splits > 1) {
      time += kTimeOfADispatch + kTimeOfASum * static_cast<double>(split.splits * sums) / device.cores;
    }
    if (best.split.splits == 0 || time < best.time) {
      best = {split, time};
    }
  }
  return best;
}

}  // namespace

bool is_phases(Method method) { return method == Method::phases_gemm || method == Method::k3s2_gemm; }

bool is_one_tap(Method method) {
  return method == Method::one_tap_gemm_64x128 || method == Method::one_tap_gemm_64x64 ||
         method == Method::one_tap_gemm_32x64;
}

Product product_of(Pass pass, Method method, const ConvTranspose3dParams& p) {
  const int64_t positions = positions_of(p), columns = p.out_channels * taps_of(p);
  const Axis &d = p.depth, &h = p.height, &w = p.width;
  const auto reaching = [](const Axis& axis) { return ceil_div(axis.taps, axis.tap_step); };
  switch (pass) {
    case Pass::forward: {
      if (is_one_tap(method)) {
        return {positions, columns, p.in_channels};
      }
      // Columns come in fragments of 8 output channels of one phase.
      return {int64_t{d.quotients} * h.quotients * w.quotients, ceil_div(p.out_channels, 8) * 8 * reached_phases_of(p),
              p.in_channels * reaching(d) * reaching(h) * reaching(w)};
    }
    case Pass::input_grad:
      return {p.in_channels, positions, columns};
    default:
      return {p.in_channels, columns, positions};
  }
}

double time_of(Pass pass, Method method, const ConvTranspose3dParams& p, const Device& device) {
  if (pass == Pass::weight_grad) {
    return fastest_split(method, p, device).time;
  }
  const Tile tile = tile_of(method);
  const Product product = product_of(pass, method, p);
  return time_of_grid(tile, tiles_of(product, tile, p) * p.batch, product.depth, device);
}

SplitK choose_split(Method method, const ConvTranspose3dParams& p, const Device& device) {
  return fastest_split(method, p, device).split;
}

Grid gemm_grid(Pass pass, Method method, const ConvTranspose3dParams& p, int64_t splits) {
  const Product product = product_of(pass, method, p);
  const Tile tile = tile_of(method);
  const int64_t row_tiles = ceil_div(product.rows, tile.m), column_tiles = ceil_div(product.columns, tile.n);
  const int64_t work = row_tiles * tile.m * column_tiles * tile.n * product.depth;
  // Along x lie the tiles that share the larger operand, so that it is read from memory once.
  switch (pass) {
    case Pass::forward:
      return {{column_tiles * kGemmThreads, row_tiles, int64_t{p.batch} * p.groups}, {kGemmThreads, 1, 1}, work};
    case Pass::input_grad:
      return {{row_tiles * kGemmThreads, column_tiles, int64_t{p.batch} * p.groups}, {kGemmThreads, 1, 1}, work};
    default:
      return {
          {row_tiles * kGemmThreads, column_tiles, splits * p.groups}, {kGemmThreads, 1, 1}, work * p.batch / splits};
  }
}

Grid phases_grid(const ConvTranspose3dParams& p, const PhaseTile& t) {
  const int64_t threads = 32 * phase_simdgroups(t),
                boxes = int64_t{t.boxes.d.value} * t.boxes.h.value * t.boxes.w.value;
  const int64_t columns = phase_column_tiles(p), depth = product_of(Pass::forward, Method::phases_gemm, p).depth;
  return {{(t.boxes_first ? boxes : columns) * threads, t.boxes_first ? columns : boxes, int64_t{p.batch} * p.groups},
          {static_cast<uint32_t>(threads), 1, 1},
          boxes * t.rows * columns * 64 * depth};
}

}  // namespace mps_conv_transpose3d
