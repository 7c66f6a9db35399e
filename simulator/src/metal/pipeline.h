// Kernels ready to run.
#pragma once

#import <Metal/Metal.h>

#include <memory>

#include "../msl/msl.h"

namespace mps_simulator {

// `descriptor` may be nil. nil, with an error, when the function does not compile or the device cannot run it.
id<MTLComputePipelineState> new_pipeline(id<MTLFunction> function, MTLComputePipelineDescriptor* descriptor,
                                         NSError** error) NS_RETURNS_RETAINED;

}  // namespace mps_simulator

@interface SimulatedPipeline : NSObject <MTLComputePipelineState> {
  std::shared_ptr<const mps_simulator::msl::Pipeline>* _pipeline;
  NSUInteger _maxThreads;
  BOOL _wholeSimdgroups;
  NSString* _label;
}
- (const std::shared_ptr<const mps_simulator::msl::Pipeline>&)pipeline;
// threadGroupSizeIsMultipleOfThreadExecutionWidth was promised.
- (BOOL)wholeSimdgroups;
@end
