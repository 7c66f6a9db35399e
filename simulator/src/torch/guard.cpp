// The device guard: what torch.Stream, torch.Event, autograd and torch.accelerator call.
#include <ATen/mps/MPSDevice.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>

#include "torch/event.h"
#include "torch/stream.h"

namespace mps_simulator {
namespace {

const c10::Device kDevice(c10::kMPS, 0);

struct GuardImpl final : c10::impl::DeviceGuardImplInterface {
  c10::DeviceType type() const override { return c10::kMPS; }
  c10::Device exchangeDevice(c10::Device) const override { return kDevice; }
  c10::Device getDevice() const override { return kDevice; }
  void setDevice(c10::Device device) const override {
    TORCH_CHECK(device.is_mps(), "Expected a MPS device, but got ", device);
  }
  void uncheckedSetDevice(c10::Device) const noexcept override {}
  c10::DeviceIndex deviceCount() const noexcept override { return 1; }
  c10::DeviceCapability getDeviceCapability(c10::Device) const override {
    c10::DeviceCapability capability;
    auto& bits = capability.capability_data.capability_bits;
    bits = (1ULL << c10::kIndex_Byte) | (1ULL << c10::kIndex_Char) | (1ULL << c10::kIndex_Short) |
           (1ULL << c10::kIndex_Int) | (1ULL << c10::kIndex_Long) | (1ULL << c10::kIndex_Half) |
           (1ULL << c10::kIndex_Float) | (1ULL << c10::kIndex_ComplexHalf) | (1ULL << c10::kIndex_ComplexFloat) |
           (1ULL << c10::kIndex_Bool) | (1ULL << c10::kIndex_BFloat16) | (1ULL << c10::kIndex_UInt16) |
           (1ULL << c10::kIndex_UInt32) | (1ULL << c10::kIndex_UInt64);
    return capability;
  }

  c10::Stream getStream(c10::Device) const override { return current_stream(); }
  c10::Stream getDefaultStream(c10::Device) const override { return c10::Stream(c10::Stream::UNSAFE, kDevice, 0); }
  c10::Stream getNewStream(c10::Device, int) const override { return next_stream()->unwrap(); }
  c10::Stream getStreamFromGlobalPool(c10::Device, bool) const override { return next_stream()->unwrap(); }
  c10::Stream exchangeStream(c10::Stream stream) const override {
    return exchange_current_stream(get_stream(stream.id()))->unwrap();
  }
  void* getStreamNativeHandle(const c10::Stream stream) const override {
    return static_cast<void*>(get_stream(stream.id())->commandQueue());
  }
  bool queryStream(const c10::Stream& stream) const override { return idle(get_stream(stream.id())); }
  void synchronizeStream(const c10::Stream& stream) const override { synchronize(get_stream(stream.id())); }
  void synchronizeDevice(const c10::DeviceIndex) const override { synchronize_all(); }

  void record(void** event, const c10::Stream& stream, const c10::DeviceIndex,
              const c10::EventFlag flag) const override {
    if (!*event) *event = new Event(flag == c10::EventFlag::BACKEND_DEFAULT);
    static_cast<Event*>(*event)->record(get_stream(stream.id()));
  }
  void block(void* event, const c10::Stream& stream) const override {
    if (event) static_cast<Event*>(event)->wait(get_stream(stream.id()));
  }
  bool queryEvent(void* event) const override { return !event || static_cast<Event*>(event)->query(); }
  void synchronizeEvent(void* event) const override {
    if (event) static_cast<Event*>(event)->synchronize();
  }
  void destroyEvent(void* event, const c10::DeviceIndex) const noexcept override { delete static_cast<Event*>(event); }
  double elapsedTime(void* start, void* end, const c10::DeviceIndex) const override {
    TORCH_CHECK(start && end, "Both events must be recorded before calculating elapsed time.");
    return static_cast<Event*>(start)->elapsed_time(*static_cast<Event*>(end));
  }
};

C10_REGISTER_GUARD_IMPL(MPS, GuardImpl)

}  // namespace
}  // namespace mps_simulator
