// A point in a stream's work: recorded there, waited for by streams or by the host.
#pragma once

#include <ATen/mps/MPSStream.h>

#include <memory>

namespace mps_simulator {

class Event {
 public:
  explicit Event(bool enable_timing);
  ~Event();
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;

  // Commits what the stream was given so far; the event is reached when that is complete.
  void record(at::mps::MPSStream* stream);
  // What the stream is given from now on waits for the event. Nothing when it was never recorded.
  void wait(at::mps::MPSStream* stream) const;
  // True when it was reached, or never recorded.
  bool query() const;
  // Blocks the host until it is reached; raises the error of a command buffer that failed on the way.
  void synchronize() const;
  // Milliseconds from this event to `end`, for which it waits. Both must have been recorded, with timing.
  double elapsed_time(const Event& end) const;

 private:
  struct Mark;

  bool enable_timing_;
  void* shared_event_;  // id<MTLSharedEvent>
  uint64_t value_ = 0;
  at::mps::MPSStream* stream_ = nullptr;
  std::shared_ptr<Mark> mark_;
};

}  // namespace mps_simulator
