#include "plan.h"

#include <algorithm>
#include <limits>
#include <numeric>
#include <sstream>

#include "divisor.h"
#include "phase_tile.h"

namespace mps_conv_transpose3d {
namespace {

// Multiply-adds of one dispatch. One thread per output reaches about 0.4 % of an M1's 1.3 T/s, so this is some 0.1 s:
// macOS kills a command buffer that keeps the display's GPU for seconds.
constexpr int64_t kMaxDirectWork = int64_t{1} << 29;
// A narrow kernel is some 10 times as fast, a matrix kernel 100 times.
constexpr int64_t kMaxNarrowWork = int64_t{1} << 32;
constexpr int64_t kMaxGemmWork = int64_t{1} << 36;

constexpr uint32_t kThreads = 32 * kMaxSimdgroups;  // of a direct kernel's threadgroup

constexpr int64_t kMaxInt = std::numeric_limits<int32_t>::max();

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
int64_t floor_div(int64_t a, int64_t b) { return a >= 0 ? a / b : -ceil_div(-a, b); }

int64_t product(const std::array<int64_t, 3>& a) { return a[0] * a[1] * a[2]; }

bool fits(int64_t value) { return -kMaxInt <= value && value <= kMaxInt; }

uint32_t power_of_two_at_least(int64_t n, uint32_t limit) {
  uint32_t power = 1;
  while (power < n && power < limit) {
    power *= 2;
  }
  return power;
}

Axis make_axis(const Geometry& g, size_t i) {
  const int64_t common = std::gcd(g.stride[i], g.dilation[i]);
  const auto narrow = [](int64_t value) { return static_cast<int>(value); };
  // Tap k carries input q + shift to outputs q * stride + phase, where 0 <= phase < stride.
  const auto shift = [&](int64_t k) {
    return floor_div(g.padding[i] - k * g.dilation[i] + g.stride[i] - 1, g.stride[i]);
  };
  const int64_t output = g.output()[i], first_shift = shift(g.kernel[i] - 1);
  return {narrow(g.input[i]),
          narrow(output),
          narrow(g.kernel[i]),
          narrow(g.stride[i]),
          narrow(g.padding[i]),
          narrow(g.dilation[i]),
          narrow(g.stride[i] / common),
          narrow(g.dilation[i] / common),
          narrow(ceil_div(output, g.stride[i])),
          narrow(first_shift),
          narrow(shift(0) - first_shift + 1)};
}

// Each element of the output meets exactly one input position and tap.
bool tiles_the_output(const ConvTranspose3dParams& p) {
  const auto tiles = [](const Axis& axis) {
    return axis.taps == axis.stride && axis.padding == 0 && (axis.dilation == 1 || axis.taps == 1) &&
           axis.output == axis.input * axis.stride;
  };
  return tiles(p.depth) && tiles(p.height) && tiles(p.width);
}

// The `stride` taps from `padding` on, of each axis, carry to each element of the output exactly one input position.
bool tiles_the_output_by_some_taps(const ConvTranspose3dParams& p) {
  const auto tiles = [](const Axis& axis) {
    return axis.taps >= axis.padding + axis.stride && (axis.dilation == 1 || axis.taps == 1) &&
           axis.output == axis.input * axis.stride;
  };
  return tiles(p.depth) && tiles(p.height) && tiles(p.width);
}

Strides make_strides(const Strides5& s) {
  // One that does not fit belongs to an axis of one element, where any will do.
  const auto narrow = [](int64_t stride) { return fits(stride) ? static_cast<int>(stride) : 0; };
  return {static_cast<long>(s[0]), static_cast<long>(s[1]), narrow(s[2]), narrow(s[3]), narrow(s[4])};
}

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

// A grid in threads, and the multiply-adds of one step along z.
struct Grid {
  std::array<int64_t, 3> threads;
  std::array<uint32_t, 3> threads_per_threadgroup;
  int64_t work_per_z;
};

int64_t taps_of(const ConvTranspose3dParams& p) { return int64_t{p.depth.taps} * p.height.taps * p.width.taps; }
int64_t positions_of(const ConvTranspose3dParams& p) { return int64_t{p.depth.input} * p.height.input * p.width.input; }

// Parts of a sum, each of `threadgroups` threadgroups, of no fewer than 8 positions a thread. So many that a part's
// data stay in the cache for all that read them, about 1824 threadgroups (8 rounds of those that are resident on 38
// cores), and such that each core gets the same number. More than 114 parts, which 2 channels need to fill 38 cores,
// would be long to add up.
SplitK choose_parts(int64_t threadgroups, int64_t rows, int64_t row_length, int64_t batch, const Device& device) {
  constexpr int64_t kThreadgroups = 1824, kResident = 6, kMostParts = 114, kLeastPositions = 8 * kThreads;
  const int64_t at_once = kResident * device.cores;
  const int64_t most_rounds = ceil_div(std::min(kThreadgroups, kMostParts * threadgroups), at_once);
  int64_t wanted = 1;
  double best_time = 0;
  for (int64_t rounds = most_rounds; rounds > std::max<int64_t>(most_rounds - 8, 0); --rounds) {
    const int64_t parts = std::clamp<int64_t>(rounds * at_once / threadgroups, 1, kMostParts);
    const int64_t all = parts * threadgroups;
    const int64_t on_a_core = all > at_once ? ceil_div(all, at_once) * kResident : ceil_div(all, device.cores);
    const double time = static_cast<double>(on_a_core) / static_cast<double>(parts);
    if (rounds == most_rounds || time < best_time) {
      wanted = parts;
      best_time = time;
    }
  }
  const int64_t chunks = std::clamp<int64_t>(wanted / batch, 1, ceil_div(rows * row_length, kLeastPositions));
  const int64_t length = ceil_div(rows, chunks);
  SplitK split{};
  split.chunks = static_cast<int>(ceil_div(rows, length));
  split.length = static_cast<int>(length);
  split.samples = static_cast<int>(split.chunks > 1 ? 1 : ceil_div(batch, wanted));
  split.splits = static_cast<int>(split.chunks * ceil_div(batch, split.samples));
  return split;
}

SplitK choose_parts(Pass pass, Method method, const ConvTranspose3dParams& p, const Device& device) {
  const int64_t outputs = int64_t{p.groups} * p.out_channels, pairs = outputs * p.in_channels;
  if (pass == Pass::bias_grad) {
    return choose_parts(outputs, int64_t{p.depth.output} * p.height.output * p.width.output, 1, p.batch, device);
  }
  return choose_parts(method == Method::narrow ? pairs : pairs * taps_of(p), int64_t{p.depth.input} * p.height.input,
                      p.width.input, p.batch, device);
}

Grid direct_grid(Pass pass, const ConvTranspose3dParams& p, int64_t parts) {
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

Grid narrow_grid(Pass pass, const ConvTranspose3dParams& p, int64_t parts) {
  const Axis &d = p.depth, &h = p.height, &w = p.width;
  const int64_t inputs = int64_t{p.groups} * p.in_channels, outputs = int64_t{p.groups} * p.out_channels;
  const int64_t taps = taps_of(p);
  switch (pass) {
    case Pass::forward:
      return {{w.quotients, h.quotients, p.batch * outputs * ceil_div(d.quotients, kNarrowRun)},
              threadgroup_of_elements(w.quotients, h.quotients),
              int64_t{w.quotients} * h.quotients * kNarrowRun * p.in_channels * taps};
    case Pass::input_grad:
      return {{w.input, h.input, p.batch * inputs * ceil_div(d.input, kNarrowRun)},
              threadgroup_of_elements(w.input, h.input),
              int64_t{w.input} * h.input * kNarrowRun * p.out_channels * taps};
    default: {
      const auto threads = threadgroup_of_a_sum(w.input, int64_t{d.input} * h.input);
      const int64_t pairs = inputs * p.out_channels;
      return {
          {pairs * threads[0], threads[1], parts}, threads, ceil_div(pairs * taps * p.batch * positions_of(p), parts)};
    }
  }
}

// M rows and N columns.
// `speed`: a core moves 64 bytes of on-core data a cycle and multiplies, at 80 % of its peak, 102 times: 0.625 bytes a
// product. In float32 a product costs 4 bytes times: 1/8 of (1/N' + 1/M') for fragments of a simdgroup's M' x N', and
// twice (1/M + 1/N) for what is staged. 64x128 needs 0.38 bytes, 32x128 0.63, 64x64 0.50, 48x64 0.58, 32x64 0.75 and
// 16x64 1.13.
// `resident`: threadgroups for which a core has registers and threadgroup memory, by benchmarks/model.py.
struct Tile {
  int64_t m, n;
  double speed;
  int64_t resident;
};

constexpr Tile tile_of(Method method) {
  switch (method) {
    case Method::one_tap_gemm_64x128:
      return {64, 128, 1, 3};
    case Method::gemm_48x64:
      return {48, 64, 0.99, 5};
    case Method::gemm_32x64:
    case Method::one_tap_gemm_32x64:
      return {32, 64, 0.83, 6};
    case Method::gemm_16x64:
      return {16, 64, 0.55, 8};
    default:
      return {64, 64, 1, 4};
  }
}

// Kernel 3, stride 2, padding 1.
bool is_k3s2(const ConvTranspose3dParams& p) {
  const auto is = [](const Axis& axis) {
    return axis.taps == 3 && axis.stride == 2 && axis.padding == 1 && axis.dilation == 1;
  };
  return is(p.depth) && is(p.height) && is(p.width);
}

bool is_phases(Method method) { return method == Method::phases_gemm || method == Method::k3s2_gemm; }

bool is_one_tap(Method method) {
  return method == Method::one_tap_gemm_64x128 || method == Method::one_tap_gemm_64x64 ||
         method == Method::one_tap_gemm_32x64;
}

// The matrix product of a pass: rows x columns, each a sum over `depth`.
struct Product {
  int64_t rows, columns, depth;
};

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
      const int64_t phases = int64_t{d.stride} * h.stride * w.stride;
      return {int64_t{d.quotients} * h.quotients * w.quotients, ceil_div(p.out_channels, 8) * 8 * phases,
              p.in_channels * reaching(d) * reaching(h) * reaching(w)};
    }
    case Pass::input_grad:
      return {p.in_channels, positions, columns};
    default:
      return {p.in_channels, columns, positions};
  }
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

// The time of a grid in multiply-adds of a core. The last threadgroups to begin take as long as any, and one alone on
// its core leaves a third of it idle: nothing hides the latency of its arithmetic.
double time_of_grid(const Tile& tile, int64_t threadgroups, int64_t depth, const Device& device) {
  const int64_t at_once = tile.resident * device.cores;
  const int64_t rounds =
      threadgroups > at_once ? ceil_div(threadgroups, at_once) * tile.resident : ceil_div(threadgroups, device.cores);
  return std::max(1.5, static_cast<double>(rounds)) * static_cast<double>(tile.m * tile.n * depth) / tile.speed;
}

int64_t tiles_of(const Product& product, const Tile& tile, const ConvTranspose3dParams& p) {
  return ceil_div(product.rows, tile.m) * ceil_div(product.columns, tile.n) * p.groups;
}

// About `wanted` splits, and no more, each over no fewer than 8 tiles of depth.
SplitK make_split(int64_t wanted, int64_t depth, int64_t batch) {
  const int64_t chunks = std::clamp<int64_t>(wanted / batch, 1, ceil_div(depth, 8 * kGemmDepth));
  const int64_t length = ceil_div(ceil_div(depth, chunks), kGemmDepth) * kGemmDepth;
  SplitK split{};
  split.chunks = static_cast<int>(ceil_div(depth, length));
  split.length = static_cast<int>(length);
  split.samples = static_cast<int>(split.chunks > 1 ? 1 : ceil_div(batch, wanted));
  split.splits = static_cast<int>(split.chunks * ceil_div(batch, split.samples));
  return split;
}

// A weight gradient's splits, and their time in multiply-adds of one core.
struct TimedSplit {
  SplitK split;
  double time;
};

// The fastest of those that give each core the same number of threadgroups, with partial sums of at most 8 MB. A single
// split has none.
TimedSplit choose_split(Method method, const ConvTranspose3dParams& p, const Device& device) {
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
  const int64_t most = std::max<int64_t>(kPartialSums / sums, 1);
  TimedSplit best{};
  // Up to as many as are resident, then in whole waves of those.
  for (int64_t on_a_core = 0; on_a_core <= kMostWaves * tile.resident;
       on_a_core += on_a_core < tile.resident ? 1 : tile.resident) {
    const int64_t wanted = std::clamp<int64_t>(on_a_core * device.cores / tiles, 1, most);
    if (wanted == best.split.splits) {
      continue;
    }
    const SplitK split = make_split(wanted, product.depth, p.batch);
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

// Whether the matrix kernels' offsets, within one sample and group, fit 32 bits.
bool offsets_fit(int64_t channels, const std::array<int64_t, 3>& spatial, const Strides& s) {
  return fits((channels - 1) * s.channel + (spatial[0] - 1) * s.depth + (spatial[1] - 1) * s.height +
              (spatial[2] - 1) * s.width);
}

// Kernels of 3x3x3; the forward pass's know where a stride of 2 and an odd padding put each tap.
bool narrow_can(Pass pass, const ConvTranspose3dParams& p) {
  const auto can = [&](const Axis& axis) {
    const bool doubles = axis.stride == 2 && axis.padding % 2 == 1 && axis.dilation == 1;
    return axis.taps == 3 && (pass != Pass::forward || doubles);
  };
  // The largest coordinates that are computed for what lies outside of a tensor.
  const auto reach = [](const Axis& axis) {
    return int64_t{axis.output} + axis.taps * axis.dilation + axis.padding + kNarrowRun * axis.stride;
  };
  const Axis &d = p.depth, &h = p.height, &w = p.width;
  return pass != Pass::bias_grad && can(d) && can(h) && can(w) &&
         offsets_fit(1, {d.input + reach(d), h.input + reach(h), w.input + reach(w)}, p.input) &&
         offsets_fit(1, {2 * reach(d), 2 * reach(h), 2 * reach(w)}, p.output);
}

bool can(Pass pass, Method method, const ConvTranspose3dParams& p) {
  switch (method) {
    case Method::direct:
      return true;
    case Method::narrow:
      return narrow_can(pass, p);
    case Method::sum_parts:
    case Method::sum_splits:
      return false;
    default:
      break;
  }
  const Axis &d = p.depth, &h = p.height, &w = p.width;
  const Product product = product_of(pass, method, p);
  // The largest coordinates, and so offsets, that are computed for what lies outside of a tensor.
  const auto reach = [](const Axis& axis) { return int64_t{axis.output} + axis.taps * axis.dilation + axis.padding; };
  if (pass == Pass::bias_grad || !fits(product.rows + 128) || !fits(product.columns + 128) ||
      !offsets_fit(p.in_channels, {d.input + reach(d), h.input + reach(h), w.input + reach(w)}, p.input) ||
      !offsets_fit(p.out_channels, {2 * reach(d), 2 * reach(h), 2 * reach(w)}, p.output)) {
    return false;
  }
  // Without running totals a sum is as exact as PyTorch's on the CPU, which sums the channels of each tap apart, only
  // where it is no longer than this.
  constexpr int64_t kMaxPlainSum = 512;
  if (is_one_tap(method)) {
    return pass == Pass::forward && tiles_the_output(p) &&
           (method != Method::one_tap_gemm_64x128 || p.in_channels <= kMaxPlainSum);
  }
  // The sets of taps (forward: of shifts) of the three axes together fit the bits of one word, as they do for a kernel
  // of 10 x 10 x 10.
  const int64_t bits =
      pass == Pass::forward ? int64_t{d.shifts} + h.shifts + w.shifts : int64_t{d.taps} + h.taps + w.taps;
  return bits <= kMaxReachBits && is_phases(method) == (pass == Pass::forward) &&
         (method != Method::k3s2_gemm || is_k3s2(p));
}

// Whether the product is wide enough for matrices: narrower ones leave most of a tile idle. The columns of the forward
// pass by phases are 8 output channels wide.
bool is_wide(Pass pass, Method method, const ConvTranspose3dParams& p) {
  const Product product = product_of(pass, method, p);
  return p.in_channels >= 8 && product.columns >= 16 && product.depth >= 8 &&
         (pass != Pass::forward || product.rows >= 16) &&
         (pass != Pass::forward || is_one_tap(method) || p.out_channels >= 6);
}

// Each element of the output is that of one input and the tap that reaches it, below the stride but for the last input.
bool reaches_the_output(const ConvTranspose3dParams& p) {
  const auto reaches = [](const Axis& axis) {
    return axis.dilation == 1 && axis.taps >= axis.stride &&
           (int64_t{axis.input} - 1) * axis.stride + axis.taps - axis.padding >= axis.output;
  };
  return reaches(p.depth) && reaches(p.height) && reaches(p.width);
}

bool is_scalar(Method method) { return method == Method::direct || method == Method::narrow; }

Method choose_method(Pass pass, const ConvTranspose3dParams& p, const Device& device) {
  const auto suits = [&](Method method) { return can(pass, method, p) && is_wide(pass, method, p); };
  const Method scalar = narrow_can(pass, p) ? Method::narrow : Method::direct;
  const auto time = [&](Method method) {
    if (pass == Pass::weight_grad) {
      return choose_split(method, p, device).time;
    }
    const Tile tile = tile_of(method);
    const Product product = product_of(pass, method, p);
    return time_of_grid(tile, tiles_of(product, tile, p) * p.batch, product.depth, device);
  };
  Method best = scalar;
  double best_time = 0;
  for (size_t i = 0; i < kMethods; ++i) {
    const auto method = static_cast<Method>(i);
    if (is_scalar(method) || is_phases(method) || !suits(method)) {
      continue;
    }
    const double method_time = time(method);
    if (best == scalar || method_time < best_time) {
      best = method;
      best_time = method_time;
    }
  }
  // Any forward pass, and so the second choice.
  if (best == scalar) {
    for (const Method method : {Method::phases_gemm, Method::k3s2_gemm}) {
      best = suits(method) ? method : best;
    }
  }
  return best;
}

Step make_step(const Kernel& kernel, const Grid& grid) {
  const auto narrow = [](int64_t n) { return static_cast<uint32_t>(n); };
  const int64_t max_work = kernel.method == Method::direct   ? kMaxDirectWork
                           : kernel.method == Method::narrow ? kMaxNarrowWork
                                                             : kMaxGemmWork;
  const int64_t slice = std::clamp(max_work / std::max<int64_t>(grid.work_per_z, 1), int64_t{1}, grid.threads[2]);
  return {kernel,
          {narrow(grid.threads[0]), narrow(grid.threads[1]), narrow(grid.threads[2])},
          grid.threads_per_threadgroup,
          narrow(slice),
          0};
}

const char* name_of(Pass pass) {
  constexpr const char* names[] = {"forward", "input_grad", "weight_grad", "bias_grad"};
  return names[static_cast<size_t>(pass)];
}

const char* name_of(DataType dtype) {
  constexpr const char* names[] = {"float", "half", "bfloat"};
  return names[static_cast<size_t>(dtype)];
}

}  // namespace

std::array<int64_t, 3> Geometry::output() const {
  std::array<int64_t, 3> size{};
  for (size_t i = 0; i < 3; ++i) {
    size[i] = (input[i] - 1) * stride[i] - 2 * padding[i] + dilation[i] * (kernel[i] - 1) + output_padding[i] + 1;
  }
  return size;
}

// The M1 has 8 cores, later chips 10; a Pro, Max or Ultra 2, 4 or 8 times as many, to within a tenth. The cheapest of
// each kind has up to a quarter fewer. A Mac with another GPU (virtual, or a phone's) has no more than the smallest.
Device device_named(const std::string& name) {
  const auto says = [&](const char* words) { return name.find(words) != std::string::npos; };
  if (!says("Apple M")) {
    return {10};
  }
  const int least = name == "Apple M1" || says("Apple M1 ") ? 8 : 10;
  return {least * (says(" Ultra") ? 8 : says(" Max") ? 4 : says(" Pro") ? 2 : 1)};
}

Strides5 contiguous_strides(int64_t channels, const std::array<int64_t, 3>& spatial) {
  return {channels * product(spatial), product(spatial), spatial[1] * spatial[2], spatial[2], 1};
}

bool spatial_offsets_fit(const std::array<int64_t, 3>& spatial, const Strides5& strides) {
  int64_t last = 0;
  for (size_t i = 0; i < 3; ++i) {
    last += (spatial[i] - 1) * strides[i + 2];
    if ((spatial[i] > 1 && !fits(strides[i + 2])) || !fits(spatial[i]) || !fits(last)) {
      return false;
    }
  }
  return true;
}

std::optional<ConvTranspose3dParams> make_params(const Geometry& g, const Strides5& input, const Strides5& output) {
  bool fit = spatial_offsets_fit(g.input, input) && spatial_offsets_fit(g.output(), output);
  for (size_t i = 0; i < 3; ++i) {
    // The largest coordinates that a kernel computes on its way.
    fit = fit && fits(g.input[i] * g.stride[i]) && fits(g.kernel[i] * g.dilation[i]) &&
          fits(g.output()[i] + g.padding[i] + g.kernel[i] * g.dilation[i]) && fits(g.stride[i] * g.dilation[i]);
  }
  const int64_t weights = g.in_channels * (g.out_channels / g.groups) * product(g.kernel);
  fit = fit && fits(g.batch) && fits(g.in_channels) && fits(g.out_channels) && fits(weights) &&
        fits(g.batch * g.in_channels * g.input[0]) && fits(g.batch * g.out_channels * g.output()[0]);
  if (!fit) {
    return std::nullopt;
  }
  ConvTranspose3dParams params{};
  params.depth = make_axis(g, 0);
  params.height = make_axis(g, 1);
  params.width = make_axis(g, 2);
  params.batch = static_cast<int>(g.batch);
  params.groups = static_cast<int>(g.groups);
  params.in_channels = static_cast<int>(g.in_channels / g.groups);
  params.out_channels = static_cast<int>(g.out_channels / g.groups);
  const auto divisors = [](const std::array<int64_t, 3>& a) -> Divisors {
    return {make_divisor(a[0]), make_divisor(a[1]), make_divisor(a[2])};
  };
  const Axis &d = params.depth, &h = params.height, &w = params.width;
  params.inputs = divisors(g.input);
  params.taps = divisors(g.kernel);
  params.quotients = divisors({d.quotients, h.quotients, w.quotients});
  params.phases = divisors(g.stride);
  params.positions = static_cast<int>(product(g.input));
  params.columns = static_cast<int>(params.out_channels * product(g.kernel));
  params.group = make_divisor(g.groups);
  params.input = make_strides(input);
  params.output = make_strides(output);
  params.flat_input = input[4] == 1 && input[3] == g.input[2] && input[2] == g.input[1] * g.input[2];
  params.paired_output = tiles_the_output(params) && output[4] == 1 && g.kernel[2] % 2 == 0;
  return params;
}

Plan make_plan(Pass pass, DataType dtype, const ConvTranspose3dParams& p, const Device& device,
               std::optional<Method> forced, bool wants_bias_grad) {
  Plan plan{};
  const auto add = [&](const Kernel& kernel, const Grid& grid) {
    plan.steps[plan.step_count++] = make_step(kernel, grid);
  };
  const Method method = forced && can(pass, *forced, p) ? *forced : choose_method(pass, p, device);
  if (p.batch == 0) {
    return plan;
  }
  const bool is_sum = pass == Pass::weight_grad || pass == Pass::bias_grad;
  if (is_scalar(method)) {
    if (is_sum) {
      plan.split_k = choose_parts(pass, method, p, device);
    }
    const int64_t parts = plan.split_k.splits, outputs = int64_t{p.groups} * p.out_channels;
    add({pass, method, dtype}, method == Method::direct ? direct_grid(pass, p, parts) : narrow_grid(pass, p, parts));
    if (is_sum) {
      plan.has_bias_grad =
          pass == Pass::weight_grad && method == Method::narrow && wants_bias_grad && reaches_the_output(p);
      const int64_t elements = (pass == Pass::weight_grad ? outputs * p.in_channels * taps_of(p) : 0) +
                               (pass == Pass::bias_grad || plan.has_bias_grad ? outputs : 0);
      plan.partial_sums = parts * elements;
      add({pass, Method::sum_parts, dtype}, {{elements, 1, 1}, {kThreads, 1, 1}, elements * parts});
    }
    return plan;
  }
  if (is_phases(method)) {
    plan.phase_tile = choose_phase_tile(p, device.cores);
    add({pass, method, dtype}, phases_grid(p, plan.phase_tile));
    plan.steps[0].threadgroup_memory =
        static_cast<uint32_t>(phase_memory(p, plan.phase_tile, dtype == DataType::float16 ? 2 : 4));
    return plan;
  }
  if (pass != Pass::weight_grad) {
    add({pass, method, dtype}, gemm_grid(pass, method, p, 0));
    return plan;
  }
  plan.split_k = choose_split(method, p, device).split;
  plan.has_bias_grad = wants_bias_grad && tiles_the_output_by_some_taps(p);
  const int64_t splits = plan.split_k.splits, columns = p.groups * p.out_channels * taps_of(p);
  const int64_t elements = columns * p.in_channels;
  plan.partial_sums = (splits > 1 ? splits * elements : 0) + (plan.has_bias_grad ? 2 * splits * columns : 0);
  add({pass, method, dtype}, gemm_grid(pass, method, p, splits));
  if (splits > 1) {
    add({pass, Method::sum_splits, dtype}, {{elements, 1, 1}, {256, 1, 1}, elements * splits});
  }
  if (plan.has_bias_grad) {
    const int64_t pairs = splits * p.depth.stride * p.height.stride * p.width.stride;
    const uint32_t threads = std::max(32u, power_of_two_at_least(pairs, kThreads));
    add({Pass::bias_grad, Method::sum_splits, dtype},
        {{threads, 1, int64_t{p.groups} * p.out_channels}, {threads, 1, 1}, pairs});
  }
  return plan;
}

std::array<std::pair<ConvTranspose3dBuffer, Operand>, kTensorBuffers> operands(const Kernel& kernel) {
  if (kernel.method == Method::sum_splits || kernel.method == Method::sum_parts) {
    return {{{kPartialSumsBuffer, Operand::partial_sums},
             {kBiasBuffer, Operand::bias},
             {kWeightBuffer, kernel.pass == Pass::bias_grad ? Operand::none : Operand::weight}}};
  }
  switch (kernel.pass) {
    case Pass::forward:
      return {{{kInputBuffer, Operand::input},
               {kWeightBuffer, Operand::weight},
               {kOutputBuffer, Operand::output},
               {kBiasBuffer, Operand::bias}}};
    case Pass::input_grad:
      return {{{kInputBuffer, Operand::input}, {kWeightBuffer, Operand::weight}, {kOutputBuffer, Operand::output}}};
    default:
      return {{{kInputBuffer, Operand::input},
               {kWeightBuffer, Operand::weight},
               {kOutputBuffer, Operand::output},
               {kPartialSumsBuffer, Operand::partial_sums}}};
  }
}

std::string Kernel::name() const {
  std::string name = std::string("conv_transpose3d_") + name_of(pass);
  if (method != Method::direct) {
    name += std::string("_") + name_of(method);
  }
  return name + "_" + name_of(dtype);
}

const char* name_of(Method method) {
  constexpr const char* names[] = {
      "direct",      "narrow",    "one_tap_gemm_64x128", "one_tap_gemm_64x64", "one_tap_gemm_32x64",
      "phases_gemm", "k3s2_gemm", "gemm_64x64",          "gemm_48x64",         "gemm_32x64",
      "gemm_16x64",  "sum_parts", "sum_splits"};
  return names[static_cast<size_t>(method)];
}

std::optional<Method> method_named(const std::string& name) {
  for (size_t i = 0; i < kMethods; ++i) {
    if (name == name_of(static_cast<Method>(i))) {
      return static_cast<Method>(i);
    }
  }
  return std::nullopt;
}

std::string explain(const Plan& plan) {
  if (plan.step_count == 0) {
    return "nothing to compute";
  }
  std::ostringstream text;
  for (uint32_t i = 0; i < plan.step_count; ++i) {
    const Step& step = plan.steps[i];
    const auto &threads = step.threads, &group = step.threads_per_threadgroup;
    const uint32_t dispatches = (threads[2] + step.slice - 1) / step.slice;
    text << (i == 0 ? "" : "; then ") << step.kernel.name() << ", grid " << threads[0] << " x " << threads[1] << " x "
         << threads[2] << " threads in groups of " << group[0] << " x " << group[1] << " x " << group[2] << ", "
         << dispatches << (dispatches == 1 ? " dispatch" : " dispatches");
  }
  if (plan.partial_sums > 0) {
    text << "; " << plan.split_k.splits << " partial sums, " << plan.partial_sums * sizeof(float) << " bytes";
  }
  return text.str();
}

}  // namespace mps_conv_transpose3d
