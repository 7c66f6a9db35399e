// Arguments and dispatches of kernels.
#pragma once

#import "encoder.h"

namespace mps_simulator {
struct Bindings;
struct Concurrent;
}  // namespace mps_simulator

@interface SimulatedComputeEncoder : SimulatedEncoder <MTLComputeCommandEncoder> {
  mps_simulator::Bindings* _bindings;
  mps_simulator::Concurrent* _concurrent;  // null in a serial encoder
}
- (instancetype)initWithBuffer:(SimulatedCommandBuffer*)buffer dispatchType:(MTLDispatchType)type;
@end
