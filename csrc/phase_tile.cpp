#include "phase_tile.h"

#include <algorithm>
#include <array>

#include "divisor.h"

namespace mps_conv_transpose3d {
namespace {

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
int64_t volume(Extent size) { return int64_t{size.d} * size.h * size.w; }

int64_t boxes_of(const PhaseTile& t) { return int64_t{t.boxes.d.value} * t.boxes.h.value * t.boxes.w.value; }

// Exact for quotients a / n with a * n < 65536.
int reciprocal_of(int n) { return 65536 / n + 1; }
Extent reciprocal_of(Extent size) { return {reciprocal_of(size.d), reciprocal_of(size.h), reciprocal_of(size.w)}; }

int64_t phases_of(const ConvTranspose3dParams& p) { return int64_t{p.depth.stride} * p.height.stride * p.width.stride; }

// Taps of so many shifts that the 8 fragments of a tile have, at most.
int64_t taps_of(const ConvTranspose3dParams& p, Extent shifts) {
  const Axis &d = p.depth, &h = p.height, &w = p.width;
  const auto of_phase = [](const Axis& axis, int n) {
    return std::min<int64_t>(ceil_div(axis.taps, axis.tap_step), n);
  };
  const auto of_all = [](const Axis& axis, int n) { return std::min<int64_t>(axis.taps, int64_t{n} * axis.stride); };
  // The fragments are of so many times 8 output channels.
  const int64_t phases = phases_of(p);
  const int64_t outputs = phases % 8 == 0 ? 1 : 8 % phases == 0 ? 8 / phases : 2 + 7 / phases;
  return std::min(8 * of_phase(d, shifts.d) * of_phase(h, shifts.h) * of_phase(w, shifts.w),
                  outputs * of_all(d, shifts.d) * of_all(h, shifts.h) * of_all(w, shifts.w));
}

PhaseTile make_tile(const ConvTranspose3dParams& p, Extent shifts, Extent box) {
  const auto boxes = [](const Axis& axis, int size) { return make_divisor(ceil_div(axis.quotients, size)); };
  PhaseTile t{};
  t.box = box;
  t.boxes = {boxes(p.depth, box.d), boxes(p.height, box.h), boxes(p.width, box.w)};
  t.shifts = shifts;
  t.rows = static_cast<int>(volume(box));
  // A fragment's rows are neighbours in what is staged, so an axis has a halo only where fragments begin anew with
  // each of its lines. Otherwise what its shifts meet is staged for each of them.
  const bool halo_w = box.w % 8 == 0 || box.d * box.h == 1;
  const bool halo_h = halo_w || box.h * box.w % 8 == 0 || box.d == 1;
  const int copies_w = halo_w ? 1 : shifts.w;
  t.copies_h = halo_h ? 1 : shifts.h;
  t.copies = t.copies_h * copies_w;
  t.staged = {box.d + shifts.d - 1, box.h + shifts.h - t.copies_h, box.w + shifts.w - copies_w};
  const int copy = static_cast<int>(volume(t.staged));
  t.pitch = {t.staged.h * t.staged.w * kPhaseDepth, (halo_h ? t.staged.w : copy) * kPhaseDepth,
             (halo_w ? 1 : copy * t.copies_h) * kPhaseDepth};
  t.output_step = {p.depth.stride * p.output.depth, p.height.stride * p.output.height, p.width.stride * p.output.width};
  // A last fragment that is not full reads on.
  t.positions = copy * t.copies + (t.rows % 8 == 0 ? 0 : 8 - t.rows % 8);
  t.box_reciprocal = reciprocal_of(box);
  t.staged_reciprocal = reciprocal_of(t.staged);
  // Neighbouring threadgroups share the larger operand, so that it is read from memory once.
  t.boxes_first = int64_t{p.out_channels} * p.depth.taps * p.height.taps * p.width.taps >
                  int64_t{p.depth.input} * p.height.input * p.width.input;
  return t;
}

// The tile of least time that stages so many shifts at a time; of no rows if none fits.
PhaseTile choose_tile(const ConvTranspose3dParams& p, Extent shifts, int64_t cores) {
  constexpr int64_t kCoreMemory = 60 << 10, kMemory = 21 << 10, kMaxRows = 128;
  constexpr int64_t kCoreSimdgroups = 16;  // with some 100 registers
  static constexpr int kMaxSize = 32;      // of a box along an axis: so small that reciprocals are exact
  const int64_t taps = taps_of(p, {p.depth.shifts, p.height.shifts, p.width.shifts});
  const int64_t tiles = phase_column_tiles(p) * p.batch * p.groups, steps = ceil_div(p.in_channels, kPhaseDepth);
  // Cycles of a core, of which each bound is one: a product of two fragments takes a simdgroup 20 of its own, and
  // staging 8 elements about 20; 64 bytes are moved on the core in a cycle, and 32 of the lines of 128 that are
  // touched.
  const auto time = [&](const PhaseTile& t, int64_t memory) {
    const int64_t simdgroups = phase_simdgroups(t), threadgroups = tiles * boxes_of(t);
    const int64_t staging = ceil_div(t.positions, 32) + ceil_div(8, simdgroups) * simdgroups;
    const int64_t arithmetic = (simdgroups * (taps * 2 * 20 + 60) + staging * 20) / 4;
    const int64_t on_core = simdgroups * (volume(shifts) * 2 + taps) * 4 + t.positions + taps * 8;
    const int64_t rows = int64_t{t.box.d + shifts.d - 1} * (t.box.h + shifts.h - 1);
    const int64_t lines = (rows * (t.box.w + shifts.w + 30) + taps * 8 + 31) * kPhaseDepth / 8;
    const int64_t fit = std::max<int64_t>(std::min(kCoreMemory / memory, kCoreSimdgroups / simdgroups), 1);
    const int64_t resident = std::min(fit, ceil_div(threadgroups, cores));
    return ceil_div(threadgroups, resident * cores) * resident *
           (steps * std::max({arithmetic, on_core, lines}) + simdgroups * 200);
  };
  const auto sizes = [](const Axis& axis) {
    return std::array<int, 6>{std::min(axis.quotients, kMaxSize), 16, 8, 4, 2, 1};
  };
  PhaseTile best{};
  int64_t least = 0;
  for (const int w : sizes(p.width)) {
    for (const int h : sizes(p.height)) {
      for (const int d : sizes(p.depth)) {
        if (d > p.depth.quotients || h > p.height.quotients || w > p.width.quotients || d * h * w > kMaxRows) {
          continue;
        }
        const PhaseTile t = make_tile(p, shifts, {d, h, w});
        const int64_t memory = phase_memory(p, t, sizeof(float));
        if (t.positions > kOwnPhasePositions * 32 * phase_simdgroups(t) || memory > kMemory) {
          continue;
        }
        const int64_t t_time = time(t, memory);
        if (best.rows == 0 || t_time < least) {
          best = t;
          least = t_time;
        }
      }
    }
  }
  return best;
}

}  // namespace

int64_t phase_column_tiles(const ConvTranspose3dParams& p) {
  return ceil_div(ceil_div(p.out_channels, 8) * phases_of(p), 8);
}

int64_t phase_simdgroups(const PhaseTile& tile) { return ceil_div(tile.rows, 16); }

int64_t phase_memory(const ConvTranspose3dParams& p, const PhaseTile& tile, int64_t element) {
  return ceil_div((tile.positions + taps_of(p, tile.shifts) * 8) * kPhaseDepth * element, 16) * 16;
}

// Staged at a time are all shifts, or those of one in depth, or of one in height too, or fewer.
PhaseTile choose_phase_tile(const ConvTranspose3dParams& p, int64_t cores) {
  Extent shifts{p.depth.shifts, p.height.shifts, p.width.shifts};
  while (true) {
    if (volume(shifts) <= kMaxPhaseTaps && taps_of(p, shifts) <= kMaxPhaseTaps) {
      if (const PhaseTile best = choose_tile(p, shifts, cores); best.rows > 0) {
        return best;
      }
    }
    if (shifts.d > 1) {
      shifts.d = 1;
    } else if (shifts.h > 1) {
      shifts.h = 1;
    } else {
      --shifts.w;
    }
  }
}

}  // namespace mps_conv_transpose3d
