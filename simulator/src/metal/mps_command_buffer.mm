#import <MetalPerformanceShaders/MetalPerformanceShaders.h>

#include "../foundation/validation.h"
#import "object_state.h"
#import "reference.h"

using namespace mps_simulator;

namespace {

struct Wrapped {
  Reference<id<MTLCommandBuffer>> buffer;
};

}  // namespace

@implementation MPSCommandBuffer

MPS_SIMULATOR_STATE(Wrapped)

+ (instancetype)commandBufferWithCommandBuffer:(id<MTLCommandBuffer>)buffer {
  return [[[self alloc] initWithCommandBuffer:buffer] autorelease];
}

+ (instancetype)commandBufferFromCommandQueue:(id<MTLCommandQueue>)queue {
  return [self commandBufferWithCommandBuffer:[queue commandBuffer]];
}

- (instancetype)initWithCommandBuffer:(id<MTLCommandBuffer>)buffer {
  if (!buffer) fail_validation("MPSCommandBuffer: the command buffer is nil");
  if ((self = [super init])) state_of<Wrapped>(self).buffer = buffer;
  return self;
}

- (id<MTLCommandBuffer>)commandBuffer {
  return state_of<Wrapped>(self).buffer;
}

- (id<MTLCommandBuffer>)rootCommandBuffer {
  id<MTLCommandBuffer> buffer = self.commandBuffer;
  if (![buffer isKindOfClass:[MPSCommandBuffer class]]) return buffer;
  return [static_cast<MPSCommandBuffer*>(buffer) rootCommandBuffer];
}

- (void)commitAndContinue {
  id<MTLCommandBuffer> buffer = self.commandBuffer;
  if ([buffer isKindOfClass:[MPSCommandBuffer class]]) {
    [static_cast<MPSCommandBuffer*>(buffer) commitAndContinue];
    return;
  }
  id<MTLCommandQueue> queue = buffer.commandQueue;
  const BOOL retained = buffer.retainedReferences;
  [buffer commit];
  state_of<Wrapped>(self).buffer = retained ? [queue commandBuffer] : [queue commandBufferWithUnretainedReferences];
}

- (id<MTLDevice>)device {
  return self.commandBuffer.device;
}

- (id<MTLCommandQueue>)commandQueue {
  return self.commandBuffer.commandQueue;
}

- (BOOL)retainedReferences {
  return self.commandBuffer.retainedReferences;
}

- (MTLCommandBufferErrorOption)errorOptions {
  return self.commandBuffer.errorOptions;
}

- (NSString*)label {
  return self.commandBuffer.label;
}

- (void)setLabel:(NSString*)label {
  self.commandBuffer.label = label;
}

- (CFTimeInterval)kernelStartTime {
  return self.commandBuffer.kernelStartTime;
}

- (CFTimeInterval)kernelEndTime {
  return self.commandBuffer.kernelEndTime;
}

- (CFTimeInterval)GPUStartTime {
  return self.commandBuffer.GPUStartTime;
}

- (CFTimeInterval)GPUEndTime {
  return self.commandBuffer.GPUEndTime;
}

- (MTLCommandBufferStatus)status {
  return self.commandBuffer.status;
}

- (NSError*)error {
  return self.commandBuffer.error;
}

- (void)enqueue {
  [self.commandBuffer enqueue];
}

- (void)commit {
  [self.commandBuffer commit];
}

- (void)addScheduledHandler:(MTLCommandBufferHandler)handler {
  [self.commandBuffer addScheduledHandler:handler];
}

- (void)addCompletedHandler:(MTLCommandBufferHandler)handler {
  [self.commandBuffer addCompletedHandler:handler];
}

- (void)waitUntilScheduled {
  [self.commandBuffer waitUntilScheduled];
}

- (void)waitUntilCompleted {
  [self.commandBuffer waitUntilCompleted];
}

- (id<MTLBlitCommandEncoder>)blitCommandEncoder {
  return [self.commandBuffer blitCommandEncoder];
}

- (id<MTLComputeCommandEncoder>)computeCommandEncoder {
  return [self.commandBuffer computeCommandEncoder];
}

- (id<MTLComputeCommandEncoder>)computeCommandEncoderWithDispatchType:(MTLDispatchType)type {
  return [self.commandBuffer computeCommandEncoderWithDispatchType:type];
}

- (void)encodeWaitForEvent:(id<MTLEvent>)event value:(uint64_t)value {
  [self.commandBuffer encodeWaitForEvent:event value:value];
}

- (void)encodeSignalEvent:(id<MTLEvent>)event value:(uint64_t)value {
  [self.commandBuffer encodeSignalEvent:event value:value];
}

- (void)pushDebugGroup:(NSString*)string {
  [self.commandBuffer pushDebugGroup:string];
}

- (void)popDebugGroup {
  [self.commandBuffer popDebugGroup];
}

@end
