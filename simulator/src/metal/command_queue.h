// Runs command buffers one after another, in the order in which they were enqueued, on a thread of its own.
#pragma once

#import <Metal/Metal.h>

#include <memory>

@class SimulatedCommandBuffer;

namespace mps_simulator {
struct QueueOrder;
}

@interface SimulatedCommandQueue : NSObject <MTLCommandQueue> {
  std::shared_ptr<mps_simulator::QueueOrder>* _order;
  NSUInteger _maxCommandBufferCount;
  NSString* _label;
}
- (instancetype)initWithMaxCommandBufferCount:(NSUInteger)count;
// Gives the buffer its place; nothing when it has one.
- (void)enqueue:(SimulatedCommandBuffer*)buffer;
// It may run when its turn comes.
- (void)commit:(SimulatedCommandBuffer*)buffer;
// It is deallocated, and was not committed.
- (void)abandon:(SimulatedCommandBuffer*)buffer;
@end
