#include "counters.h"

#include <algorithm>
#include <cstring>

#include "executor.h"

namespace mps_simulator::msl {
namespace {

using msl_runtime::Counting;
using msl_runtime::LoggedAccess;
using msl_runtime::Worker;

constexpr size_t kFirstLog = 256;
constexpr size_t kFlushAt = 2048;  // accesses of one lane: a simdgroup's then fill 1 MiB
constexpr size_t kMatrixBytes = 256;

GroupCounter& counter_of(Worker& w) { return static_cast<GroupCounter&>(*w.counting); }

unsigned lanes_of(const Worker& w, unsigned simdgroup) {
  return std::min(kSimdWidth, w.threads - simdgroup * kSimdWidth);
}

// 0: the only or first, 1: between, 2: the last.
unsigned part(uint64_t at, uint64_t n) { return at == 0 ? 0 : at + 1 == n ? 2 : 1; }

}  // namespace

void Counts::add(const Counts& o) {
  executed.resize(std::max(executed.size(), o.executed.size()));
  issued.resize(executed.size());
  for (size_t i = 0; i < o.executed.size(); ++i) {
    executed[i] += o.executed[i];
    issued[i] += o.issued[i];
  }
  device_bytes += o.device_bytes;
  constant_bytes += o.constant_bytes;
  threadgroup_bytes += o.threadgroup_bytes;
  executed_accesses += o.executed_accesses;
  issued_accesses += o.issued_accesses;
  lines += o.lines;
  barriers += o.barriers;
  threadgroups += o.threadgroups;
  matrix_bytes = std::max(matrix_bytes, o.matrix_bytes);
  accesses += o.accesses;
}

Sample all_threadgroups(const Uint3& grid) { return first_threadgroups(grid, grid.volume()); }

Sample first_threadgroups(const Uint3& grid, uint64_t count) {
  const uint64_t total = grid.volume();
  for (uint64_t whole : {uint64_t{grid.x} * grid.y, uint64_t{grid.x}}) {
    if (count < total && 2 * whole <= count) {
      count = count / (2 * whole) * 2 * whole;
      break;
    }
  }
  count = std::min(count, total);
  Sample s;
  s.threadgroups.resize(count);
  for (uint64_t i = 0; i < count; ++i) s.threadgroups[i] = i;
  s.classes.assign(count, 0);
  s.weights = {static_cast<double>(total) / static_cast<double>(count)};
  return s;
}

Sample sampled_threadgroups(const Uint3& grid) {
  constexpr uint64_t kOfAClass = 2, kOfALargeOne = 8;
  const std::array<uint64_t, 3> n = {grid.x, grid.y, grid.z};
  std::vector<std::pair<uint64_t, uint32_t>> chosen;
  Sample s;
  for (unsigned c = 0; c < 27; ++c) {
    const std::array<unsigned, 3> parts = {c % 3, c / 3 % 3, c / 9};
    std::array<uint64_t, 3> begin, size;
    uint64_t population = 1;
    for (int i : {0, 1, 2}) {
      begin[i] = parts[i] == 0 ? 0 : parts[i] == 1 ? 1 : n[i] - 1;
      size[i] = parts[i] == 1 ? (n[i] > 2 ? n[i] - 2 : 0) : parts[i] == 2 ? n[i] > 1 : 1;
      population *= size[i];
    }
    if (population == 0) continue;
    const bool large = population * 4 > grid.volume();
    const uint64_t count = std::min(population, large ? kOfALargeOne : kOfAClass);
    for (uint64_t k = 0; k < count; ++k) {
      // In the middle of equal parts, so that they are spread over all axes.
      const uint64_t at = (2 * k + 1) * population / (2 * count);
      const uint64_t x = begin[0] + at % size[0], y = begin[1] + at / size[0] % size[1],
                     z = begin[2] + at / size[0] / size[1];
      chosen.push_back({(z * n[1] + y) * n[0] + x, static_cast<uint32_t>(s.weights.size())});
    }
    s.weights.push_back(static_cast<double>(population) / static_cast<double>(count));
  }
  std::sort(chosen.begin(), chosen.end());
  for (const auto& [threadgroup, of] : chosen) {
    s.threadgroups.push_back(threadgroup);
    s.classes.push_back(of);
  }
  return s;
}

Sample first_and_others(const Uint3& grid, uint64_t count) {
  const auto class_of = [&grid](uint64_t at) {
    return part(at % grid.x, grid.x) + 3 * part(at / grid.x % grid.y, grid.y) + 9 * part(at / grid.x / grid.y, grid.z);
  };
  Sample s = first_threadgroups(grid, count);
  std::array<uint64_t, 27> population{}, members{};
  for (uint64_t i = 0; i < grid.volume(); ++i) ++population[class_of(i)];
  for (size_t i = 0; i < s.threadgroups.size(); ++i) ++members[s.classes[i] = class_of(s.threadgroups[i])];
  for (uint64_t i = s.threadgroups.size(); i < grid.volume(); ++i) {
    if (const unsigned c = class_of(i); members[c] == 0) {
      ++members[c];
      s.threadgroups.push_back(i);
      s.classes.push_back(c);
    }
  }
  s.weights.resize(population.size());
  for (size_t c = 0; c < population.size(); ++c) {
    if (members[c] > 0) s.weights[c] = static_cast<double>(population[c]) / static_cast<double>(members[c]);
  }
  return s;
}

Collector::Collector(const Launch& launch, unsigned blocks, Sample sample)
    : classes(sample.weights.size()), streams(sample.threadgroups.size()), sample_(std::move(sample)), blocks_(blocks) {
  for (const BufferUse& use : launch.buffers) {
    const BufferBinding& b = launch.dispatch->buffers[use.index];
    const uint64_t base = reinterpret_cast<uint64_t>(b.base);
    if (b.base) buffers_.push_back({base + b.offset, base + b.length, use.constant});
  }
}

uint64_t Collector::bound_bytes() const {
  std::vector<std::pair<uint64_t, uint64_t>> lines;
  for (const Buffer& b : buffers_) {
    if (!b.constant) lines.push_back({b.begin / kLineBytes, (b.end + kLineBytes - 1) / kLineBytes});
  }
  std::sort(lines.begin(), lines.end());
  uint64_t count = 0, end = 0;
  for (const auto& [first, last] : lines) {
    count += std::max(end, last) - std::max(end, first);
    end = std::max(end, last);
  }
  return count * kLineBytes;
}

GroupCounter::GroupCounter(Collector& collector, const Worker& w)
    : Counting{}, collector_(collector), classes_(collector.classes.size()), lines_(1024) {
  const unsigned threads = w.dispatch_threads_per_threadgroup.x * w.dispatch_threads_per_threadgroup.y *
                           w.dispatch_threads_per_threadgroup.z;
  blocks = collector.blocks_;
  block_counts_.resize(size_t{threads} * blocks);
  executions = block_counts_.data();
  logs_.resize(threads, std::vector<Access>(kFirstLog));
  for (Counts& c : classes_) {
    c.executed.resize(blocks);
    c.issued.resize(blocks);
  }
  Counting::grow = [](Worker& worker, unsigned thread) {
    GroupCounter& c = counter_of(worker);
    std::vector<Access>& log = c.logs_[thread];
    const size_t used = log.size();
    log.resize(2 * used);
    c.next[thread] = log.data() + used;
    c.end[thread] = log.data() + log.size();
  };
  Counting::barrier = [](Worker& worker) {
    GroupCounter& c = counter_of(worker);
    ++c.group_.barriers;
    for (unsigned s = 0; s * kSimdWidth < worker.threads; ++s) {
      const unsigned first = s * kSimdWidth;
      if (c.next[first] - c.logs_[first].data() > static_cast<ptrdiff_t>(kFlushAt)) c.flush(worker, s);
    }
  };
  new_matrix = [](Worker& worker) {
    GroupCounter& c = counter_of(worker);
    if (c.free_.empty()) {
      constexpr size_t count = 256;
      c.pool_.emplace_back(new unsigned char[(count + 1) * kMatrixBytes]);
      const auto at = (reinterpret_cast<uintptr_t>(c.pool_.back().get()) + kMatrixBytes - 1) & ~(kMatrixBytes - 1);
      for (size_t i = 0; i < count; ++i) c.free_.push_back(reinterpret_cast<void*>(at + i * kMatrixBytes));
    }
    void* matrix = c.free_.back();
    c.free_.pop_back();
    return matrix;
  };
  delete_matrix = [](Worker& worker, void* matrix) { counter_of(worker).free_.push_back(matrix); };
}

GroupCounter::~GroupCounter() {
  std::lock_guard<std::mutex> lock(collector_.mutex_);
  for (size_t i = 0; i < classes_.size(); ++i) collector_.classes[i].add(classes_[i]);
}

void GroupCounter::begin_threadgroup() {
  for (unsigned t = 0; t < logs_.size(); ++t) {
    next[t] = logs_[t].data();
    end[t] = next[t] + logs_[t].size();
  }
  finished_ = {};
  std::fill(std::begin(matrix_bytes), std::end(matrix_bytes), 0);
  most_matrix_bytes = 0;
  group_ = {};
  recent_ = {};
  stream_ = {};
  used_lines_ = 0;
  ++epoch_;
}

void GroupCounter::finish_thread(const Worker& w, unsigned thread) {
  const unsigned simdgroup = thread / kSimdWidth;
  if (++finished_[simdgroup] == lanes_of(w, simdgroup)) flush(w, simdgroup);
}

void GroupCounter::end_threadgroup(const Worker& w, uint64_t i) {
  Counts& counts = classes_[collector_.sample_.classes[i]];
  for (unsigned s = 0; s * kSimdWidth < w.threads; ++s) {
    unsigned* of = executions + size_t{s} * kSimdWidth * blocks;
    const unsigned lanes = lanes_of(w, s);
    for (unsigned b = 0; b < blocks; ++b) {
      uint64_t sum = 0;
      unsigned most = 0;
      for (unsigned l = 0; l < lanes; ++l) {
        const unsigned n = of[size_t{l} * blocks + b];
        sum += n;
        most = std::max(most, n);
      }
      counts.executed[b] += sum;
      counts.issued[b] += most;
    }
    std::fill_n(of, size_t{lanes} * blocks, 0);
  }
  group_.threadgroups = 1;
  group_.lines = used_lines_;
  group_.matrix_bytes = most_matrix_bytes;
  counts.add(group_);
  for (uint64_t& event : stream_.events) {
    if (!(event & 2)) continue;
    const LineMask& mask = line(event >> 2).mask;
    if (mask == LineMask{UINT64_MAX, UINT64_MAX}) {
      event |= 1;
    } else {
      stream_.masks.push_back(mask);
    }
  }
  stream_.events.shrink_to_fit();
  collector_.streams[i] = std::move(stream_);
}

// Lanes go through the program together, as on a GPU: those that are furthest behind in its text come first.
void GroupCounter::flush(const Worker& w, unsigned simdgroup) {
  const unsigned lanes = lanes_of(w, simdgroup), first = simdgroup * kSimdWidth;
  const Access* at[kSimdWidth];
  const Access* stop[kSimdWidth];
  for (unsigned l = 0; l < lanes; ++l) {
    at[l] = logs_[first + l].data();
    stop[l] = next[first + l];
    group_.accesses += static_cast<uint64_t>(stop[l] - at[l]);
    next[first + l] = logs_[first + l].data();
  }
  while (true) {
    unsigned what = UINT32_MAX;
    for (unsigned l = 0; l < lanes; ++l) {
      if (at[l] != stop[l]) what = std::min(what, at[l]->what);
    }
    if (what == UINT32_MAX) return;
    uint64_t addresses[kSimdWidth];
    unsigned count = 0;
    for (unsigned l = 0; l < lanes; ++l) {
      if (at[l] != stop[l] && at[l]->what == what) addresses[count++] = at[l]++->address;
    }
    access(w, addresses, count, what);
  }
}

void GroupCounter::access(const Worker& w, uint64_t* addresses, unsigned count, unsigned what) {
  const uint64_t bytes = what >> 1 & ((1u << (msl_runtime::kInstructionShift - 1)) - 1);
  const bool write = what & 1;
  const bool row = what >> msl_runtime::kInstructionShift == msl_runtime::kMatrixRow;
  const uint64_t executed = row ? kSimdWidth : 8 * count, issued = row ? 1 : 8;
  bool ascending = true;
  for (unsigned i = 1; i < count; ++i) ascending &= addresses[i - 1] < addresses[i];
  if (!ascending) {
    std::sort(addresses, addresses + count);
    count = static_cast<unsigned>(std::unique(addresses, addresses + count) - addresses);
  }
  const uint64_t arena = reinterpret_cast<uint64_t>(w.arena);
  if (addresses[0] - arena < msl_runtime::kArenaBytes) {
    group_.threadgroup_bytes += count * bytes;
    group_.executed_accesses += executed;
    group_.issued_accesses += issued;
    return;
  }
  const Collector::Buffer* b = buffer(addresses[0]);
  if (!b) return;  // a table in the kernel's code
  if (b->constant) {
    group_.constant_bytes += count * bytes;
    return;
  }
  group_.device_bytes += count * bytes;
  group_.executed_accesses += executed;
  group_.issued_accesses += issued;
  for (unsigned i = 0; i < count;) {
    const uint64_t number = addresses[i] / kLineBytes;
    LineMask mask = {};
    uint64_t over = 0;  // bytes of the last one that lie in the next line
    for (; i < count && addresses[i] / kLineBytes == number; ++i) {
      const uint64_t begin = addresses[i] % kLineBytes, stop = std::min(begin + bytes, kLineBytes);
      over = begin + bytes - stop;
      for (uint64_t k = begin; write && k < stop; ++k) mask[k / 64] |= uint64_t{1} << k % 64;
    }
    touch(number, write, mask);
    if (over) touch(number + 1, write, {(uint64_t{1} << over) - 1, 0});
  }
}

void GroupCounter::touch(uint64_t number, bool write, const LineMask& mask) {
  Line& l = line(number);
  if (!write) {
    uint64_t& recent = recent_[number % recent_.size()];
    if (recent == number) return;
    recent = number;
    stream_.events.push_back(number << 2);
    return;
  }
  for (int i : {0, 1}) l.mask[i] |= mask[i];
  if (l.written) return;
  l.written = true;
  stream_.events.push_back(number << 2 | 2);
}

GroupCounter::Line& GroupCounter::line(uint64_t number) {
  const auto find = [this](std::vector<Line>& lines, uint64_t n) -> Line& {
    size_t at = (n * 0x9e3779b97f4a7c15u) >> 20 & (lines.size() - 1);
    while (lines[at].epoch == epoch_ && lines[at].line != n) at = (at + 1) & (lines.size() - 1);
    return lines[at];
  };
  Line& found = find(lines_, number);
  if (found.epoch == epoch_) return found;
  if (2 * (used_lines_ + 1) > lines_.size()) {
    std::vector<Line> larger(2 * lines_.size());
    for (const Line& l : lines_) {
      if (l.epoch == epoch_) find(larger, l.line) = l;
    }
    lines_.swap(larger);
    return line(number);
  }
  ++used_lines_;
  return found = {number, epoch_, false, {}};
}

const Collector::Buffer* GroupCounter::buffer(uint64_t address) {
  const auto holds = [address](const Collector::Buffer& b) { return address >= b.begin && address < b.end; };
  const auto& buffers = collector_.buffers_;
  if (last_buffer_ < buffers.size() && holds(buffers[last_buffer_])) return &buffers[last_buffer_];
  for (last_buffer_ = 0; last_buffer_ < buffers.size(); ++last_buffer_) {
    if (holds(buffers[last_buffer_])) return &buffers[last_buffer_];
  }
  return nullptr;
}

namespace {

// Adds the counts of a sample, scaled to the grid.
void fill(Counters& counters, const Collector& collector, uint32_t blocks, const BlockCost* costs) {
  counters.operations.clear();
  for (const char* name : kOperationNames) counters.operations.push_back({name, 0, 0});
  counters.operations.push_back({"access", 0, 0});
  for (size_t i = 0; i < collector.classes.size(); ++i) {
    const Counts& c = collector.classes[i];
    const double weight = collector.sample().weights[i];
    for (unsigned k = 0; k < kOperations; ++k) {
      uint64_t executed = 0, issued = 0;
      for (uint32_t b = 0; b < std::min<size_t>(blocks, c.executed.size()); ++b) {
        executed += c.executed[b] * costs[b][k];
        issued += c.issued[b] * costs[b][k];
      }
      counters.operations[k].executed += weight * static_cast<double>(executed);
      counters.operations[k].issued += weight * static_cast<double>(issued * kSimdWidth);
    }
    counters.operations[kOperations].executed += weight * static_cast<double>(c.executed_accesses) / 8;
    counters.operations[kOperations].issued += weight * static_cast<double>(c.issued_accesses * kSimdWidth) / 8;
    counters.device_bytes += weight * static_cast<double>(c.device_bytes);
    counters.constant_bytes += weight * static_cast<double>(c.constant_bytes);
    counters.threadgroup_bytes += weight * static_cast<double>(c.threadgroup_bytes);
    counters.lines += weight * static_cast<double>(c.lines);
    counters.barriers += weight * static_cast<double>(c.barriers);
    counters.matrix_bytes = std::max(counters.matrix_bytes, c.matrix_bytes);
    counters.counted += c.threadgroups;
  }
}

}  // namespace

Counters count_dispatch(Launch& launch, uint32_t blocks, const BlockCost* costs, uint64_t accesses) {
  const Uint3 &n = launch.dispatch->threads_per_grid, &g = launch.dispatch->threads_per_threadgroup;
  const Uint3 grid = {n.x / g.x + (n.x % g.x != 0), n.y / g.y + (n.y % g.y != 0), n.z / g.z + (n.z % g.z != 0)};
  Counters counters;
  counters.threadgroups = grid.volume();
  counters.threads_per_threadgroup = static_cast<uint32_t>(g.volume());
  counters.threadgroup_memory = launch.arena_bytes;
  const auto run = [&](Collector& collector) {
    launch.collector = &collector;
    execute(launch);
  };

  uint64_t in_a_row = grid.volume();
  bool dear = false;  // a threadgroup that is a program of its own: none of its class runs twice
  if (accesses != 0) {
    Collector probe(launch, blocks, first_threadgroups(grid, 1));
    run(probe);
    const uint64_t affordable = accesses / (probe.classes[0].accesses + 1);
    if (affordable < grid.volume()) {
      // Also of the dear ones, those that share what they read in x and y.
      constexpr uint64_t kAtLeast = 16, kClasses = 27;
      in_a_row = std::max(affordable, std::min(kAtLeast, 2 * uint64_t{grid.x} * grid.y));
      in_a_row = std::min(in_a_row, grid.volume());
      dear = affordable < kClasses;
    }
  }
  const bool whole = in_a_row == grid.volume();
  if (!whole && !dear) {
    Collector part(launch, blocks, sampled_threadgroups(grid));
    run(part);
    fill(counters, part, blocks, costs);
  }
  Collector first(launch, blocks,
                  whole  ? all_threadgroups(grid)
                  : dear ? first_and_others(grid, in_a_row)
                         : first_threadgroups(grid, in_a_row));
  run(first);
  if (whole || dear) {
    fill(counters, first, blocks, costs);
    first.streams.resize(first_threadgroups(grid, in_a_row).threadgroups.size());
  } else {
    for (const Counts& c : first.classes) counters.counted += c.threadgroups;
  }
  const auto streams = std::make_shared<const LineStreams>(std::move(first.streams));
  counters.traffic = [streams, all = grid.volume(), bound = first.bound_bytes()](uint64_t cache_bytes,
                                                                                 uint64_t in_flight) {
    Traffic t = streams->traffic(cache_bytes, in_flight, all);
    if (bound <= cache_bytes) {  // nothing ever has to leave, whatever the part that ran lets expect
      t.read = std::min(t.read, static_cast<double>(bound));
      t.written = std::min(t.written, static_cast<double>(bound));
    }
    return t;
  };
  return counters;
}

}  // namespace mps_simulator::msl
