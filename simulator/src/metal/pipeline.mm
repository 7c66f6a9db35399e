#import "pipeline.h"

#include <algorithm>

#include "../foundation/validation.h"
#import "device.h"
#import "error.h"
#import "library.h"
#import "object_state.h"
#import "reference.h"

using namespace mps_simulator;

namespace {

struct BufferDescriptor {
  MTLMutability mutability = MTLMutabilityDefault;
};

struct BufferDescriptors {
  Reference<NSMutableDictionary*> by_index = [NSMutableDictionary dictionary];
};

struct PipelineDescriptor {
  Reference<NSString*> label;
  Reference<id<MTLFunction>> computeFunction;
  BOOL threadGroupSizeIsMultipleOfThreadExecutionWidth = NO;
  NSUInteger maxTotalThreadsPerThreadgroup = 0;
  Reference<MTLPipelineBufferDescriptorArray*> buffers = [[MTLPipelineBufferDescriptorArray new] autorelease];
};

}  // namespace

@implementation MTLPipelineBufferDescriptor
MPS_SIMULATOR_STATE(BufferDescriptor)
MPS_SIMULATOR_PROPERTY(BufferDescriptor, MTLMutability, mutability, Mutability)
@end

@implementation MTLPipelineBufferDescriptorArray

MPS_SIMULATOR_STATE(BufferDescriptors)

- (MTLPipelineBufferDescriptor*)objectAtIndexedSubscript:(NSUInteger)index {
  if (index >= msl::kMaxBuffers) fail_validation("a buffer index must be <= 30");
  NSMutableDictionary* by_index = state_of<BufferDescriptors>(self).by_index;
  MTLPipelineBufferDescriptor* descriptor = [by_index objectForKey:@(index)];
  if (!descriptor) {
    descriptor = [[MTLPipelineBufferDescriptor new] autorelease];
    [by_index setObject:descriptor forKey:@(index)];
  }
  return descriptor;
}

- (void)setObject:(MTLPipelineBufferDescriptor*)buffer atIndexedSubscript:(NSUInteger)index {
  [self objectAtIndexedSubscript:index].mutability = buffer ? buffer.mutability : MTLMutabilityDefault;
}

@end

@implementation MTLComputePipelineDescriptor

MPS_SIMULATOR_STATE(PipelineDescriptor)
MPS_SIMULATOR_PROPERTY(PipelineDescriptor, id<MTLFunction>, computeFunction, ComputeFunction)
MPS_SIMULATOR_PROPERTY(PipelineDescriptor, BOOL, threadGroupSizeIsMultipleOfThreadExecutionWidth,
                       ThreadGroupSizeIsMultipleOfThreadExecutionWidth)
MPS_SIMULATOR_PROPERTY(PipelineDescriptor, NSUInteger, maxTotalThreadsPerThreadgroup, MaxTotalThreadsPerThreadgroup)

- (NSString*)label {
  return state_of<PipelineDescriptor>(self).label;
}

- (void)setLabel:(NSString*)label {
  state_of<PipelineDescriptor>(self).label = [[label copy] autorelease];
}

- (MTLPipelineBufferDescriptorArray*)buffers {
  return state_of<PipelineDescriptor>(self).buffers;
}

- (void)reset {
  state_of<PipelineDescriptor>(self) = {};
}

@end

@implementation SimulatedPipeline

- (instancetype)initWithPipeline:(std::shared_ptr<const msl::Pipeline>)pipeline
                      descriptor:(MTLComputePipelineDescriptor*)descriptor {
  if ((self = [super init])) {
    _maxThreads = pipeline->max_total_threads_per_threadgroup();
    if (descriptor.maxTotalThreadsPerThreadgroup) {
      _maxThreads = std::min(_maxThreads, descriptor.maxTotalThreadsPerThreadgroup);
    }
    _wholeSimdgroups = descriptor.threadGroupSizeIsMultipleOfThreadExecutionWidth;
    _label = [descriptor.label copy];
    _pipeline = new std::shared_ptr<const msl::Pipeline>(std::move(pipeline));
  }
  return self;
}

- (void)dealloc {
  delete _pipeline;
  [_label release];
  [super dealloc];
}

- (const std::shared_ptr<const msl::Pipeline>&)pipeline {
  return *_pipeline;
}

- (BOOL)wholeSimdgroups {
  return _wholeSimdgroups;
}

- (id<MTLDevice>)device {
  return simulated_device();
}

- (NSString*)label {
  return _label;
}

- (NSUInteger)maxTotalThreadsPerThreadgroup {
  return _maxThreads;
}

- (NSUInteger)threadExecutionWidth {
  return msl::kSimdWidth;
}

- (NSUInteger)staticThreadgroupMemoryLength {
  return (*_pipeline)->static_threadgroup_memory_length();
}

- (NSUInteger)allocatedSize {
  return 0;
}

@end

namespace mps_simulator {

id<MTLComputePipelineState> new_pipeline(id<MTLFunction> function, MTLComputePipelineDescriptor* descriptor,
                                         NSError** error) {
  if (!function) fail_validation("newComputePipelineState: computeFunction must not be nil");
  if (descriptor.maxTotalThreadsPerThreadgroup > msl::kMaxThreadsPerThreadgroup) {
    fail_validation("maxTotalThreadsPerThreadgroup must be <= " + std::to_string(msl::kMaxThreadsPerThreadgroup));
  }
  try {
    return [[SimulatedPipeline alloc] initWithPipeline:compiled_function(function)->make_pipeline()
                                            descriptor:descriptor];
  } catch (const msl::CompileError& refused) {
    set_error(error, make_error(@"AGXMetalG13X", 3, refused.what()));
    return nil;
  }
}

}  // namespace mps_simulator
