#import "command_buffer.h"

#include <ctime>

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <unordered_set>
#include <vector>

#include "../foundation/fork.h"
#include "../foundation/validation.h"
#include "../msl/msl.h"
#import "blit_encoder.h"
#import "command_queue.h"
#import "compute_encoder.h"
#import "device.h"
#import "error.h"
#import "event.h"
#import "object_state.h"
#import "raise.h"
#import "reference.h"

using namespace mps_simulator;

namespace mps_simulator {

static std::atomic<uint64_t> next_number{0};

struct CommandBufferState {
  struct Command {
    std::function<void()> run;
    bool after_error;  // runs even when an earlier command failed: whoever waits for an event must not hang
  };

  const uint64_t number = next_number++;
  bool retained_references = true;
  MTLCommandBufferErrorOption error_options = MTLCommandBufferErrorOptionNone;
  std::vector<Command> commands;
  std::unordered_set<id> held;
  id open_encoder = nil;  // not retained: an encoder retains its buffer

  std::mutex mutex;  // of what follows
  std::condition_variable changed;
  MTLCommandBufferStatus status = MTLCommandBufferStatusNotEnqueued;
  bool finished = false;  // the completed handlers have run too
  std::vector<MTLCommandBufferHandler> scheduled_handlers;
  std::vector<MTLCommandBufferHandler> completed_handlers;
  Reference<NSError*> error;
  double kernel_start = 0, kernel_end = 0, gpu_start = 0, gpu_end = 0;
};

namespace {

struct BufferDescriptor {
  BOOL retainedReferences = YES;
  MTLCommandBufferErrorOption errorOptions = MTLCommandBufferErrorOptionNone;
};

double now() {
  timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec + time.tv_nsec * 1e-9;
}

}  // namespace
}  // namespace mps_simulator

@implementation MTLCommandBufferDescriptor
MPS_SIMULATOR_STATE(BufferDescriptor)
MPS_SIMULATOR_PROPERTY(BufferDescriptor, BOOL, retainedReferences, RetainedReferences)
MPS_SIMULATOR_PROPERTY(BufferDescriptor, MTLCommandBufferErrorOption, errorOptions, ErrorOptions)
@end

@implementation SimulatedCommandBuffer

@synthesize label = _label;

- (instancetype)initWithQueue:(SimulatedCommandQueue*)queue descriptor:(MTLCommandBufferDescriptor*)descriptor {
  if ((self = [super init])) {
    _state = new CommandBufferState;
    _state->retained_references = descriptor.retainedReferences;
    _state->error_options = descriptor.errorOptions;
    _queue = [queue retain];
    raise_where_asked(self);
  }
  return self;
}

- (void)dealloc {
  if (_state->status < MTLCommandBufferStatusCommitted) [_queue abandon:self];
  [self letGo];
  for (auto& handlers : {_state->scheduled_handlers, _state->completed_handlers}) {
    for (MTLCommandBufferHandler handler : handlers) Block_release(handler);
  }
  delete _state;
  [_queue release];
  [_label release];
  [super dealloc];
}

- (void)letGo {
  _state->commands.clear();
  for (id object : _state->held) [object release];
  _state->held.clear();
}

- (uint64_t)number {
  return _state->number;
}

- (id<MTLDevice>)device {
  return simulated_device();
}

- (id<MTLCommandQueue>)commandQueue {
  return _queue;
}

- (BOOL)retainedReferences {
  return _state->retained_references;
}

- (MTLCommandBufferErrorOption)errorOptions {
  return _state->error_options;
}

- (MTLCommandBufferStatus)status {
  std::lock_guard<std::mutex> lock(_state->mutex);
  return _state->status;
}

- (NSError*)error {
  std::lock_guard<std::mutex> lock(_state->mutex);
  return [[_state->error retain] autorelease];
}

- (CFTimeInterval)kernelStartTime {
  std::lock_guard<std::mutex> lock(_state->mutex);
  return _state->kernel_start;
}

- (CFTimeInterval)kernelEndTime {
  std::lock_guard<std::mutex> lock(_state->mutex);
  return _state->kernel_end;
}

- (CFTimeInterval)GPUStartTime {
  std::lock_guard<std::mutex> lock(_state->mutex);
  return _state->gpu_start;
}

- (CFTimeInterval)GPUEndTime {
  std::lock_guard<std::mutex> lock(_state->mutex);
  return _state->gpu_end;
}

// What encodes needs a buffer that is not committed and has no open encoder.
- (void)checkEncodable:(const char*)what {
  if ([self status] >= MTLCommandBufferStatusCommitted) {
    fail_validation(std::string(what) + " on a command buffer that was committed");
  }
  if (_state->open_encoder) {
    fail_validation(std::string(what) + " while an encoder is open: end its encoding first");
  }
}

- (void)append:(std::function<void()>)command {
  _state->commands.push_back({std::move(command), false});
}

- (void)hold:(id)object {
  if (object && _state->retained_references && _state->held.insert(object).second) [object retain];
}

- (void)encoderEnded:(id)encoder {
  if (_state->open_encoder == encoder) _state->open_encoder = nil;
}

- (id<MTLComputeCommandEncoder>)computeCommandEncoder {
  return [self computeCommandEncoderWithDispatchType:MTLDispatchTypeSerial];
}

- (id<MTLComputeCommandEncoder>)computeCommandEncoderWithDispatchType:(MTLDispatchType)type {
  [self checkEncodable:"computeCommandEncoder"];
  return _state->open_encoder = [[[SimulatedComputeEncoder alloc] initWithBuffer:self dispatchType:type] autorelease];
}

- (id<MTLBlitCommandEncoder>)blitCommandEncoder {
  [self checkEncodable:"blitCommandEncoder"];
  return _state->open_encoder = [[[SimulatedBlitEncoder alloc] initWithBuffer:self] autorelease];
}

- (void)encodeWaitForEvent:(id<MTLEvent>)event value:(uint64_t)value {
  if (!event) fail_validation("encodeWaitForEvent:value: the event is nil");
  [self checkEncodable:"encodeWaitForEvent:value:"];
  [self hold:event];
  [self append:[event = event_value(event), value] { event->wait(value); }];
}

- (void)encodeSignalEvent:(id<MTLEvent>)event value:(uint64_t)value {
  if (!event) fail_validation("encodeSignalEvent:value: the event is nil");
  [self checkEncodable:"encodeSignalEvent:value:"];
  [self hold:event];
  _state->commands.push_back({[event = event_value(event), value] { event->signal(value); }, true});
}

- (void)pushDebugGroup:(NSString*)string {
}

- (void)popDebugGroup {
}

- (void)addHandler:(MTLCommandBufferHandler)handler
                to:(std::vector<MTLCommandBufferHandler>&)handlers
              name:(const char*)name {
  if (!handler) fail_validation(std::string(name) + ": the handler is nil");
  std::lock_guard<std::mutex> lock(_state->mutex);
  if (_state->status >= MTLCommandBufferStatusCommitted) {
    fail_validation(std::string(name) + ": a handler was added after commit");
  }
  handlers.push_back(Block_copy(handler));
}

- (void)addScheduledHandler:(MTLCommandBufferHandler)handler {
  [self addHandler:handler to:_state->scheduled_handlers name:"addScheduledHandler"];
}

- (void)addCompletedHandler:(MTLCommandBufferHandler)handler {
  [self addHandler:handler to:_state->completed_handlers name:"addCompletedHandler"];
}

- (void)enqueue {
  {
    std::lock_guard<std::mutex> lock(_state->mutex);
    if (_state->status != MTLCommandBufferStatusNotEnqueued) {
      fail_validation("enqueue on a command buffer that was enqueued or committed");
    }
    _state->status = MTLCommandBufferStatusEnqueued;
  }
  [_queue enqueue:self];
}

- (void)commit {
  [self checkEncodable:"commit"];
  {
    std::lock_guard<std::mutex> lock(_state->mutex);
    _state->status = MTLCommandBufferStatusCommitted;
  }
  [_queue commit:self];
}

- (void)waitFor:(const char*)what until:(bool (^)(void))reached {
  check_not_forked();
  std::unique_lock<std::mutex> lock(_state->mutex);
  if (_state->status < MTLCommandBufferStatusCommitted) {
    fail_validation(std::string(what) + " on a command buffer that was not committed waits without end");
  }
  _state->changed.wait(lock, [&] { return reached(); });
}

- (void)waitUntilScheduled {
  [self waitFor:"waitUntilScheduled"
          until:^{
            return _state->status >= MTLCommandBufferStatusScheduled;
          }];
}

- (void)waitUntilCompleted {
  [self waitFor:"waitUntilCompleted"
          until:^{
            return _state->finished;
          }];
}

- (void)enter:(MTLCommandBufferStatus)status {
  std::lock_guard<std::mutex> lock(_state->mutex);
  _state->status = status;
  _state->changed.notify_all();
}

// An exception that leaves a handler ends the process, as it would there: there is nobody to catch it.
- (void)call:(const std::vector<MTLCommandBufferHandler>&)handlers {
  const auto run = [&]() noexcept {
    for (MTLCommandBufferHandler handler : handlers) handler(self);
  };
  run();
}

- (void)execute {
  _state->kernel_start = now();
  [self call:_state->scheduled_handlers];
  [self enter:MTLCommandBufferStatusScheduled];

  NSError* error = nil;
  const double start = now();
  for (const auto& command : _state->commands) {
    if (error && !command.after_error) continue;
    try {
      command.run();
    } catch (const msl::Finding& finding) {
      error = make_error(MTLCommandBufferErrorDomain, MTLCommandBufferErrorPageFault, finding.what());
    } catch (const std::exception& fault) {
      error = make_error(MTLCommandBufferErrorDomain, MTLCommandBufferErrorInternal, fault.what());
    }
  }
  // Given up before anybody learns of the end, so that a buffer's retainCount tells whether it is in use.
  [self letGo];
  {
    std::lock_guard<std::mutex> lock(_state->mutex);
    _state->gpu_start = start;
    _state->gpu_end = _state->kernel_end = now();
    _state->error = error;
    _state->status = error ? MTLCommandBufferStatusError : MTLCommandBufferStatusCompleted;
  }
  [self call:_state->completed_handlers];
  std::lock_guard<std::mutex> lock(_state->mutex);
  _state->finished = true;
  _state->changed.notify_all();
}

@end
