// What a dispatch did, counted: simulator/docs/counters.md.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "../../include/metal/_msl/counting.h"
#include "instrument.h"
#include "line_cache.h"
#include "msl.h"

namespace mps_simulator::msl {

struct Launch;

// Numbers of threadgroups that ran.
struct Counts {
  std::vector<uint64_t> executed, issued;  // of each block: by lanes, and by simdgroups with a lane in it
  uint64_t device_bytes = 0, constant_bytes = 0, threadgroup_bytes = 0;
  // Loads and stores, of any size: by lanes, and by simdgroups. Eighths: rows of matrices are logged one by one.
  uint64_t executed_accesses = 0, issued_accesses = 0;
  uint64_t lines = 0, barriers = 0, threadgroups = 0;
  unsigned matrix_bytes = 0;  // the most that a lane held parts of at a time
  uint64_t accesses = 0;      // logged: what counting costs

  void add(const Counts& other);
};

// Which threadgroups of a grid run, and to which class each belongs. Threadgroups of a class are taken to count alike:
// along each axis the first, the last, and those between.
struct Sample {
  std::vector<uint64_t> threadgroups;  // in the order of dispatch
  std::vector<uint32_t> classes;
  std::vector<double> weights;  // of a class: its threadgroups in the grid, for each of those that run
};
Sample all_threadgroups(const Uint3& grid);
Sample sampled_threadgroups(const Uint3& grid);
// The first threadgroups, about `count`: whole rows or planes of the grid where two of them fit.
Sample first_threadgroups(const Uint3& grid, uint64_t count);
// The same, with their classes, and behind them one threadgroup of each class that they have none of.
Sample first_and_others(const Uint3& grid, uint64_t count);

// The counters of the threadgroups of a sample, filled by the executor.
class Collector {
 public:
  Collector(const Launch& launch, unsigned blocks, Sample sample);

  const Sample& sample() const { return sample_; }
  // Of all lines of the buffers that are not `constant`.
  uint64_t bound_bytes() const;
  std::vector<Counts> classes;
  std::vector<LineStream> streams;

 private:
  friend class GroupCounter;
  struct Buffer {
    uint64_t begin, end;
    bool constant;
  };
  Sample sample_;
  unsigned blocks_;
  std::vector<Buffer> buffers_;
  std::mutex mutex_;
};

// Counts what one CPU thread runs.
class GroupCounter : public msl_runtime::Counting {
 public:
  GroupCounter(Collector& collector, const msl_runtime::Worker& worker);
  ~GroupCounter();
  GroupCounter(const GroupCounter&) = delete;

  void begin_threadgroup();
  void finish_thread(const msl_runtime::Worker& worker, unsigned thread);
  // `i`: its place in the sample.
  void end_threadgroup(const msl_runtime::Worker& worker, uint64_t i);

 private:
  using Access = msl_runtime::LoggedAccess;
  // A line of the threadgroup's.
  struct Line {
    uint64_t line = 0;
    uint32_t epoch = 0;
    bool written = false;
    LineMask mask = {};
  };

  void flush(const msl_runtime::Worker& worker, unsigned simdgroup);
  void access(const msl_runtime::Worker& worker, uint64_t* addresses, unsigned count, unsigned what);
  void touch(uint64_t line, bool write, const LineMask& mask);
  Line& line(uint64_t number);
  const Collector::Buffer* buffer(uint64_t address);

  Collector& collector_;
  std::vector<Counts> classes_;
  Counts* now_ = nullptr;  // of the class of the threadgroup in flight
  Counts group_;           // of the threadgroup in flight, without blocks
  std::vector<unsigned> block_counts_;
  std::vector<std::vector<Access>> logs_;
  std::array<unsigned, msl_runtime::kSimdgroups> finished_{};
  size_t last_buffer_ = 0;
  std::vector<Line> lines_;
  size_t used_lines_ = 0;
  uint32_t epoch_ = 0;
  std::array<uint64_t, 64> recent_{};  // lines read of late, as an L1 would still hold them
  LineStream stream_;
  std::vector<std::unique_ptr<unsigned char[]>> pool_;
  std::vector<void*> free_;
};

// Runs and counts a dispatch, as Pipeline::count() says, with code that has this table of costs.
Counters count_dispatch(Launch& launch, uint32_t blocks, const BlockCost* costs, uint64_t accesses);

}  // namespace mps_simulator::msl
