// A list of commands, run in order once it is committed.
#pragma once

#import <Metal/Metal.h>

#include <functional>
#include <memory>

namespace mps_simulator {
struct CommandBufferState;
}

@class SimulatedCommandQueue;

@interface SimulatedCommandBuffer : NSObject <MTLCommandBuffer> {
  mps_simulator::CommandBufferState* _state;
  SimulatedCommandQueue* _queue;
  NSString* _label;
}
- (instancetype)initWithQueue:(SimulatedCommandQueue*)queue descriptor:(MTLCommandBufferDescriptor*)descriptor;

// A number that no other command buffer has, larger than those of the buffers made before.
- (uint64_t)number;

// For encoders. A std::runtime_error that leaves a command ends the buffer with an error.
- (void)append:(std::function<void()>)command;
// Keeps the object until the commands are complete, unless the buffer is one of unretained references.
- (void)hold:(id)object;
- (void)encoderEnded:(id)encoder;

// For the queue, on its thread.
- (void)execute;
@end
