// Memory of the device.
#pragma once

#import <Metal/Metal.h>

#include <cstddef>
#include <functional>
#include <memory>

#include "../msl/buffer_memory.h"

namespace mps_simulator {

// All of a buffer's memory, of private storage too, for which -contents is null.
std::byte* host_memory(id<MTLBuffer> buffer);

// What is known of that memory. Whoever writes to it tells so there.
const std::shared_ptr<msl::BufferMemory>& memory_of(id<MTLBuffer> buffer);

// A buffer around memory of any alignment, where newBufferWithBytesNoCopy wants whole pages. `release` runs when the
// last reference to the buffer is gone.
id<MTLBuffer> new_buffer_around(void* memory, size_t length, std::function<void()> release) NS_RETURNS_RETAINED;

// The sum of the lengths of all buffers.
size_t allocated_bytes();

}  // namespace mps_simulator

@interface SimulatedBuffer : NSObject <MTLBuffer> {
  std::byte* _memory;
  NSUInteger _length;
  MTLResourceOptions _options;
  std::shared_ptr<mps_simulator::msl::BufferMemory>* _state;
  id<MTLHeap> _heap;
  NSString* _label;
}
// nil when there is not that much memory. The contents are not initialised.
- (instancetype)initWithLength:(NSUInteger)length options:(MTLResourceOptions)options heap:(id<MTLHeap>)heap;
- (instancetype)initWithMemory:(void*)memory
                        length:(NSUInteger)length
                       options:(MTLResourceOptions)options
                       release:(std::function<void()>)release;
- (std::byte*)memory;
- (const std::shared_ptr<mps_simulator::msl::BufferMemory>&)state;
@end
