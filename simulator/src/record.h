// What ran, in order: the log behind mps_simulator.record().
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "msl/msl.h"

namespace mps_simulator {

// One compute dispatch that the device executed.
struct DispatchRecord {
  std::string kernel;            // the Metal function's name
  std::string label;             // the pipeline's or encoder's label, may be empty
  std::array<uint64_t, 3> grid;  // threads, as Metal's threadsPerGrid
  std::array<uint64_t, 3> threads_per_threadgroup;
  uint64_t command_buffer;   // numbers grow with the buffers that are made
  uint32_t barriers_before;  // memory barriers for buffers since the encoder's dispatch before this one, or its begin
  std::shared_ptr<const uint32_t> barriers_after;  // until its next one, or its end
  std::shared_ptr<const msl::Counters> counters;   // null: not asked for
};

// Both logs are off until a recording is open; recordings nest, and each sees what happened since it opened.
// Thread-safe. A recording is a position in the log, taken with open() and given back to close().
class Recorder {
 public:
  static Recorder& instance();

  struct Recording {
    std::vector<DispatchRecord> dispatches;
    std::vector<std::string> operators;  // of those that ran on the CPU, "aten::add.Tensor"
  };

  // `counting`: dispatches run with counters, on a part of a large grid if it is not 0 (msl::Pipeline::count).
  uint64_t open(std::optional<uint64_t> counting = std::nullopt);
  Recording close(uint64_t recording);

  bool recording() const;                    // cheap: asked before a record is built
  std::optional<uint64_t> counting() const;  // as the last open recording that counts
  void add(DispatchRecord dispatch);
  void add_operator(std::string name);
};

}  // namespace mps_simulator
