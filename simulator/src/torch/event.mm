#include "torch/event.h"

#import <Metal/Metal.h>

#include <condition_variable>
#include <mutex>

#include "torch/stream.h"

namespace mps_simulator {

// Shared with the completion handler, which may run after the event is gone.
struct Event::Mark {
  std::mutex mutex;
  std::condition_variable reached;
  bool done = false;
  double gpu_time = 0;  // seconds

  void finish(double time) {
    std::lock_guard<std::mutex> lock(mutex);
    done = true;
    gpu_time = time;
    reached.notify_all();
  }

  double wait() {
    std::unique_lock<std::mutex> lock(mutex);
    reached.wait(lock, [this] { return done; });
    return gpu_time;
  }
};

Event::Event(bool enable_timing)
    : enable_timing_(enable_timing), shared_event_([at::mps::MPSDevice::getInstance()->device() newSharedEvent]) {}

Event::~Event() { [(id<MTLSharedEvent>)shared_event_ release]; }

void Event::record(at::mps::MPSStream* stream) {
  stream_ = stream;
  mark_ = std::make_shared<Mark>();
  run_on_queue(stream, [this] {
    stream_->endKernelCoalescing();
    MPSCommandBuffer* buffer = stream_->commandBuffer();
    [buffer encodeSignalEvent:(id<MTLSharedEvent>)shared_event_ value:++value_];
    auto mark = mark_;
    [buffer addCompletedHandler:^(id<MTLCommandBuffer> completed) {
      mark->finish([completed GPUEndTime]);
    }];
    stream_->synchronize(at::mps::SyncType::COMMIT);
  });
}

void Event::wait(at::mps::MPSStream* stream) const {
  if (!mark_) return;
  run_on_queue(stream, [this, stream] {
    stream->endKernelCoalescing();
    [stream->commandBuffer() encodeWaitForEvent:(id<MTLSharedEvent>)shared_event_ value:value_];
  });
}

bool Event::query() const {
  if (!mark_) return true;
  std::lock_guard<std::mutex> lock(mark_->mutex);
  return mark_->done;
}

void Event::synchronize() const {
  if (!mark_) return;
  mark_->wait();
  raise_faults(stream_);
}

double Event::elapsed_time(const Event& end) const {
  TORCH_CHECK(enable_timing_ && end.enable_timing_, "Events were not created with argument 'enable_timing=True'");
  TORCH_CHECK(mark_ && end.mark_, "Both events must be recorded before calculating elapsed time.");
  const double started = mark_->wait();
  return (end.mark_->wait() - started) * 1e3;
}

}  // namespace mps_simulator
