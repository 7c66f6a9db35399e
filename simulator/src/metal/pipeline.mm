#import "pipeline.h"

#include <algorithm>

#include "../foundation/fork.h"
#include "../foundation/machine.h"
#include "../foundation/validation.h"
#include "../msl/simd_functions.h"
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

// The threads per threadgroup that kernel and descriptor allow; 0 is no statement.
NSUInteger stated_max_threads(const msl::Pipeline& pipeline, MTLComputePipelineDescriptor* descriptor) {
  const NSUInteger of_kernel = pipeline.max_total_threads_per_threadgroup();
  const NSUInteger of_descriptor = descriptor.maxTotalThreadsPerThreadgroup;
  return of_kernel && of_descriptor ? std::min(of_kernel, of_descriptor) : of_kernel + of_descriptor;
}

// With one simdgroup a threadgroup, Apple's compiler was seen to reorder what is staged for simdgroup matrices (cubecl
// pull request 1636).
void check_matrices(const msl::Function& function, NSUInteger stated) {
  const auto& functions = function.simd_functions();
  if (stated == msl::kSimdWidth && std::any_of(functions.begin(), functions.end(), msl::is_matrix_function)) {
    report_finding("kernel '" + function.name() + "' uses simdgroup matrices and states a maximum of " +
                   std::to_string(stated) + " threads, for which Apple's compiler makes wrong code: state 64");
  }
}

// In the words of Apple's drivers, which say at this point that they have no code for a function of the library.
void check_family(const msl::Function& function) {
  for (const std::string& name : function.simd_functions()) {
    if (msl::family_of(name) <= gpu().family) continue;
    throw msl::CompileError("Encountered unlowered function call to air." + name + " (kernel '" + function.name() +
                            "'; it needs a GPU of family Apple" + std::to_string(msl::family_of(name)) +
                            ", and this one is of Apple" + std::to_string(gpu().family) + ")");
  }
}

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
    const NSUInteger stated = stated_max_threads(*pipeline, descriptor);
    _maxThreads = stated ? stated : unstated_max_threads();
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
  check_not_forked();
  if (!function) fail_validation("newComputePipelineState: computeFunction must not be nil");
  if (descriptor.maxTotalThreadsPerThreadgroup > msl::kMaxThreadsPerThreadgroup) {
    fail_validation("maxTotalThreadsPerThreadgroup must be <= " + std::to_string(msl::kMaxThreadsPerThreadgroup));
  }
  try {
    const auto compiled = compiled_function(function);
    check_family(*compiled);
    auto pipeline = compiled->make_pipeline();
    check_matrices(*compiled, stated_max_threads(*pipeline, descriptor));
    return [[SimulatedPipeline alloc] initWithPipeline:std::move(pipeline) descriptor:descriptor];
  } catch (const msl::CompileError& refused) {
    set_error(error, make_error(@"AGXMetalG13X", 3, refused.what()));
    return nil;
  }
}

}  // namespace mps_simulator
