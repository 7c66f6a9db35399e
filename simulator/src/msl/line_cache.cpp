#include "line_cache.h"

#include <algorithm>
#include <stdexcept>

namespace mps_simulator::msl {
namespace {

constexpr uint32_t kNone = UINT32_MAX;
constexpr uint64_t kShort = 17;
constexpr LineMask kWhole = {UINT64_MAX, UINT64_MAX};

// Numbers for lines, in the order in which they are met.
class Numbers {
 public:
  uint32_t of(uint64_t line) {
    if (2 * (count_ + 1) > slots_.size()) grow();
    Slot& s = find(slots_, line);
    if (s.number == kNone) s = {line, count_++};
    return s.number;
  }
  uint32_t count() const { return count_; }

 private:
  struct Slot {
    uint64_t line = 0;
    uint32_t number = kNone;
  };
  static Slot& find(std::vector<Slot>& slots, uint64_t line) {
    size_t at = (line * 0x9e3779b97f4a7c15u) >> 20 & (slots.size() - 1);
    while (slots[at].number != kNone && slots[at].line != line) at = (at + 1) & (slots.size() - 1);
    return slots[at];
  }
  void grow() {
    std::vector<Slot> larger(std::max<size_t>(1024, slots_.size() * 2));
    for (const Slot& s : slots_) {
      if (s.number != kNone) find(larger, s.line) = s;
    }
    slots_.swap(larger);
  }
  std::vector<Slot> slots_;
  uint32_t count_ = 0;
};

class Cache {
 public:
  Cache(uint64_t bytes, uint32_t lines) : capacity_(std::max<uint64_t>(1, bytes / kLineBytes)), lines_(lines + 1) {
    lines_[head()].next = lines_[head()].previous = head();
  }

  void read(uint32_t id) {
    Line& l = use(id);
    if (l.known || l.mask == kWhole) return;
    l.known = true;
    ++fetched;
  }

  void write(uint32_t id, const LineMask& mask) {
    Line& l = use(id);
    if (!l.dirty) ++written;
    l.dirty = true;
    for (int i : {0, 1}) l.mask[i] |= mask[i];
  }

  // What is in the cache at the end, written in part, must be completed too.
  template <class F>
  void complete(F&& charge) {
    for (uint32_t id = lines_[head()].next; id != head(); id = lines_[id].next) {
      if (lines_[id].partial()) charge(lines_[id].last);
    }
  }

  uint64_t fetched = 0, written = 0;
  uint32_t now = 0;  // the half of the window

 private:
  struct Line {
    uint32_t previous = 0, next = 0;
    bool present = false, known = false, dirty = false;
    uint8_t last = 0;
    LineMask mask = {};
    bool partial() const { return dirty && !known && mask != kWhole; }
  };

  uint32_t head() const { return static_cast<uint32_t>(lines_.size() - 1); }

  void unlink(Line& l) {
    lines_[l.previous].next = l.next;
    lines_[l.next].previous = l.previous;
  }

  // Makes it the most recently used, after the head.
  Line& use(uint32_t id) {
    Line& l = lines_[id];
    if (l.present) {
      unlink(l);
    } else {
      if (used_ == capacity_) evict(lines_[head()].previous);
      ++used_;
      l.present = true;
    }
    l.next = lines_[head()].next;
    l.previous = head();
    lines_[l.next].previous = id;
    lines_[head()].next = id;
    l.last = static_cast<uint8_t>(now);
    return l;
  }

  void evict(uint32_t id) {
    Line& l = lines_[id];
    if (l.partial()) ++fetched;
    unlink(l);
    l.present = l.known = l.dirty = false;
    l.mask = {};
    --used_;
  }

  uint64_t capacity_, used_ = 0;
  std::vector<Line> lines_;
};

}  // namespace

LineStreams::LineStreams(std::vector<LineStream>&& streams) {
  size_t events = 0, masks = 0;
  for (const LineStream& s : streams) {
    events += s.events.size();
    masks += s.masks.size();
  }
  events_.reserve(events);
  masks_.reserve(masks);
  offsets_.push_back(0);
  mask_offsets_.push_back(0);
  Numbers numbers;
  for (LineStream& s : streams) {
    for (uint64_t e : s.events) events_.push_back(numbers.of(e >> 2) << 2 | static_cast<uint32_t>(e & 3));
    masks_.insert(masks_.end(), s.masks.begin(), s.masks.end());
    offsets_.push_back(events_.size());
    mask_offsets_.push_back(masks_.size());
    s = {};
  }
  lines_ = numbers.count();
  if (lines_ >= 1u << 30) throw std::runtime_error("a dispatch touches more lines than the counters can tell apart");
}

Traffic LineStreams::traffic(uint64_t cache_bytes, uint64_t in_flight, uint64_t total) const {
  struct Slot {
    uint64_t at, end, mask;
  };
  const uint64_t here = threadgroups(), half = here / 2;
  const bool scaled = here < total && here < kShort;
  if (here < total && !scaled) in_flight = std::min(in_flight, here / 4);
  Cache cache(cache_bytes, lines_);
  std::vector<Slot> slots;
  uint64_t next = 0;
  struct Moment {
    double fetched, written, events;
  };
  Moment first = {}, last = {};  // when the first threadgroup of the second half starts, and when the last does
  uint64_t events = 0;
  const auto start = [&] {
    last = {static_cast<double>(cache.fetched), static_cast<double>(cache.written), static_cast<double>(events)};
    if (next == half) {
      first = last;
      cache.now = 1;
    }
    const Slot s = {offsets_[next], offsets_[next + 1], mask_offsets_[next]};
    ++next;
    return s;
  };
  while (next < here && slots.size() < std::max<uint64_t>(1, in_flight)) slots.push_back(start());
  while (!slots.empty()) {
    for (size_t i = 0; i < slots.size();) {
      Slot& s = slots[i];
      if (s.at == s.end) {
        if (next < here) {
          s = start();
        } else {
          s = slots.back();
          slots.pop_back();
        }
        continue;
      }
      const uint32_t event = events_[s.at++];
      ++events;
      if (!(event & 2)) {
        cache.read(event >> 2);
      } else {
        cache.write(event >> 2, event & 1 ? kWhole : masks_[s.mask++]);
      }
      ++i;
    }
  }
  std::array<uint64_t, 2> completed = {};
  cache.complete([&](unsigned when) { ++completed[when]; });
  Traffic all = {static_cast<double>(cache.fetched + completed[0] + completed[1]), static_cast<double>(cache.written)};
  if (scaled) {
    all.read *= static_cast<double>(total) / static_cast<double>(here);
    all.written *= static_cast<double>(total) / static_cast<double>(here);
  } else if (total > here && last.events > first.events) {
    // Not until the end: what runs while others have finished has the cache for itself.
    const double more = static_cast<double>(total - here) / static_cast<double>(here - half);
    const double by_event = more * static_cast<double>(offsets_[here] - offsets_[half]) / (last.events - first.events);
    all.read += by_event * (last.fetched - first.fetched) + more * static_cast<double>(completed[1]);
    all.written += by_event * (last.written - first.written);
  }
  all.read *= kLineBytes;
  all.written *= kLineBytes;
  return all;
}

}  // namespace mps_simulator::msl
