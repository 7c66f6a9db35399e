// What all encoders have in common.
#pragma once

#import <Metal/Metal.h>

#include <functional>
#include <string>

#include "../msl/msl.h"

@class SimulatedCommandBuffer;

@interface SimulatedEncoder : NSObject <MTLCommandEncoder> {
  SimulatedCommandBuffer* _buffer;
  NSString* _label;
  NSUInteger _debugGroups;
  BOOL _ended;
  BOOL _failed;
}
- (instancetype)initWithBuffer:(SimulatedCommandBuffer*)buffer;
// Refuses the call when encoding has ended.
- (void)checkOpen:(const char*)call;
// Refuses the call.
- (void)fail:(const std::string&)message __attribute__((noreturn));
// The buffer's memory, which the commands may use until they are complete.
- (mps_simulator::msl::BufferBinding)use:(id<MTLBuffer>)buffer offset:(NSUInteger)offset;
- (void)append:(std::function<void()>)command;
@end
