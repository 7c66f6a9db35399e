#include "gemm_grid.h"

#include <algorithm>

#include "integers.h"
#include "phase_tile.h"
#include "scalar_grid.h"

namespace mps_conv_transpose3d {
namespace {

// Threadgroups for which a core has registers, by benchmarks/model.py: some 110 words for each of 128 threads.
constexpr int64_t kResident = 3;

// Up to M rows and N columns.
struct Tile {
  int m, n;

  int slices() const { return k_slices(m, n); }
  int depth() const { return block_k(m, n); }
};

constexpr Tile tile_of(Method method) {
  switch (method) {
    case Method::tiled_gemm_bm64_bn128:
      return {64, 128};
    case Method::gemm_bm32_bn64:
    case Method::tiled_gemm_bm32_bn64:
      return {32, 64};
    case Method::gemm_bm32_bn32:
    case Method::tiled_gemm_bm32_bn32:
      return {32, 32};
    default:
      return {64, 64};
  }
}

// A product, cut into tiles of `rows` rows. What lies at its edges may be less: on average a tile has mean_rows and
// mean_columns, in whole fragments.
struct Cut {
  Tile tile;
  int rows;
  int64_t row_tiles, column_tiles;
  double mean_rows, mean_columns;

  Cut(const Tile& tile, int rows, const Product& product)
      : tile(tile),
        rows(rows),
        row_tiles(ceil_div(product.rows, rows)),
        column_tiles(ceil_div(product.columns, tile.n)),
        mean_rows(static_cast<double>(ceil_div(product.rows, 8) * 8) / static_cast<double>(row_tiles)),
        mean_columns(static_cast<double>(ceil_div(product.columns, 8) * 8) / static_cast<double>(column_tiles)) {}

  int64_t tiles() const { return row_tiles * column_tiles; }
};

// Cycles of a core in which a threadgroup multiplies what is staged at a time. Its 4 simdgroups run side by side, and
// each bound is one of benchmarks/model.py.
double cycles_of_step(Pass pass, const Cut& cut, const KernelParams& p) {
  const Tile& tile = cut.tile;
  const double depth = tile.depth(), simdgroups_m = tile.m / 32, simdgroups_n = 4 / simdgroups_m / tile.slices();
  const double fragments_m = cut.mean_rows / 8 / simdgroups_m, fragments_n = cut.mean_columns / 8 / simdgroups_n;
  const double slice = depth / 8 / tile.slices(), loads = slice * (fragments_m + fragments_n);
  // For each number that a thread stages, so many cycles: of vectors of 4, of pairs of Y, or of Y where it is looked up
  // which taps reach it. (Counted: benchmarks/model.py.)
  const double of_y = p.paired_output ? 3.4 : tile.n < 64 ? 11 : 7.5;
  const double staging = depth * (cut.rows * 0.8 + tile.n * (pass == Pass::forward ? 0.8 : of_y)) / int{kGemmThreads};
  // 16 multiply-adds of a thread at 80 % of peak for a product of two fragments, a slot for each load, and the loop.
  const double arithmetic = slice * 20 * fragments_m * fragments_n + loads + staging + 30;
  // 64 bytes a cycle: fragments of 256, of 4 simdgroups, and each number that is staged, read and written.
  const double bytes = 4 * loads * 256 + (cut.rows + tile.n) * depth * 8;
  // 32 bytes a cycle of the lines of 128 that are touched: of Y more than is read, where a stride leaves gaps.
  const auto gap = [](const Axis& axis) { return std::max(1.0, static_cast<double>(axis.stride) / axis.taps); };
  const double spread = pass == Pass::forward ? 1 : gap(p.width) * (p.width.output < 32 ? gap(p.height) : 1);
  const double lines = (cut.rows + tile.n * spread) * depth * 4;
  return std::max({arithmetic, bytes / 64, lines / 32});
}

// A core's share of the memory's bandwidth is some 7.2 bytes a cycle.
constexpr double kCyclesOfAByte = 1 / 7.2;

// Of float32 operands and result, as they come from memory. Each tile of a weight gradient reads a part of the whole
// input: once for those that are resident together, unless the cache keeps it (some 1 MB for each core).
double bytes_of(Pass pass, const Cut& cut, const KernelParams& p, const Device& device) {
  const double samples = 4.0 * p.batch * p.groups, weight = 4.0 * p.groups * p.in_channels * p.columns;
  const double input = samples * p.in_channels * p.positions;
  // Of Y the rows that a tap reaches.
  const auto reached = [&](const Axis& axis) {
    return axis.output * (pass == Pass::forward ? 1 : std::min(1.0, static_cast<double>(axis.taps) / axis.stride));
  };
  const double output = samples * p.out_channels * reached(p.depth) * reached(p.height) * p.width.output;
  double reads = 1;
  if (pass == Pass::weight_grad && input + output > device.cores * 1e6) {
    reads = std::max(1.0, static_cast<double>(cut.tiles()) / static_cast<double>(kResident * device.cores));
  }
  return input * reads + output + weight;
}

// What does not depend on how the depth is split.
struct Costs {
  double step;    // cycles
  double memory;  // cycles of a core that would move all bytes
  double around;  // to look up where a tile lies, and to store it

  Costs(Pass pass, const Cut& cut, const KernelParams& p, const Device& device)
      : step(cycles_of_step(pass, cut, p)),
        memory(kCyclesOfAByte * bytes_of(pass, cut, p, device)),
        around(pass == Pass::weight_grad ? 1200 : 560) {}
};

// Of so many threadgroups, each of a sum of `depth`.
double cycles_of_grid(const Cut& cut, const Costs& costs, int64_t threadgroups, int64_t depth, const Device& device) {
  const int64_t on_a_core = threadgroups_on_a_core(threadgroups, kResident, device.cores);
  const double steps = static_cast<double>(ceil_div(depth, cut.tile.depth()));
  // Its share of what is read or written once.
  const double memory = costs.memory / static_cast<double>(threadgroups);
  // A threadgroup alone on its core leaves a third of it idle: nothing hides the latency of its arithmetic.
  const double arithmetic = (on_a_core == 1 ? 1.5 : 1) * (steps * costs.step + costs.around);
  // Neither hides all of the other.
  return static_cast<double>(on_a_core) * (std::max(arithmetic, memory) + 0.1 * std::min(arithmetic, memory));
}

// The fastest splits of those that give each core the same number of threadgroups, with about 128 positions or more
// each and partial sums of at most 8 MB. A single split has none.
Tiling choose_split(const Cut& cut, const KernelParams& p, const Device& device) {
  constexpr int64_t kPartialSums = (8 << 20) / sizeof(float), kMostWaves = 4, kLeastLength = 128;
  constexpr double kCyclesOfASum = 8 * kCyclesOfAByte;  // written and read
  // And a dispatch that waits for another starts some 2 us after it.
  constexpr double kCyclesOfADispatch = 2600;
  const int64_t depth = p.batch * positions_of(p), tiles = cut.tiles() * p.groups;
  // Two more rows: a bias gradient's sums, and what rounding took from them.
  const int64_t sums = (p.in_channels + 2) * int64_t{p.columns} * p.groups;
  const int64_t most = std::clamp<int64_t>(kPartialSums / sums, 1, ceil_div(depth, kLeastLength));
  const Costs costs(Pass::weight_grad, cut, p, device);
  Tiling best{};
  int64_t last_wanted = 0;
  // As many as are resident on a core and fewer, then whole waves of those; of a product that makes waves by itself a
  // few splits, which may make their number whole.
  const bool makes_waves = tiles >= kResident * device.cores;
  for (int64_t i = 0; i <= kResident + kMostWaves; ++i) {
    const int64_t on_a_core = i <= kResident ? i : (i - kResident) * kResident;
    const int64_t wanted = std::clamp<int64_t>(makes_waves ? i : on_a_core * device.cores / tiles, 1, most);
    if (wanted == last_wanted) {
      continue;
    }
    last_wanted = wanted;
    const SplitK split = make_split(wanted, p.batch, positions_of(p), cut.tile.depth());
    double time = cycles_of_grid(cut, costs, tiles * split.splits, split.length, device);
    if (split.splits > 1) {
      time += kCyclesOfADispatch + kCyclesOfASum * static_cast<double>(split.splits * sums) / device.cores;
    }
    if (best.rows == 0 || time < best.time) {
      best = {cut.rows, split, time};
    }
  }
  return best;
}

}  // namespace

bool is_polyphase(Method method) { return method == Method::polyphase_gemm || method == Method::polyphase_gemm_k3s2; }

bool is_tiled(Method method) {
  return method == Method::tiled_gemm_bm64_bn128 || method == Method::tiled_gemm_bm64_bn64 ||
         method == Method::tiled_gemm_bm32_bn64 || method == Method::tiled_gemm_bm32_bn32;
}

Product product_of(Pass pass, Method method, const KernelParams& p) {
  const int64_t positions = positions_of(p), columns = p.out_channels * taps_of(p);
  const Axis &d = p.depth, &h = p.height, &w = p.width;
  const auto reaching = [](const Axis& axis) { return ceil_div(axis.taps, axis.tap_step); };
  switch (pass) {
    case Pass::forward: {
      if (is_tiled(method)) {
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

// Lower tiles than need be may fall more evenly on the cores. A weight gradient, whose splits see to that, is cut into
// no more tiles than must be.
Tiling choose_tiling(Pass pass, Method method, const KernelParams& p, const Device& device) {
  const Tile tile = tile_of(method);
  const Product product = product_of(pass, method, p);
  const int unit = tile_rows_unit(tile.m);
  const auto lowest = [&](int64_t tiles) {
    return static_cast<int>(ceil_div(ceil_div(product.rows, tiles), unit)) * unit;
  };
  const int highest = lowest(ceil_div(product.rows, tile.m));
  if (pass == Pass::weight_grad) {
    return choose_split(Cut(tile, highest, product), p, device);
  }
  Tiling best{};
  for (int rows = highest; rows > 0; rows -= unit) {
    const Cut cut(tile, rows, product);
    const Costs costs(pass, cut, p, device);
    const double time = cycles_of_grid(cut, costs, cut.tiles() * p.groups * p.batch, product.depth, device);
    if (best.rows == 0 || time < best.time) {
      best = {rows, {}, time};
    }
  }
  return best;
}

Grid gemm_grid(Pass pass, Method method, const KernelParams& p, const Tiling& tiling) {
  const Product product = product_of(pass, method, p);
  const Cut cut(tile_of(method), tiling.rows, product);
  const int64_t row_tiles = cut.row_tiles, column_tiles = cut.column_tiles;
  const int64_t work = cut.tiles() * cut.rows * cut.tile.n * product.depth;
  // Along x lie the tiles that share the larger operand, so that it is read from memory once.
  switch (pass) {
    case Pass::forward:
      return {{column_tiles * kGemmThreads, row_tiles, int64_t{p.batch} * p.groups}, {kGemmThreads, 1, 1}, work};
    case Pass::input_grad:
      return {{row_tiles * kGemmThreads, column_tiles, int64_t{p.batch} * p.groups}, {kGemmThreads, 1, 1}, work};
    default: {
      const int64_t splits = tiling.split_k.splits;
      return {
          {row_tiles * kGemmThreads, column_tiles, splits * p.groups}, {kGemmThreads, 1, 1}, work * p.batch / splits};
    }
  }
}

Grid phases_grid(const KernelParams& p, const PolyphaseTile& t) {
  const int64_t threads = 32 * phase_simdgroups(t),
                boxes = int64_t{t.boxes.d.value} * t.boxes.h.value * t.boxes.w.value;
  const int64_t columns = phase_column_tiles(p), depth = product_of(Pass::forward, Method::polyphase_gemm, p).depth;
  return {{(t.boxes_first ? boxes : columns) * threads, t.boxes_first ? columns : boxes, int64_t{p.batch} * p.groups},
          {static_cast<uint32_t>(threads), 1, 1},
          boxes * t.rows * columns * 64 * depth};
}

Grid sum_splits_grid(const KernelParams& p, const SplitK& split_k, bool with_bias, const Device& device) {
  // A threadgroup has so many elements of the weight, or a channel of the bias for each simdgroup. A core gets as many
  // threadgroups as any other, of the weight no more than 4, which go on to further elements.
  constexpr int64_t kElements = int64_t{kSumElements} * kThreads, kOnACore = 4;
  const int64_t of_bias = with_bias ? ceil_div(int64_t{p.groups} * p.out_channels, kMaxSimdgroups) : 0;
  const int64_t elements = split_k.splits > 1 ? int64_t{p.groups} * p.in_channels * p.columns : 0;
  const int64_t of_weight = std::min(ceil_div(elements, kElements), kOnACore * device.cores);
  int64_t threadgroups = of_bias + of_weight;
  if (of_weight > 0) {
    threadgroups = ceil_div(threadgroups, device.cores) * device.cores;
  }
  return {{threadgroups * kThreads, 1, 1}, {kThreads, 1, 1}, elements * split_k.splits};
}

}  // namespace mps_conv_transpose3d
