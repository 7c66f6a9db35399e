// The checks of a running kernel: what is checked, and what a finding says (simulator/docs/checks.md).
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "../../include/metal/_msl/shadow.h"
#include "executor.h"

namespace mps_simulator::msl {

// The order in which threadgroups, and the threads of each, come to run: MPS_SIMULATOR_ORDER.
struct Order {
  enum Kind { forward, reverse, random } kind = forward;
  uint64_t seed = 0;
  static const Order& of_environment();

  // The threadgroup to run as number `i` of `total`.
  uint64_t threadgroup(uint64_t i, uint64_t total) const;
  // The order of `threads` threads: simdgroups as wholes, as simdgroup operations need, and an incomplete one last.
  void threads(uint64_t threadgroup, unsigned threads, unsigned short* order) const;
};

// Kernels are compiled with their checks, unless MPS_SIMULATOR_CHECKS is "0".
bool checks_enabled();

struct Shadow {
  msl_runtime::DeviceCell* at;
  size_t cells;
  unsigned generation;
};

// Who wrote and read the memory from `begin` to `end`, in the dispatches whose threadgroups bear numbers from
// `first_group` on.
struct RangeShadow {
  RangeShadow(uint64_t begin, uint64_t end, uint64_t first_group);
  ~RangeShadow();
  RangeShadow(const RangeShadow&) = delete;

  const uint64_t begin, end, first_group;
  const Shadow writes, reads;
};

class Unordered {
 public:
  Unordered(std::shared_ptr<Unordered> before, std::vector<uint64_t> ordered);

  // The shadow of this memory that all dispatches share which nothing orders.
  std::shared_ptr<RangeShadow> shadow(uint64_t begin, uint64_t end, uint64_t first_group);

 private:
  std::shared_ptr<RangeShadow> find(uint64_t begin, uint64_t end) const;

  const std::shared_ptr<Unordered> before_;
  const std::vector<uint64_t> ordered_;
  std::vector<std::shared_ptr<RangeShadow>> shadows_;
};

// The memory of a dispatch, for all workers.
class DispatchMemory {
 public:
  DispatchMemory(const Launch& launch, uint64_t threadgroups);
  DispatchMemory(const DispatchMemory&) = delete;

  // Makes `checks` those of a worker that begins with this dispatch.
  void begin(msl_runtime::Checks& checks) const;

 private:
  std::vector<msl_runtime::Bound> bounds_;
  const std::vector<msl_runtime::Piece> pieces_;
  std::vector<std::shared_ptr<RangeShadow>> shadows_;
  std::vector<std::shared_ptr<unsigned char[]>> written_;
  uint64_t first_group_;
  size_t arena_bytes_;
};

// Before and after each threadgroup.
void begin_threadgroup(msl_runtime::Checks& checks, uint64_t index);
void end_threadgroup(msl_runtime::Worker& worker);

// What the check refused, in words: where, what, which memory.
std::string describe(const msl_runtime::Worker& worker);

// What a signal stopped, in words.
std::string describe_signal(const msl_runtime::Worker& worker);

// Which lanes did not do the matrix operations of their simdgroup.
std::string describe_matrices(const msl_runtime::Worker& worker);

// "thread (1, 0, 0)".
std::string thread_name(const msl_runtime::Worker& worker, unsigned index);

}  // namespace mps_simulator::msl
