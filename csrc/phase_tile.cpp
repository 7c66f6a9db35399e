#include "phase_tile.h"

#include <algorithm>
#include <array>

#include "integers.h"
#include "problem.h"

namespace mps_conv_transpose3d {
namespace {

int64_t volume(Extent size) { return int64_t{size.d} * size.h * size.w; }

// Exact for quotients a / n with a * n < 65536.
int reciprocal_of(int n) { return 65536 / n + 1; }
Extent reciprocal_of(Extent size) { return {reciprocal_of(size.d), reciprocal_of(size.h), reciprocal_of(size.w)}; }

// Taps of so many shifts that the 8 fragments of a tile have, at most.
int64_t taps_of(const KernelParams& p, Extent shifts) {
  const Axis &d = p.depth, &h = p.height, &w = p.width;
  const auto of_phase = [](const Axis& axis, int n) {
    return std::min<int64_t>(ceil_div(axis.taps, axis.tap_step), n);
  };
  const auto of_all = [](const Axis& axis, int n) { return std::min<int64_t>(axis.taps, int64_t{n} * axis.stride); };
  // The fragments are of so many times 8 output channels.
  const int64_t phases = reached_phases_of(p);
  const int64_t outputs = phases % 8 == 0 ? 1 : 8 % phases == 0 ? 8 / phases : 2 + 7 / phases;
  return std::min(8 * of_phase(d, shifts.d) * of_phase(h, shifts.h) * of_phase(w, shifts.w),
                  outputs * of_all(d, shifts.d) * of_all(h, shifts.h) * of_all(w, shifts.w));
}

// What is staged for a box.
struct Staged {
  bool halo_h, halo_w;
  Extent size;
  int copies_h, copies_w, positions;
};

// A fragment's rows are neighbours in what is staged, so an axis has a halo only where fragments begin anew with each
// of its lines. Otherwise what its shifts meet is staged for each of them. A last fragment that is not full reads on.
Staged staged_of(Extent box, Extent shifts) {
  Staged s{};
  const int rows = static_cast<int>(volume(box));
  s.halo_w = box.w % 8 == 0 || box.d * box.h == 1;
  s.halo_h = s.halo_w || box.h * box.w % 8 == 0 || box.d == 1;
  s.copies_h = s.halo_h ? 1 : shifts.h;
  s.copies_w = s.halo_w ? 1 : shifts.w;
  s.size = {box.d + shifts.d - 1, box.h + shifts.h - s.copies_h, box.w + shifts.w - s.copies_w};
  s.positions = static_cast<int>(volume(s.size)) * s.copies_h * s.copies_w + (8 - rows % 8) % 8;
  return s;
}

PolyphaseTile make_tile(const KernelParams& p, Extent shifts, Extent box, int fragment_rows) {
  const auto boxes = [](const Axis& axis, int size) { return make_fast_divmod(ceil_div(axis.quotients, size)); };
  const Staged staged = staged_of(box, shifts);
  const int copy = static_cast<int>(volume(staged.size)) * kPolyphaseBK, line = staged.size.w * kPolyphaseBK;
  PolyphaseTile t{};
  t.box = box;
  t.boxes = {boxes(p.depth, box.d), boxes(p.height, box.h), boxes(p.width, box.w)};
  t.shifts = shifts;
  t.rows = static_cast<int>(volume(box));
  t.fragment_rows = fragment_rows;
  t.staged = staged.size;
  t.positions = staged.positions;
  t.copies_h = staged.copies_h;
  t.copies = staged.copies_h * staged.copies_w;
  t.pitch = {staged.size.h * line, staged.halo_h ? line : copy, staged.halo_w ? kPolyphaseBK : copy * t.copies_h};
  t.box_reciprocal = reciprocal_of(box);
  t.staged_reciprocal = reciprocal_of(t.staged);
  // Neighbouring threadgroups share the larger operand, so that it is read from memory once.
  t.boxes_first = int64_t{p.out_channels} * p.depth.taps * p.height.taps * p.width.taps >
                  int64_t{p.depth.input} * p.height.input * p.width.input;
  return t;
}

// Sizes of a box along an axis, and how many boxes that makes. So small that reciprocals are exact.
struct Sizes {
  int count = 0;
  std::array<int, 7> size{}, boxes{};

  explicit Sizes(const Axis& axis) {
    constexpr int kMost = 32;
    const int all = std::min(axis.quotients, kMost), half = (all + 1) / 2;
    for (const int n : {all, half, 16, 8, 4, 2, 1}) {
      if (n <= all && std::find(size.begin(), size.begin() + count, n) == size.begin() + count) {
        size[count] = n;
        boxes[count++] = static_cast<int>(ceil_div(axis.quotients, n));
      }
    }
  }
};

// The tile of least time that stages so many shifts at a time; of no rows if none fits.
PolyphaseTile choose_tile(const KernelParams& p, Extent shifts, int64_t cores) {
  constexpr int64_t kResident = 3;         // for which a core has threadgroup memory
  constexpr int64_t kCoreSimdgroups = 16;  // for which it has registers, some 100 for a thread
  constexpr int64_t kBusy = 6;             // simdgroups that hide the latency of a core's arithmetic
  constexpr int kMinRows = 16;
  const int64_t taps = taps_of(p, {p.depth.shifts, p.height.shifts, p.width.shifts});
  const int64_t tiles = phase_column_tiles(p) * p.batch * p.groups, steps = ceil_div(p.in_channels, kPolyphaseBK);
  const int64_t w_memory = taps_of(p, shifts) * 8;
  Extent best{};
  int best_fragment_rows = 0;
  int64_t least = 0;
  // Cycles of a core, of which each bound is one: 4 simdgroups at a time, which take 20 for a product of two fragments,
  // one for a load and some 20 to stage 8 elements; 64 bytes are moved on the core, and 32 of the lines of 128 that are
  // touched.
  const auto time = [&](Extent box, int64_t fragment_rows, int64_t boxes, int64_t positions) {
    const int64_t fragments = ceil_div(volume(box), 8), simdgroups = ceil_div(fragments, fragment_rows);
    const int64_t threadgroups = tiles * boxes;
    const int64_t loads = volume(shifts) * fragments + taps * simdgroups;
    const int64_t staging = (positions + 31) / 32 + (simdgroups < 4 ? 8 + simdgroups : 8);
    const int64_t arithmetic = (taps * fragments * 20 + loads + (simdgroups + staging) * 20) / 4;
    const int64_t on_core = loads * 4 + positions + taps * 8;
    const int64_t rows = int64_t{box.d + shifts.d - 1} * (box.h + shifts.h - 1);
    const int64_t lines = rows * (box.w + shifts.w + 30) + taps * 8 + 31;
    const int64_t one = steps * std::max({arithmetic, on_core, lines}) + simdgroups * 200;
    if (least > 0 && threadgroups * one >= least * cores) {
      return least;  // no less, however the threadgroups fall on the cores; and no division
    }
    const int64_t fit = std::min(kResident, kCoreSimdgroups / simdgroups);
    const int64_t resident = std::min(fit, ceil_div(threadgroups, cores));
    const int64_t busy = std::max(resident * simdgroups, kBusy);
    return ceil_div(threadgroups, resident * cores) * busy * one / simdgroups;
  };
  const Sizes along_d(p.depth), along_h(p.height), along_w(p.width);
  const int few = std::min<int>(kMinRows, along_d.size[0] * along_h.size[0] * along_w.size[0]);
  for (int i = 0; i < along_w.count; ++i) {
    for (int j = 0; j < along_h.count; ++j) {
      for (int k = 0; k < along_d.count; ++k) {
        const Extent box{along_d.size[k], along_h.size[j], along_w.size[i]};
        const int rows = box.d * box.h * box.w;
        if (rows < few || rows > 8 * kPolyphaseFragsM * kMaxSimdgroups) {
          continue;
        }
        const int64_t positions = staged_of(box, shifts).positions;
        if ((positions + w_memory) * kPolyphaseBK > kMaxPolyphaseElements) {
          continue;
        }
        const int64_t boxes = int64_t{along_d.boxes[k]} * along_h.boxes[j] * along_w.boxes[i];
        for (int fragment_rows = kPolyphaseFragsM; fragment_rows > 0; --fragment_rows) {
          const int64_t simdgroups = ceil_div(rows, 8 * fragment_rows);
          if (simdgroups > kMaxSimdgroups || positions > kPolyphasePositions * 32 * simdgroups) {
            continue;
          }
          const int64_t t = time(box, fragment_rows, boxes, positions);
          if (best.d == 0 || t < least) {
            best = box;
            best_fragment_rows = fragment_rows;
            least = t;
          }
        }
      }
    }
  }
  return best.d == 0 ? PolyphaseTile{} : make_tile(p, shifts, best, best_fragment_rows);
}

}  // namespace

int64_t phase_column_tiles(const KernelParams& p) {
  return ceil_div(ceil_div(p.out_channels, 8) * reached_phases_of(p), 8);
}

int64_t phase_simdgroups(const PolyphaseTile& tile) { return ceil_div(tile.rows, 8 * tile.fragment_rows); }

// Staged at a time are all shifts, or those of one in depth, or of one in height too, or fewer.
PolyphaseTile choose_phase_tile(const KernelParams& p, int64_t cores) {
  Extent shifts{p.depth.shifts, p.height.shifts, p.width.shifts};
  while (true) {
    if (volume(shifts) <= kMaxPolyphaseTaps && taps_of(p, shifts) <= kMaxPolyphaseTaps) {
      if (const PolyphaseTile best = choose_tile(p, shifts, cores); best.rows > 0) {
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
