#import "encoder.h"

#include "../foundation/validation.h"
#import "buffer.h"
#import "command_buffer.h"
#import "device.h"
#import "error.h"

using namespace mps_simulator;

@implementation SimulatedEncoder

@synthesize label = _label;

- (instancetype)initWithBuffer:(SimulatedCommandBuffer*)buffer {
  if ((self = [super init])) _buffer = [buffer retain];
  return self;
}

- (void)dealloc {
  // One that failed was reported already.
  const bool forgotten = !_ended && !_failed;
  [_buffer encoderEnded:self];
  [_buffer release];
  [_label release];
  [super dealloc];
  if (forgotten) fail_validation("Command encoder released without endEncoding");
}

- (void)fail:(const std::string&)message {
  // An exception passes pools undrained, so this encoder may live on in one: it must not block its buffer for ever.
  _failed = YES;
  [_buffer encoderEnded:self];
  fail_validation(_label ? message + " (encoder \"" + to_string(_label) + "\")" : message);
}

- (void)checkOpen:(const char*)call {
  if (_ended) [self fail:std::string(call) + " after endEncoding"];
}

- (msl::BufferBinding)use:(id<MTLBuffer>)buffer offset:(NSUInteger)offset {
  [_buffer hold:buffer];
  return {host_memory(buffer), buffer.length, offset, memory_of(buffer)};
}

- (void)append:(std::function<void()>)command {
  [_buffer append:std::move(command)];
}

- (id<MTLDevice>)device {
  return simulated_device();
}

- (void)endEncoding {
  [self checkOpen:"endEncoding"];
  if (_debugGroups) [self fail:"endEncoding with a debug group that was not popped"];
  _ended = YES;
  [_buffer encoderEnded:self];
}

- (void)insertDebugSignpost:(NSString*)string {
  [self checkOpen:"insertDebugSignpost:"];
}

- (void)pushDebugGroup:(NSString*)string {
  [self checkOpen:"pushDebugGroup:"];
  ++_debugGroups;
}

- (void)popDebugGroup {
  [self checkOpen:"popDebugGroup"];
  if (!_debugGroups) [self fail:"popDebugGroup without a debug group"];
  --_debugGroups;
}

@end
