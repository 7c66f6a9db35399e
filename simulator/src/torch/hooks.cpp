#include "torch/hooks.h"

#include <ATen/detail/MPSHooksInterface.h>
#include <ATen/mps/MPSAllocatorInterface.h>
#include <ATen/mps/MPSDevice.h>

#include <functional>
#include <map>
#include <memory>
#include <mutex>

#include "foundation/machine.h"
#include "torch/device.h"
#include "torch/event.h"
#include "torch/generator.h"
#include "torch/pinned.h"
#include "torch/stream.h"

namespace mps_simulator {
namespace {

// torch.mps.Event knows its event by a number.
class Events {
 public:
  uint32_t acquire(bool enable_timing) {
    std::lock_guard<std::mutex> lock(mutex_);
    events_.emplace(++last_id_, std::make_shared<Event>(enable_timing));
    return last_id_;
  }

  void release(uint32_t id) {
    std::lock_guard<std::mutex> lock(mutex_);
    events_.erase(id);
  }

  std::shared_ptr<Event> get(uint32_t id) {
    std::lock_guard<std::mutex> lock(mutex_);
    const auto found = events_.find(id);
    TORCH_CHECK(found != events_.end(), "No MPS event with the id ", id);
    return found->second;
  }

 private:
  std::mutex mutex_;
  std::map<uint32_t, std::shared_ptr<Event>> events_;
  uint32_t last_id_ = 0;
};

Events& events() {
  static auto* leaked = new Events;
  return *leaked;
}

// torch::mps::commit() and get_command_buffer() may be called from inside the queue's block, and from outside.
void run_on_queue_or_here(at::mps::MPSStream* stream, const std::function<void()>& body) {
  on_queue(stream) ? body() : run_on_queue(stream, body);
}

struct Hooks final : at::MPSHooksInterface {
  void init() const override {}
  bool hasMPS() const override { return at::mps::is_available(); }
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return hasMPS(); }
  bool hasPrimaryContext(c10::DeviceIndex) const override { return true; }
  bool isOnMacOSorNewer(unsigned major, unsigned minor) const override { return macos_is_at_least(major, minor); }

  c10::DeviceIndex deviceCount() const override { return hasMPS() ? 1 : 0; }
  void setCurrentDevice(c10::DeviceIndex) const override {}
  c10::DeviceIndex getCurrentDevice() const override { return 0; }
  c10::DeviceIndex exchangeDevice(c10::DeviceIndex) const override { return 0; }
  c10::DeviceIndex maybeExchangeDevice(c10::DeviceIndex) const override { return 0; }
  c10::Device getDeviceFromPtr(void*) const override { return {c10::kMPS, 0}; }

  const at::Generator& getDefaultGenerator(c10::DeviceIndex) const override { return default_generator(); }
  at::Generator getNewGenerator(c10::DeviceIndex) const override { return make_generator(); }

  void deviceSynchronize() const override { synchronize_all(); }
  void commitStream() const override {
    auto* stream = at::mps::getCurrentMPSStream();
    run_on_queue_or_here(stream, [&] { stream->synchronize(at::mps::SyncType::COMMIT); });
  }
  void* getCommandBuffer() const override {
    auto* stream = at::mps::getCurrentMPSStream();
    void* buffer = nullptr;
    run_on_queue_or_here(stream, [&] {
      stream->endKernelCoalescing();  // the caller will open an encoder of its own
      buffer = stream->commandBuffer();
    });
    return buffer;
  }
  void* getDispatchQueue() const override { return static_cast<void*>(at::mps::getCurrentMPSStream()->queue()); }

  at::Allocator* getMPSDeviceAllocator() const override { return at::mps::GetMPSAllocator(); }
  void emptyCache() const override { at::mps::getIMPSAllocator()->emptyCache(); }
  size_t getCurrentAllocatedMemory() const override { return at::mps::getIMPSAllocator()->getCurrentAllocatedMemory(); }
  size_t getDriverAllocatedMemory() const override { return at::mps::getIMPSAllocator()->getDriverAllocatedMemory(); }
  size_t getRecommendedMaxMemory() const override { return at::mps::getIMPSAllocator()->getRecommendedMaxMemory(); }
  size_t getMaxBufferLength() const override { return max_buffer_length(); }
  void setMemoryFraction(double ratio) const override { at::mps::getIMPSAllocator()->setHighWatermarkRatio(ratio); }
  bool isPinnedPtr(const void* data) const override { return is_pinned(data); }
  at::Allocator* getPinnedMemoryAllocator() const override { return pinned_allocator(); }

  // There is no Instruments to send a trace to.
  void profilerStartTrace(const std::string&, bool) const override {}
  void profilerStopTrace() const override {}

  uint32_t acquireEvent(bool enable_timing) const override { return events().acquire(enable_timing); }
  void releaseEvent(uint32_t id) const override { events().release(id); }
  void recordEvent(uint32_t id) const override { events().get(id)->record(at::mps::getCurrentMPSStream()); }
  void waitForEvent(uint32_t id) const override { events().get(id)->wait(at::mps::getCurrentMPSStream()); }
  void synchronizeEvent(uint32_t id) const override { events().get(id)->synchronize(); }
  bool queryEvent(uint32_t id) const override { return events().get(id)->query(); }
  double elapsedTimeOfEvents(uint32_t start, uint32_t end) const override {
    return events().get(start)->elapsed_time(*events().get(end));
  }
};

}  // namespace

void register_hooks() {
  at::MPSHooksRegistry()->Register("MPSHooks", [] { return std::make_unique<Hooks>(); });
}

}  // namespace mps_simulator
