// Arguments and dispatches of kernels.
#pragma once

#import "encoder.h"

namespace mps_simulator {
struct Bindings;
}

@interface SimulatedComputeEncoder : SimulatedEncoder <MTLComputeCommandEncoder> {
  mps_simulator::Bindings* _bindings;
  MTLDispatchType _dispatchType;
}
- (instancetype)initWithBuffer:(SimulatedCommandBuffer*)buffer dispatchType:(MTLDispatchType)type;
@end
