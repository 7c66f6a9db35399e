#import "heap.h"

#import "buffer.h"
#import "device.h"
#import "object_state.h"

using namespace mps_simulator;

namespace {

struct HeapDescriptor {
  NSUInteger size = 0;
  MTLResourceOptions resourceOptions = MTLResourceStorageModePrivate;
  MTLHeapType type = MTLHeapTypeAutomatic;
};

constexpr MTLResourceOptions kCacheMask = 0xf, kStorageMask = 0xf0, kHazardMask = 0x300;

NSUInteger field(MTLResourceOptions options, MTLResourceOptions mask) { return (options & mask) / (mask & -mask); }

MTLResourceOptions with_field(MTLResourceOptions options, MTLResourceOptions mask, NSUInteger value) {
  return (options & ~mask) | value * (mask & -mask);
}

}  // namespace

@implementation MTLHeapDescriptor

MPS_SIMULATOR_STATE(HeapDescriptor)
MPS_SIMULATOR_PROPERTY(HeapDescriptor, NSUInteger, size, Size)
MPS_SIMULATOR_PROPERTY(HeapDescriptor, MTLResourceOptions, resourceOptions, ResourceOptions)
MPS_SIMULATOR_PROPERTY(HeapDescriptor, MTLHeapType, type, Type)

- (MTLStorageMode)storageMode {
  return static_cast<MTLStorageMode>(field(self.resourceOptions, kStorageMask));
}

- (void)setStorageMode:(MTLStorageMode)mode {
  self.resourceOptions = with_field(self.resourceOptions, kStorageMask, mode);
}

- (MTLCPUCacheMode)cpuCacheMode {
  return static_cast<MTLCPUCacheMode>(field(self.resourceOptions, kCacheMask));
}

- (void)setCpuCacheMode:(MTLCPUCacheMode)mode {
  self.resourceOptions = with_field(self.resourceOptions, kCacheMask, mode);
}

- (MTLHazardTrackingMode)hazardTrackingMode {
  return static_cast<MTLHazardTrackingMode>(field(self.resourceOptions, kHazardMask));
}

- (void)setHazardTrackingMode:(MTLHazardTrackingMode)mode {
  self.resourceOptions = with_field(self.resourceOptions, kHazardMask, mode);
}

@end

@implementation SimulatedHeap

@synthesize label = _label;

- (instancetype)initWithDescriptor:(MTLHeapDescriptor*)descriptor {
  if ((self = [super init])) {
    _size = descriptor.size;
    _options = descriptor.resourceOptions;
    _type = descriptor.type;
  }
  return self;
}

- (void)dealloc {
  [_label release];
  [super dealloc];
}

- (id<MTLBuffer>)newBufferWithLength:(NSUInteger)length options:(MTLResourceOptions)options {
  check_buffer_length(length);
  if (field(options, kStorageMask) != field(_options, kStorageMask)) {
    fail_validation("a buffer's storage mode must be that of its heap");
  }
  if (_used.fetch_add(length) + length > _size) {
    _used -= length;
    return nil;
  }
  return [[SimulatedBuffer alloc] initWithLength:length options:options heap:self];
}

- (void)giveBack:(NSUInteger)length {
  _used -= length;
}

- (id<MTLDevice>)device {
  return simulated_device();
}

- (MTLStorageMode)storageMode {
  return static_cast<MTLStorageMode>(field(_options, kStorageMask));
}

- (MTLCPUCacheMode)cpuCacheMode {
  return static_cast<MTLCPUCacheMode>(field(_options, kCacheMask));
}

- (MTLHazardTrackingMode)hazardTrackingMode {
  return static_cast<MTLHazardTrackingMode>(field(_options, kHazardMask));
}

- (MTLResourceOptions)resourceOptions {
  return _options;
}

- (MTLHeapType)type {
  return _type;
}

- (NSUInteger)size {
  return _size;
}

- (NSUInteger)usedSize {
  return _used;
}

- (NSUInteger)currentAllocatedSize {
  return _used;
}

- (NSUInteger)allocatedSize {
  return _size;
}

- (NSUInteger)maxAvailableSizeWithAlignment:(NSUInteger)alignment {
  return (_size - _used) / alignment * alignment;
}

- (MTLPurgeableState)setPurgeableState:(MTLPurgeableState)state {
  return MTLPurgeableStateNonVolatile;
}

@end
