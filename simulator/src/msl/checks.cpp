#include "checks.h"

#include <dlfcn.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <numeric>
#include <random>
#include <stdexcept>

#include "toolchain.h"

namespace mps_simulator::msl {
namespace {

using msl_runtime::Access;
using msl_runtime::Bound;
using msl_runtime::Checks;
using msl_runtime::DeviceCell;
using msl_runtime::Fault;
using msl_runtime::Refused;
using msl_runtime::Worker;

// Writable memory past this size has no shadow, which is 16 times as large: its races are not seen there.
constexpr uint64_t kShadowed = 32 << 20;

// Shadow memory, kept for the next dispatch: fresh pages cost more than the checks. Cells of earlier dispatches are
// known by the number of their threadgroup.
class Shadows {
 public:
  static Shadows& instance() {
    static Shadows* shadows = new Shadows;
    return *shadows;
  }

  Shadow take(size_t cells) {
    std::lock_guard<std::mutex> lock(mutex_);
    auto fits = std::find_if(free_.begin(), free_.end(), [&](const Shadow& s) { return s.cells >= cells; });
    if (fits != free_.end()) {
      const Shadow found = *fits;
      free_.erase(fits);
      return found;
    }
    void* p = mmap(nullptr, cells * sizeof(DeviceCell), PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) throw std::runtime_error("no memory for the checks of a dispatch");
    return {static_cast<DeviceCell*>(p), cells, generation_};
  }

  void give_back(const Shadow& s) {
    std::lock_guard<std::mutex> lock(mutex_);
    if (s.generation != generation_) return drop(s);
    free_.push_back(s);
    if (free_.size() <= kKept) return;
    drop(free_.front());
    free_.erase(free_.begin());
  }

  // A number for each of so many threadgroups, the first of which is returned: higher than all before.
  uint64_t number(uint64_t threadgroups) {
    std::lock_guard<std::mutex> lock(mutex_);
    if (next_ + threadgroups >= msl_runtime::kSeveralGroups) {
      for (const Shadow& s : free_) drop(s);
      free_.clear();
      next_ = 1;
      ++generation_;
    }
    const uint64_t first = next_;
    next_ += threadgroups;
    return first;
  }

 private:
  static constexpr size_t kKept = 8;

  static void drop(const Shadow& s) { munmap(s.at, s.cells * sizeof(DeviceCell)); }

  std::mutex mutex_;
  std::vector<Shadow> free_;
  uint64_t next_ = 1;
  unsigned generation_ = 0;  // counts how often the numbers began again
};

std::string triple(const msl_runtime::Uint3& v) {
  return "(" + std::to_string(v.x) + ", " + std::to_string(v.y) + ", " + std::to_string(v.z) + ")";
}

std::string bytes(uint64_t n) { return std::to_string(n) + (n == 1 ? " byte" : " bytes"); }

std::string actor_name(const Worker& w, unsigned actor) {
  const unsigned simdgroup = actor >> msl_runtime::kLaneBits, lane = actor % (1u << msl_runtime::kLaneBits);
  if (simdgroup < msl_runtime::kNoSimdgroup && lane < kSimdWidth) return thread_name(w, simdgroup * kSimdWidth + lane);
  if (simdgroup < msl_runtime::kNoSimdgroup) return "simdgroup " + std::to_string(simdgroup);
  return actor == msl_runtime::kAtomicActor ? "an atomic operation" : "several threads";
}

// The line of the shader that the return address `code` belongs to; empty if it is not known.
std::string line_of(uint64_t code) {
  Dl_info info;
  if (!dladdr(reinterpret_cast<void*>(code), &info)) return "";
  const uint64_t offset = code - 1 - reinterpret_cast<uint64_t>(info.dli_fbase);
  return Toolchain::instance().line_of(info.dli_fname, offset);
}

// The same, or as near as is known.
std::string place(uint64_t code) {
  const std::string line = line_of(code);
  return line.empty() ? "its arguments" : line;
}

// What an access was most likely meant for.
struct Aim {
  const Bound* buffer = nullptr;
  uint64_t distance = ~uint64_t{0};  // of the access from the buffer
  uint64_t wrapped = 0;              // what the address is too high by

  void consider(const Bound& b, const Refused& r, uint64_t too_high) {
    const uint64_t address = r.address - too_high;
    const uint64_t away = address < b.begin          ? b.begin - address
                          : address + r.size > b.end ? address + r.size - b.end
                          : r.write && !b.writable   ? 0
                                                     : r.what == Access::outside;
    if (away < distance) *this = {&b, away, too_high};
  }
};

// The nearest buffer; where all are further away than an index of 31 bits reaches, one of 32 bits and without a sign
// may have fallen below 0, and the buffer is that which it is then before.
std::string buffer_name(const Worker& w, const Refused& r) {
  const Checks& c = *w.checks;
  Aim aim;
  for (unsigned i = 0; i < c.bounds; ++i) aim.consider(c.bound[i], r, 0);
  if (aim.distance > uint64_t{1} << 31) {
    Aim below;
    for (uint64_t element : {1, 2, 3, 4, 6, 8, 12, 16, 32, 64}) {
      for (unsigned i = 0; i < c.bounds && r.address > element << 32; ++i) below.consider(c.bound[i], r, element << 32);
    }
    if (below.distance < aim.distance) aim = below;
  }
  if (!aim.buffer || aim.distance > uint64_t{1} << 40) return "address " + std::to_string(r.address) + ", in no buffer";
  return "offset " + std::to_string(static_cast<int64_t>(r.address - aim.wrapped - aim.buffer->begin)) +
         (aim.wrapped ? " (an unsigned index fell below 0, so that it became " +
                            std::to_string(r.address - aim.buffer->begin) + ")"
                      : "") +
         " of the buffer at index " + std::to_string(aim.buffer->index) + ", which has " +
         bytes(aim.buffer->end - aim.buffer->begin) + (aim.buffer->writable ? "" : " and is declared const");
}

// The same for an access to threadgroup memory.
std::string variable_name(const Worker& w, const Refused& r) {
  const Checks& c = *w.checks;
  const int64_t begin = static_cast<int64_t>(r.address - reinterpret_cast<uint64_t>(w.arena));
  const int64_t end = begin + static_cast<int64_t>(r.size);
  const msl_runtime::Piece* nearest = nullptr;
  int64_t least = INT64_MAX;
  for (unsigned i = 0; i < c.piece_count; ++i) {
    const msl_runtime::Piece& piece = c.pieces[i];
    const int64_t distance = std::max<int64_t>({0, piece.begin - begin, end - piece.end});
    if (distance < least) least = distance, nearest = &piece;
  }
  if (!nearest) return "threadgroup memory, of which there is none";
  return "offset " + std::to_string(begin - nearest->begin) + " of " +
         (nearest->index < 0 ? "a threadgroup variable"
                             : "the threadgroup memory at index " + std::to_string(nearest->index)) +
         ", which has " + bytes(nearest->end - nearest->begin);
}

void set_gaps(Checks& c, unsigned cell) {
  unsigned begin = 0;
  for (unsigned i = 0; i < c.piece_count; ++i) {
    std::fill(c.writes + begin, c.writes + c.pieces[i].begin, cell);
    begin = c.pieces[i].end;
  }
}

}  // namespace

bool checks_enabled() {
  static const bool enabled = [] {
    const char* value = std::getenv("MPS_SIMULATOR_CHECKS");
    return !value || std::strcmp(value, "0") != 0;
  }();
  return enabled;
}

const Order& Order::of_environment() {
  static const Order order = [] {
    Order o;
    const char* value = std::getenv("MPS_SIMULATOR_ORDER");
    const std::string text = value ? value : "forward";
    if (text == "reverse") {
      o.kind = reverse;
    } else if (text.rfind("random:", 0) == 0 && text.size() > 7 &&
               text.find_first_not_of("0123456789", 7) == std::string::npos) {
      o.kind = random;
      o.seed = std::strtoull(text.c_str() + 7, nullptr, 10);
    } else if (text != "forward") {
      throw std::runtime_error("MPS_SIMULATOR_ORDER must be forward, reverse or random:SEED, and is " + text);
    }
    return o;
  }();
  return order;
}

uint64_t Order::threadgroup(uint64_t i, uint64_t total) const {
  if (kind == forward) return i;
  if (kind == reverse) return total - 1 - i;
  // A permutation that needs no memory: steps of a size that has no divisor in common with `total`.
  std::mt19937_64 random(seed);
  uint64_t step = random() % total | 1;
  while (std::gcd(step, total) != 1) step += 2;
  const unsigned __int128 at = static_cast<unsigned __int128>(step) * i + random() % total;
  return static_cast<uint64_t>(at % total);
}

void Order::threads(uint64_t threadgroup, unsigned threads, unsigned short* order) const {
  std::iota(order, order + threads, 0);
  if (kind == forward) return;
  const unsigned whole = threads / kSimdWidth;
  unsigned simdgroups[msl_runtime::kSimdgroups];
  std::iota(simdgroups, simdgroups + whole, 0u);
  std::mt19937_64 random(seed * 1000003 + threadgroup);
  if (kind == reverse) {
    std::reverse(simdgroups, simdgroups + whole);
  } else {
    std::shuffle(simdgroups, simdgroups + whole, random);
  }
  for (unsigned begin = 0; begin < threads; begin += kSimdWidth) {
    const unsigned lanes = std::min(threads - begin, kSimdWidth);
    const unsigned simdgroup = begin / kSimdWidth < whole ? simdgroups[begin / kSimdWidth] : whole;
    std::iota(order + begin, order + begin + lanes, static_cast<unsigned short>(simdgroup * kSimdWidth));
    if (kind == reverse) {
      std::reverse(order + begin, order + begin + lanes);
    } else {
      std::shuffle(order + begin, order + begin + lanes, random);
    }
  }
}

RangeShadow::RangeShadow(uint64_t begin, uint64_t end, uint64_t first_group)
    : begin(begin),
      end(end),
      first_group(first_group),
      writes(Shadows::instance().take(end - begin + 1)),
      reads(Shadows::instance().take(end - begin + 1)) {}

RangeShadow::~RangeShadow() {
  Shadows::instance().give_back(writes);
  Shadows::instance().give_back(reads);
}

Unordered::Unordered(std::shared_ptr<Unordered> before, std::vector<uint64_t> ordered)
    : before_(std::move(before)), ordered_(std::move(ordered)) {}

std::shared_ptr<RangeShadow> Unordered::find(uint64_t begin, uint64_t end) const {
  for (const auto& shadow : shadows_) {
    if (shadow->begin == begin && shadow->end == end) return shadow;
  }
  if (!before_ || std::find(ordered_.begin(), ordered_.end(), begin) != ordered_.end()) return nullptr;
  return before_->find(begin, end);
}

std::shared_ptr<RangeShadow> Unordered::shadow(uint64_t begin, uint64_t end, uint64_t first_group) {
  auto found = find(begin, end);
  if (!found) shadows_.push_back(found = std::make_shared<RangeShadow>(begin, end, first_group));
  return found;
}

std::shared_ptr<Unordered> begin_unordered() { return std::make_shared<Unordered>(nullptr, std::vector<uint64_t>()); }

std::shared_ptr<Unordered> begin_unordered(std::shared_ptr<Unordered> before, const std::vector<std::byte*>& ordered) {
  std::vector<uint64_t> addresses;
  for (const std::byte* at : ordered) addresses.push_back(reinterpret_cast<uint64_t>(at));
  return std::make_shared<Unordered>(std::move(before), std::move(addresses));
}

std::vector<size_t> order_of_unordered(size_t dispatches) {
  std::vector<size_t> order;
  for (size_t i = 0; i < dispatches; ++i) order.push_back(Order::of_environment().threadgroup(i, dispatches));
  return order;
}

DispatchMemory::DispatchMemory(const Launch& launch, uint64_t threadgroups)
    : pieces_(launch.pieces), first_group_(Shadows::instance().number(threadgroups)), arena_bytes_(launch.arena_bytes) {
  Unordered* const unordered = launch.dispatch->unordered.get();
  uint64_t of_buffer[msl_runtime::kBuffers];
  for (const BufferUse& use : launch.buffers) {
    const BufferBinding& b = launch.dispatch->buffers[use.index];
    if (!b.base) continue;
    const uint64_t base = reinterpret_cast<uint64_t>(b.base);
    Bound bound{};
    bound.begin = base + b.offset;
    bound.end = base + b.length;
    bound.index = use.index;
    bound.writable = use.writable;
    if (b.memory) written_.push_back(b.memory->written());
    if (b.memory && written_.back()) bound.written = written_.back().get() + b.offset;
    of_buffer[bounds_.size()] = base;
    bounds_.push_back(bound);
  }
  // Buffers that overlap share their shadow.
  std::vector<Bound*> by_begin;
  for (Bound& b : bounds_) by_begin.push_back(&b);
  std::sort(by_begin.begin(), by_begin.end(), [](const Bound* a, const Bound* b) { return a->begin < b->begin; });
  for (size_t i = 0, j; i < by_begin.size(); i = j) {
    uint64_t end = by_begin[i]->end;
    bool writable = by_begin[i]->writable;
    for (j = i + 1; j < by_begin.size() && by_begin[j]->begin < end; ++j) {
      end = std::max<uint64_t>(end, by_begin[j]->end);
      writable |= by_begin[j]->writable;
    }
    if (!writable && !unordered) continue;
    // Unordered dispatches find each other's shadow by the address of the buffer, whatever their offsets.
    const uint64_t begin = unordered ? of_buffer[by_begin[i] - bounds_.data()] : by_begin[i]->begin,
                   shadowed_end = begin + std::min(end - begin, kShadowed);
    shadows_.push_back(unordered ? unordered->shadow(begin, shadowed_end, first_group_)
                                 : std::make_shared<RangeShadow>(begin, shadowed_end, first_group_));
    for (size_t k = i; k < j; ++k) {
      Bound& b = *by_begin[k];
      b.shadow_begin = begin;
      b.shadow_end = shadowed_end;
      b.writes = shadows_.back()->writes.at;
      b.reads = shadows_.back()->reads.at;
      b.first_group = shadows_.back()->first_group;
    }
  }
}

void DispatchMemory::begin(Checks& c) const {
  c.bound[0] = {};
  std::copy(bounds_.begin(), bounds_.end(), c.bound);
  c.bounds = static_cast<unsigned>(bounds_.size());
  std::memset(c.hints, 0, sizeof(c.hints));
  set_gaps(c, 0);
  std::copy(pieces_.begin(), pieces_.end(), c.pieces);
  c.piece_count = static_cast<unsigned>(pieces_.size());
  set_gaps(c, msl_runtime::kNever);
  c.arena_bytes = arena_bytes_;
  c.first_group = first_group_;
}

void begin_threadgroup(Checks& c, uint64_t index) {
  if (c.matrices) {
    c.matrices = false;
    std::memset(c.matrix_sum, 0, sizeof(c.matrix_sum));
    std::memset(c.matrix_last, 0, sizeof(c.matrix_last));
  }
  if (c.now > msl_runtime::kNever / 2 || c.now == 0) {
    std::memset(c.writes, 0, sizeof(c.writes));
    std::memset(c.reads, 0, sizeof(c.reads));
    set_gaps(c, msl_runtime::kNever);
    c.now = 0;
  }
  c.begin = c.now += msl_runtime::kTick;
  for (unsigned memory : {msl_runtime::kThreadgroupMemory, msl_runtime::kDeviceMemory}) {
    c.fence[memory] = c.now;
    std::fill(std::begin(c.simd_fence[memory]), std::end(c.simd_fence[memory]), c.now);
  }
  c.group = c.first_group + index;
}

void end_threadgroup(Worker& w) {
  if (msl_runtime::stray_lane(w) < w.threads) w.fault = msl_runtime::Fault::different_matrices;
}

std::string thread_name(const Worker& w, unsigned index) {
  const msl_runtime::Place& p = w.position_in_threadgroup[index];
  return "thread " + triple({p.x, p.y, p.z});
}

std::string describe_matrices(const Worker& w) {
  const unsigned lane = msl_runtime::stray_lane(w), first = lane / kSimdWidth * kSimdWidth;
  const auto last = [&](unsigned t) {
    const unsigned site = w.checks->matrix_last[t];
    return site ? "came last to the one at program_source:" + std::to_string(site >> 8) : "came to none";
  };
  return "the simdgroup matrix operations of simdgroup " + std::to_string(lane / kSimdWidth) +
         " are not reached by all its lanes: " + thread_name(w, first) + " " + last(first) + ", " +
         thread_name(w, lane) + " " + last(lane);
}

std::string describe_signal(const Worker& w) {
  const std::string line = line_of(w.signal.code + 1);
  const std::string who = thread_name(w, w.signal.thread) + ", " + (line.empty() ? "" : line + ": ");
  switch (w.fault) {
    case Fault::misaligned:
      return who + "a vector is read or written at an address that is no multiple of its alignment";
    case Fault::stack:
      return who + "it needs more memory of its own than the " + std::to_string(msl_runtime::kStackBytes / 1024) +
             " KiB there are";
    case Fault::division:
      return who + "an integer is divided by 0, or the least integer by -1";
    default: {
      char address[32];
      std::snprintf(address, sizeof(address), "%p", w.signal.address);
      return who + "it touched memory at " + address + ", which belongs to no buffer";
    }
  }
}

std::string describe(const Worker& w) {
  const Refused& r = w.checks->refused;
  const std::string at = r.line ? "program_source:" + std::to_string(r.line) : place(r.code);
  const std::string who = actor_name(w, r.actor) + ", " + at + ": ";
  const std::string does = (r.write ? "a write of " : "a read of ") + bytes(r.size) + " at ";
  const std::string where = r.local ? variable_name(w, r) : buffer_name(w, r);
  switch (r.what) {
    case Access::outside:
      return who + does + where;
    case Access::misaligned:
      return who + "an access at " + where + ", where " + bytes(r.alignment) + " of alignment are needed";
    case Access::unwritten:
      return who + does + where + ": nobody has written there";
    case Access::race: {
      const std::string other = r.other_group == 0                             ? actor_name(w, r.other)
                                : r.other_group == msl_runtime::kSeveralGroups ? "several threadgroups"
                                : r.other_group < w.checks->first_group
                                    ? "another dispatch of the same concurrent encoder"
                                    : "threadgroup number " + std::to_string(r.other_group - w.checks->first_group);
      return who + does + where + ": a race with " + other + ", which no barrier orders";
    }
  }
  return who;
}

}  // namespace mps_simulator::msl
