// The names of MetalPerformanceShadersGraph that PyTorch's MPS headers mention, declared by hand for the Mac check.
#pragma once

#include <MetalPerformanceShaders/MetalPerformanceShaders.h>

@interface MPSGraphObject : NSObject
@end

@interface MPSGraph : MPSGraphObject
@end

@interface MPSGraphTensor : MPSGraphObject <NSCopying>
@end

@interface MPSGraphTensorData : MPSGraphObject
@end

@interface MPSGraphExecutionDescriptor : MPSGraphObject
@end

@interface MPSGraphCompilationDescriptor : MPSGraphObject <NSCopying>
@end
