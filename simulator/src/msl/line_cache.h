// A last-level cache: which of the lines that threadgroups touch come from memory, and go there.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "msl.h"

namespace mps_simulator::msl {

constexpr uint64_t kLineBytes = 128;

typedef std::array<uint64_t, 2> LineMask;  // a bit for each byte of a line

// The lines that one threadgroup touches, in its order; those read again soon after, and writes after the first, left
// out. An event is line << 2 | write << 1 | whole: a write is of the whole line, or of the next of `masks`.
struct LineStream {
  std::vector<uint64_t> events;
  std::vector<LineMask> masks;
};

// The streams of the first threadgroups of a dispatch.
class LineStreams {
 public:
  // The streams are used up.
  explicit LineStreams(std::vector<LineStream>&& streams);

  size_t threadgroups() const { return offsets_.size() - 1; }

  // Through a least-recently-used cache that is empty at first, with `in_flight` threadgroups at a time, in the order
  // of dispatch, all making progress alike. Of all `threadgroups` of the dispatch: those that are not here go on as the
  // second half of those that are, of which no more than a quarter is then in flight; or, where no more than 16 are
  // here, take as much as these. A line that leaves the cache written in part counts as read and written.
  Traffic traffic(uint64_t cache_bytes, uint64_t in_flight, uint64_t threadgroups) const;

 private:
  std::vector<uint32_t> events_;  // with lines numbered from 0
  std::vector<uint64_t> offsets_;
  std::vector<LineMask> masks_;
  std::vector<uint64_t> mask_offsets_;
  uint32_t lines_ = 0;
};

}  // namespace mps_simulator::msl
