// MetalPerformanceShadersGraph: the names that PyTorch's headers mention. No graph can be built or run.
#pragma once

#import <MetalPerformanceShaders/MetalPerformanceShaders.h>

@interface MPSGraphObject : NSObject
@end

@interface MPSGraph : MPSGraphObject
@end

@interface MPSGraphTensor : MPSGraphObject <NSCopying>
@end

@interface MPSGraphTensorData : MPSGraphObject
@end

@interface MPSGraphOperation : MPSGraphObject <NSCopying>
@end

@interface MPSGraphExecutable : MPSGraphObject
@end

@interface MPSGraphExecutionDescriptor : MPSGraphObject
@end

@interface MPSGraphCompilationDescriptor : MPSGraphObject
@end
