#import "event.h"

#include <condition_variable>
#include <mutex>
#include <thread>

#include "../foundation/fork.h"
#include "../foundation/validation.h"
#import "device.h"
#import "object_state.h"
#import "reference.h"

using namespace mps_simulator;

namespace mps_simulator {
namespace {

// Where everybody waits for any event.
struct Board {
  std::mutex mutex;
  std::condition_variable changed;
};

// Leaked: somebody may wait when the process exits.
Board& board() {
  check_not_forked();
  static Board* const board = new Board;
  return *board;
}

struct Listener {
  Reference<dispatch_queue_t> queue;
};

}  // namespace

void EventValue::signal(uint64_t new_value) {
  Board& here = board();
  std::lock_guard<std::mutex> lock(here.mutex);
  value = new_value;
  here.changed.notify_all();
}

void EventValue::wait(uint64_t for_value) {
  Board& here = board();
  std::unique_lock<std::mutex> lock(here.mutex);
  here.changed.wait(lock, [&] { return value >= for_value; });
}

bool EventValue::wait_for(uint64_t for_value, std::chrono::milliseconds timeout) {
  Board& here = board();
  std::unique_lock<std::mutex> lock(here.mutex);
  return here.changed.wait_for(lock, timeout, [&] { return value >= for_value; });
}

std::shared_ptr<EventValue> event_value(id<MTLEvent> event) { return [static_cast<SimulatedEvent*>(event) value]; }

}  // namespace mps_simulator

@implementation SimulatedEvent

@synthesize label = _label;

- (instancetype)init {
  if ((self = [super init])) _value = new std::shared_ptr<EventValue>(std::make_shared<EventValue>());
  return self;
}

- (void)dealloc {
  delete _value;
  [_label release];
  [super dealloc];
}

- (const std::shared_ptr<EventValue>&)value {
  return *_value;
}

- (id<MTLDevice>)device {
  return simulated_device();
}

@end

@implementation SimulatedSharedEvent

- (uint64_t)signaledValue {
  return (*_value)->value;
}

- (void)setSignaledValue:(uint64_t)value {
  (*_value)->signal(value);
}

- (BOOL)waitUntilSignaledValue:(uint64_t)value timeoutMS:(uint64_t)milliseconds {
  return (*_value)->wait_for(value, std::chrono::milliseconds(milliseconds));
}

- (void)notifyListener:(MTLSharedEventListener*)listener
               atValue:(uint64_t)value
                 block:(MTLSharedEventNotificationBlock)block {
  if (!listener || !block) fail_validation("notifyListener:atValue:block: listener and block must not be nil");
  dispatch_queue_t queue = listener.dispatchQueue;
  auto waiting = *_value;
  // The closures below run in C++ threads, so what they use is retained by hand and given up by the last block.
  [self retain];
  [queue retain];
  MTLSharedEventNotificationBlock copy = Block_copy(block);
  std::thread([=] {
    GSRegisterCurrentThread();
    waiting->wait(value);
    @autoreleasepool {
      dispatch_async(queue, ^{
        copy(self, waiting->value);
      });
      Block_release(copy);
      [queue release];
      [self release];
    }
    GSUnregisterCurrentThread();
  }).detach();
}

@end

@implementation MTLSharedEventListener

MPS_SIMULATOR_STATE(Listener)

- (instancetype)init {
  dispatch_queue_t queue = dispatch_queue_create("com.apple.metal.sharedevent", DISPATCH_QUEUE_SERIAL);
  self = [self initWithDispatchQueue:queue];
  dispatch_release(queue);
  return self;
}

- (instancetype)initWithDispatchQueue:(dispatch_queue_t)queue {
  if ((self = [super init])) state_of<Listener>(self).queue = queue;
  return self;
}

- (dispatch_queue_t)dispatchQueue {
  return state_of<Listener>(self).queue;
}

@end

@implementation SimulatedFence

@synthesize label = _label;

- (void)dealloc {
  [_label release];
  [super dealloc];
}

- (id<MTLDevice>)device {
  return simulated_device();
}

@end
