#include "planner/polyphase.h"

#include <algorithm>
#include <array>
#include <optional>

#include "planner/algorithms.h"
#include "planner/integers.h"

namespace mps_conv_transpose3d {
namespace {

int64_t volume(Extent size) { return int64_t{size.d} * size.h * size.w; }

// Exact for quotients a / n with a * n < 65536.
int reciprocal_of(int n) { return 65536 / n + 1; }
Extent reciprocal_of(Extent size) { return {reciprocal_of(size.d), reciprocal_of(size.h), reciprocal_of(size.w)}; }

// Tiles along the columns, each of 8 fragments of 8 output channels of one phase.
int64_t column_tiles_of(const KernelParams& p) {
  return ceil_div(ceil_div(p.out_channels, 8) * reached_phases_of(p), 8);
}

int64_t simdgroups_of(const PolyphaseTile& tile) { return ceil_div(tile.rows, 8 * tile.fragment_rows); }

// The most taps, of so many shifts, that the 8 fragments of a tile have.
int64_t tile_taps(const KernelParams& p, Extent shifts) {
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

// simdgroup_load needs 8 consecutive rows. If the box's width is a multiple of 8, a shifted fragment is a contiguous
// run inside the halo; if not, one shifted copy is staged for each shift, and so along the height. The last fragment
// may read up to 7 positions past the box.
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
  t.boxes_first = p.out_channels * taps_of(p) > positions_of(p);
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

// The cycles of a core in which a box is multiplied, of which each bound is one, and the grid that it makes.
class BoxCost {
 public:
  BoxCost(const KernelParams& p, Extent shifts, const Gpu& gpu)
      : shifts_(shifts),
        gpu_(gpu),
        all_taps_(tile_taps(p, {p.depth.shifts, p.height.shifts, p.width.shifts})),
        tiles_(column_tiles_of(p) * p.batch * p.groups),
        steps_(ceil_div(p.in_channels, kPolyphaseBK)) {}

  // Of the whole pass, in boxes of which `positions` are staged each; at least `least` where it is no less.
  int64_t cycles(Extent box, int64_t fragment_rows, int64_t boxes, int64_t positions, int64_t least) const {
    const int64_t fragments = ceil_div(volume(box), 8), simdgroups = ceil_div(fragments, fragment_rows);
    const int64_t threadgroups = tiles_ * boxes, one = cycles_of_one(box, fragments, simdgroups, positions);
    if (least > 0 && threadgroups * one >= least * gpu_.cores) {
      return least;  // no less, however the threadgroups fall on the cores; and no division
    }
    const int64_t fit = std::min<int64_t>(kResidency.polyphase, kResidency.simdgroups / simdgroups);
    const int64_t resident = std::min(fit, ceil_div(threadgroups, gpu_.cores));
    const int64_t busy = std::max<int64_t>(resident * simdgroups, kResidency.busy_simdgroups);
    return ceil_div(threadgroups, resident * gpu_.cores) * busy * one / simdgroups;
  }

 private:
  // Of one threadgroup: a slot for a load, some 20 cycles to stage 8 elements, and 200 to look up and to store.
  int64_t cycles_of_one(Extent box, int64_t fragments, int64_t simdgroups, int64_t positions) const {
    const int64_t loads = volume(shifts_) * fragments + all_taps_ * simdgroups;
    const int64_t staging = (positions + 31) / 32 + (simdgroups < 4 ? 8 + simdgroups : 8);
    const int64_t arithmetic =
        (all_taps_ * fragments * kMatrixCycles + loads + (simdgroups + staging) * 20) / kCore.schedulers;
    const int64_t on_core = (loads * 256 + (positions + all_taps_ * 8) * 64) / kCore.on_core_bytes;
    const int64_t rows = int64_t{box.d + shifts_.d - 1} * (box.h + shifts_.h - 1);
    const int64_t lines = rows * (box.w + shifts_.w + 30) + all_taps_ * 8 + 31;
    return steps_ * std::max({arithmetic, on_core, lines}) + simdgroups * 200;
  }

  const Extent shifts_;
  const Gpu gpu_;
  const int64_t all_taps_, tiles_, steps_;
};

// Calls `visit` with each box that could be chosen, and how many of it make the volume.
template <typename Visit>
void for_each_box(const KernelParams& p, const Visit& visit) {
  constexpr int kMinRows = 16;
  const Sizes along_d(p.depth), along_h(p.height), along_w(p.width);
  const int few = std::min<int>(kMinRows, along_d.size[0] * along_h.size[0] * along_w.size[0]);
  for (int i = 0; i < along_w.count; ++i) {
    for (int j = 0; j < along_h.count; ++j) {
      for (int k = 0; k < along_d.count; ++k) {
        const Extent box{along_d.size[k], along_h.size[j], along_w.size[i]};
        if (volume(box) >= few && volume(box) <= 8 * kPolyphaseFragsM * kMaxSimdgroups) {
          visit(box, int64_t{along_d.boxes[k]} * along_h.boxes[j] * along_w.boxes[i]);
        }
      }
    }
  }
}

// The fastest tile that stages so many shifts at a time; none if none fits.
std::optional<PolyphaseTile> choose_tile(const KernelParams& p, Extent shifts, const Gpu& gpu) {
  const BoxCost cost(p, shifts, gpu);
  const int64_t w_memory = tile_taps(p, shifts) * 8;
  Extent best{};
  int best_fragment_rows = 0;
  int64_t least = 0;
  for_each_box(p, [&](Extent box, int64_t boxes) {
    const int64_t positions = staged_of(box, shifts).positions;
    if ((positions + w_memory) * kPolyphaseBK > kMaxPolyphaseElements) {
      return;
    }
    for (int fragment_rows = kPolyphaseFragsM; fragment_rows > 0; --fragment_rows) {
      const int64_t simdgroups = ceil_div(volume(box), 8 * fragment_rows);
      if (simdgroups > kMaxSimdgroups || positions > kPolyphasePositions * kCore.simd_width * simdgroups) {
        continue;
      }
      const int64_t cycles = cost.cycles(box, fragment_rows, boxes, positions, least);
      if (least == 0 || cycles < least) {
        best = box;
        best_fragment_rows = fragment_rows;
        least = cycles;
      }
    }
  });
  return least == 0 ? std::nullopt : std::optional(make_tile(p, shifts, best, best_fragment_rows));
}

}  // namespace

// Staged at a time are all shifts, or those of one in depth, or of one in height too, or fewer.
PolyphaseTile choose_polyphase_tile(const KernelParams& p, const Gpu& gpu) {
  Extent shifts{p.depth.shifts, p.height.shifts, p.width.shifts};
  while (true) {
    if (volume(shifts) <= kMaxPolyphaseTaps && tile_taps(p, shifts) <= kMaxPolyphaseTaps) {
      if (const auto best = choose_tile(p, shifts, gpu)) {
        return *best;
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

Grid polyphase_grid(const KernelParams& p, const PolyphaseTile& t) {
  const int64_t threads = kCore.simd_width * simdgroups_of(t), columns = column_tiles_of(p);
  const int64_t boxes = int64_t{t.boxes.d.value} * t.boxes.h.value * t.boxes.w.value;
  return {{(t.boxes_first ? boxes : columns) * threads, t.boxes_first ? columns : boxes, int64_t{p.batch} * p.groups},
          {static_cast<uint32_t>(threads), 1, 1},
          boxes * t.rows * columns * 64 * gemm_shape(Pass::forward, Family::polyphase, p).k};
}

}  // namespace mps_conv_transpose3d
