#include "torch/device.h"

#include <ATen/mps/MPSDevice.h>
#import <Metal/Metal.h>

#include "foundation/machine.h"

namespace mps_simulator {

size_t max_buffer_length() { return [at::mps::MPSDevice::getInstance()->device() maxBufferLength]; }

}  // namespace mps_simulator

namespace at::mps {

MPSDevice* MPSDevice::_device = nullptr;

// Leaked, as everything that work in flight at exit may use.
MPSDevice* MPSDevice::getInstance() {
  static const bool once = [] {
    _device = new MPSDevice;
    return true;
  }();
  (void)once;
  return _device;
}

MPSDevice::MPSDevice() : _mtl_device(MTLCreateSystemDefaultDevice()) {}

MPSDevice::~MPSDevice() { [_mtl_device release]; }

bool MPSDevice::isMacOS13Plus(MacOSVersion version) const {
  switch (version) {
    case MacOSVersion::MACOS_VER_14_4_PLUS:
      return mps_simulator::macos_is_at_least(14, 4);
    case MacOSVersion::MACOS_VER_15_0_PLUS:
      return mps_simulator::macos_is_at_least(15, 0);
    case MacOSVersion::MACOS_VER_15_1_PLUS:
      return mps_simulator::macos_is_at_least(15, 1);
    case MacOSVersion::MACOS_VER_15_2_PLUS:
      return mps_simulator::macos_is_at_least(15, 2);
    case MacOSVersion::MACOS_VER_26_0_PLUS:
      return mps_simulator::macos_is_at_least(26, 0);
    case MacOSVersion::MACOS_VER_26_4_PLUS:
      return mps_simulator::macos_is_at_least(26, 4);
  }
  return false;
}

std::string MPSDevice::getName() const {
  @autoreleasepool {
    return [[_mtl_device name] UTF8String];
  }
}

unsigned MPSDevice::getCoreCount() const { return mps_simulator::gpu().cores; }

bool is_available() { return MPSDevice::getInstance()->device() != nil; }

bool is_macos_13_or_newer(MacOSVersion version) { return MPSDevice::getInstance()->isMacOS13Plus(version); }

bool is_apple_family_or_newer(AppleGPUFamily family) {
  return [MPSDevice::getInstance()->device() supportsFamily:static_cast<MTLGPUFamily>(family)];
}

}  // namespace at::mps
