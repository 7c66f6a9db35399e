#import "buffer.h"

#include <atomic>
#include <cstdlib>
#include <cstring>

#include "../foundation/fork.h"
#import "device.h"
#import "heap.h"

namespace mps_simulator {
namespace {

std::atomic<size_t> total_bytes{0};

// Fills fresh memory: a NaN in every floating-point type, so that what a kernel forgot to write shows.
constexpr int kPoison = 0xFF;

// Metal's page on a Mac. Exactly the length is allocated, so that an address sanitizer sees its end.
constexpr size_t kAlignment = 16384;

}  // namespace

std::byte* host_memory(id<MTLBuffer> buffer) { return [static_cast<SimulatedBuffer*>(buffer) memory]; }

const std::shared_ptr<msl::BufferMemory>& memory_of(id<MTLBuffer> buffer) {
  return [static_cast<SimulatedBuffer*>(buffer) state];
}

id<MTLBuffer> new_buffer_around(void* memory, size_t length, std::function<void()> release) {
  return [[SimulatedBuffer alloc] initWithMemory:memory
                                          length:length
                                         options:MTLResourceStorageModeShared
                                         release:std::move(release)];
}

size_t allocated_bytes() { return total_bytes; }

}  // namespace mps_simulator

using namespace mps_simulator;

@implementation SimulatedBuffer

@synthesize label = _label;

- (instancetype)initWithLength:(NSUInteger)length options:(MTLResourceOptions)options heap:(id<MTLHeap>)heap {
  void* memory = nullptr;
  if (posix_memalign(&memory, kAlignment, length) != 0) {
    [self dealloc];
    return nil;
  }
  std::memset(memory, kPoison, length);
  self = [self initWithMemory:memory length:length options:options release:[memory] { std::free(memory); }];
  (*_state)->set_unwritten();
  _heap = [heap retain];
  return self;
}

- (instancetype)initWithMemory:(void*)memory
                        length:(NSUInteger)length
                       options:(MTLResourceOptions)options
                       release:(std::function<void()>)release {
  if ((self = [super init])) {
    _memory = static_cast<std::byte*>(memory);
    _length = length;
    _options = options;
    _state = new std::shared_ptr(std::make_shared<msl::BufferMemory>(length, std::move(release)));
    total_bytes += length;
  }
  return self;
}

- (void)dealloc {
  if (_state) {
    (*_state)->let_go();
    delete _state;
    total_bytes -= _length;
  }
  if (_heap) [static_cast<SimulatedHeap*>(_heap) giveBack:_length];
  [_heap release];
  [_label release];
  [super dealloc];
}

- (std::byte*)memory {
  return _memory;
}

- (const std::shared_ptr<msl::BufferMemory>&)state {
  return *_state;
}

- (NSUInteger)length {
  return _length;
}

- (NSUInteger)allocatedSize {
  return _length;
}

// The device shares the process's address space.
- (uint64_t)gpuAddress {
  return reinterpret_cast<uint64_t>(_memory);
}

// What the host writes there from now on is not seen.
- (void*)contents {
  check_not_forked();
  if ([self storageMode] == MTLStorageModePrivate) return nullptr;
  (*_state)->set_written();
  return _memory;
}

- (void)didModifyRange:(NSRange)range {
  if ([self storageMode] != MTLStorageModeManaged) {
    fail_validation("didModifyRange: is for buffers of managed storage only");
  }
}

- (id<MTLDevice>)device {
  return simulated_device();
}

- (MTLCPUCacheMode)cpuCacheMode {
  return static_cast<MTLCPUCacheMode>(_options & 0xf);
}

- (MTLStorageMode)storageMode {
  return static_cast<MTLStorageMode>(_options >> 4 & 0xf);
}

- (MTLHazardTrackingMode)hazardTrackingMode {
  return static_cast<MTLHazardTrackingMode>(_options >> 8 & 0x3);
}

- (MTLResourceOptions)resourceOptions {
  return _options;
}

- (id<MTLHeap>)heap {
  return _heap;
}

- (NSUInteger)heapOffset {
  return 0;
}

- (MTLPurgeableState)setPurgeableState:(MTLPurgeableState)state {
  return MTLPurgeableStateNonVolatile;
}

@end
