#include "planner/gemm.h"

#include <algorithm>

#include "planner/integers.h"

namespace mps_conv_transpose3d {
namespace {

// K that is staged at a time.
int bk_of(const Tile& tile) { return block_k(tile.bm, tile.bn); }

// A product, cut into tiles of `rows` rows. Tiles at its edges have less: mean_rows and mean_columns are those of all
// tiles, in whole fragments.
struct Cut {
  Tile tile;
  int rows;
  int64_t row_tiles, column_tiles;
  double mean_rows, mean_columns;

  Cut(const Tile& tile, int rows, const GemmShape& shape)
      : tile(tile),
        rows(rows),
        row_tiles(ceil_div(shape.m, rows)),
        column_tiles(ceil_div(shape.n, tile.bn)),
        mean_rows(static_cast<double>(ceil_div(shape.m, 8) * 8) / static_cast<double>(row_tiles)),
        mean_columns(static_cast<double>(ceil_div(shape.n, 8) * 8) / static_cast<double>(column_tiles)) {}

  int64_t tiles() const { return row_tiles * column_tiles; }
};

// The cycles of a core in which a threadgroup multiplies one step of K. Its 4 simdgroups run side by side.
double cycles_of_step(Pass pass, const Cut& cut, const KernelParams& p) {
  const Tile& tile = cut.tile;
  const int slices = k_slices(tile.bm, tile.bn);
  const double bk = bk_of(tile), simdgroups_m = tile.bm / 32, simdgroups_n = 4 / simdgroups_m / slices;
  const double fragments_m = cut.mean_rows / 8 / simdgroups_m, fragments_n = cut.mean_columns / 8 / simdgroups_n;
  const double slice = bk / 8 / slices, loads = slice * (fragments_m + fragments_n);
  // Cycles for each number that a thread stages, as counted (benchmarks/model.py): 0.8 by vectors of 4, 3.4 by pairs of
  // Y, 7.5 or 11 where it is looked up which taps reach Y.
  const double of_y = p.paired_output ? 3.4 : tile.bn < 64 ? 11 : 7.5;
  const double staging = bk * (cut.rows * 0.8 + tile.bn * (pass == Pass::forward ? 0.8 : of_y)) / int{kGemmThreads};
  // A slot for each load, and 30 cycles for the loop.
  const double arithmetic = slice * kMatrixCycles * fragments_m * fragments_n + loads + staging + 30;
  // Fragments of 256 bytes, of 4 simdgroups, and each number that is staged, read and written.
  const double bytes = 4 * loads * 256 + (cut.rows + tile.bn) * bk * 8;
  // Lines of Y hold more than is read, where a stride leaves gaps.
  const auto gap = [](const Axis& axis) { return std::max(1.0, static_cast<double>(axis.stride) / axis.taps); };
  const double spread = pass == Pass::forward ? 1 : gap(p.width) * (p.width.output < 32 ? gap(p.height) : 1);
  const double lines = (cut.rows + tile.bn * spread) * bk * 4;
  return std::max({arithmetic, bytes / kCore.on_core_bytes, lines / kCore.l2_bytes});
}

constexpr double kCyclesOfAByte = 1 / kMemoryBytes;

// The bytes of float32 operands and result that come from memory. Each tile of a weight gradient reads a part of the
// whole input: once for those that are resident together, unless the cache keeps it.
double bytes_of(Pass pass, const Cut& cut, const KernelParams& p, const Gpu& gpu) {
  const double samples = 4.0 * p.batch * p.groups, weight = 4.0 * p.groups * p.in_channels * p.columns;
  const double input = samples * p.in_channels * p.positions;
  // The rows of Y that a tap reaches.
  const auto reached = [&](const Axis& axis) {
    return axis.output * (pass == Pass::forward ? 1 : std::min(1.0, static_cast<double>(axis.taps) / axis.stride));
  };
  const double output = samples * p.out_channels * reached(p.depth) * reached(p.height) * p.width.output;
  double reads = 1;
  if (pass == Pass::weight_grad && input + output > gpu.cores * kCacheBytes) {
    reads = std::max(1.0, static_cast<double>(cut.tiles()) / static_cast<double>(kResidency.gemm * gpu.cores));
  }
  return input * reads + output + weight;
}

// What does not depend on how K is split.
struct Costs {
  double step;    // cycles
  double memory;  // cycles of a core that would move all bytes
  double around;  // to look up where a tile lies, and to store it

  Costs(Pass pass, const Cut& cut, const KernelParams& p, const Gpu& gpu)
      : step(cycles_of_step(pass, cut, p)),
        memory(kCyclesOfAByte * bytes_of(pass, cut, p, gpu)),
        around(pass == Pass::weight_grad ? 1200 : 560) {}
};

// The cycles of a core for so many threadgroups, each of a sum over k.
double cycles_of_grid(const Cut& cut, const Costs& costs, int64_t threadgroups, int64_t k, const Gpu& gpu) {
  const int64_t on_a_core = threadgroups_on_a_core(threadgroups, kResidency.gemm, gpu);
  const double steps = static_cast<double>(ceil_div(k, bk_of(cut.tile)));
  // Its share of what is read or written once.
  const double memory = costs.memory / static_cast<double>(threadgroups);
  // A threadgroup alone on its core leaves a third of it idle: nothing hides the latency of its arithmetic.
  const double arithmetic = (on_a_core == 1 ? 1.5 : 1) * (steps * costs.step + costs.around);
  // Neither hides all of the other.
  return static_cast<double>(on_a_core) * (std::max(arithmetic, memory) + 0.1 * std::min(arithmetic, memory));
}

// The fastest splits of those that give each core the same number of threadgroups, with about 128 positions or more
// each and partial sums of at most 8 MB. A single split has none.
GemmTiling choose_split(const Cut& cut, const KernelParams& p, const Gpu& gpu) {
  constexpr int64_t kPartialSums = (8 << 20) / sizeof(float), kMostWaves = 4, kLeastLength = 128;
  constexpr double kCyclesOfASum = 8 * kCyclesOfAByte;  // written and read
  const int64_t k = p.batch * positions_of(p), tiles = cut.tiles() * p.groups;
  // Two more rows: a bias gradient's sums, and their errors.
  const int64_t sums = (p.in_channels + 2) * int64_t{p.columns} * p.groups;
  const int64_t most = std::clamp<int64_t>(kPartialSums / sums, 1, ceil_div(k, kLeastLength));
  const Costs costs(Pass::weight_grad, cut, p, gpu);
  GemmTiling best{};
  int64_t last_wanted = 0;
  // Candidates: 1 to `resident` threadgroups a core, then whole waves of those. If the tiles alone fill the GPU, 1 to 7
  // splits.
  const int64_t resident = kResidency.gemm;
  const bool fills_the_gpu = tiles >= resident * gpu.cores;
  for (int64_t i = 0; i <= resident + kMostWaves; ++i) {
    const int64_t on_a_core = i <= resident ? i : (i - resident) * resident;
    const int64_t wanted = std::clamp<int64_t>(fills_the_gpu ? i : on_a_core * gpu.cores / tiles, 1, most);
    if (wanted == last_wanted) {
      continue;
    }
    last_wanted = wanted;
    const SplitK split = make_split(wanted, p.batch, positions_of(p), bk_of(cut.tile));
    double cycles = cycles_of_grid(cut, costs, tiles * split.splits, split.length, gpu);
    if (split.splits > 1) {
      cycles += kDispatchCycles + kCyclesOfASum * static_cast<double>(split.splits * sums) / gpu.cores;
    }
    if (best.rows == 0 || cycles < best.cycles) {
      best = {cut.rows, split, cycles};
    }
  }
  return best;
}

}  // namespace

// Lower tiles than need be may fall more evenly on the cores. A weight gradient, whose splits see to that, is cut into
// no more tiles than must be.
GemmTiling choose_gemm_tiling(Pass pass, const Algorithm& algorithm, const KernelParams& p, const Gpu& gpu) {
  const GemmShape shape = gemm_shape(pass, algorithm.family, p);
  const int unit = tile_rows_unit(algorithm.tile.bm);
  const auto lowest = [&](int64_t tiles) { return static_cast<int>(ceil_div(ceil_div(shape.m, tiles), unit)) * unit; };
  const int highest = lowest(ceil_div(shape.m, algorithm.tile.bm));
  if (pass == Pass::weight_grad) {
    return choose_split(Cut(algorithm.tile, highest, shape), p, gpu);
  }
  GemmTiling best{};
  for (int rows = highest; rows > 0; rows -= unit) {
    const Cut cut(algorithm.tile, rows, shape);
    const Costs costs(pass, cut, p, gpu);
    const double cycles = cycles_of_grid(cut, costs, cut.tiles() * p.groups * p.batch, shape.k, gpu);
    if (best.rows == 0 || cycles < best.cycles) {
      best = {rows, {}, cycles};
    }
  }
  return best;
}

Grid gemm_grid(Pass pass, const Algorithm& algorithm, const KernelParams& p, const GemmTiling& tiling) {
  const GemmShape shape = gemm_shape(pass, algorithm.family, p);
  const Cut cut(algorithm.tile, tiling.rows, shape);
  const int64_t splits = tiling.split_k.splits, work = cut.tiles() * cut.rows * cut.tile.bn * shape.k;
  // Along x lie the tiles that share the larger operand, so that it is read from memory once.
  switch (pass) {
    case Pass::forward:
      return {
          {cut.column_tiles * kGemmThreads, cut.row_tiles, int64_t{p.batch} * p.groups}, {kGemmThreads, 1, 1}, work};
    case Pass::input_grad:
      return {
          {cut.row_tiles * kGemmThreads, cut.column_tiles, int64_t{p.batch} * p.groups}, {kGemmThreads, 1, 1}, work};
    default:
      return {{cut.row_tiles * kGemmThreads, cut.column_tiles, splits * p.groups},
              {kGemmThreads, 1, 1},
              work * p.batch / splits};
  }
}

Grid reduce_k_splits_grid(const KernelParams& p, const SplitK& split_k, bool with_bias, const Gpu& gpu) {
  // A threadgroup has so many elements of the weight, or a channel of the bias for each simdgroup. A core gets as many
  // threadgroups as any other, of the weight no more than 4, which go on to further elements.
  constexpr int64_t kElements = int64_t{kSumElements} * kThreads, kOnACore = 4;
  const int64_t of_bias = with_bias ? ceil_div(int64_t{p.groups} * p.out_channels, kMaxSimdgroups) : 0;
  const int64_t elements = split_k.splits > 1 ? int64_t{p.groups} * p.in_channels * p.columns : 0;
  const int64_t of_weight = std::min(ceil_div(elements, kElements), kOnACore * gpu.cores);
  int64_t threadgroups = of_bias + of_weight;
  if (of_weight > 0) {
    threadgroups = ceil_div(threadgroups, gpu.cores) * gpu.cores;
  }
  return {{threadgroups * kThreads, 1, 1}, {kThreads, 1, 1}, elements * split_k.splits};
}

}  // namespace mps_conv_transpose3d
