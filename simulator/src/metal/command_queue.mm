#import "command_queue.h"

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>

#include "../foundation/fork.h"
#include "../foundation/validation.h"
#import "command_buffer.h"
#import "device.h"
#import "object_state.h"

using namespace mps_simulator;

namespace mps_simulator {

struct QueueOrder {
  struct Place {
    SimulatedCommandBuffer* buffer;  // retained once it is committed
    bool committed;
  };

  std::mutex mutex;
  std::condition_variable changed;
  std::deque<Place> places;
  NSUInteger uncommitted = 0;  // buffers that exist and were not committed
  NSUInteger in_flight = 0;    // committed and not complete
  bool has_thread = false;
  bool closed = false;

  Place* find(SimulatedCommandBuffer* buffer) {
    const auto found =
        std::find_if(places.begin(), places.end(), [&](const Place& place) { return place.buffer == buffer; });
    return found == places.end() ? nullptr : &*found;
  }
};

namespace {

void run_in_order(std::shared_ptr<QueueOrder> order) {
  GSRegisterCurrentThread();
  std::unique_lock<std::mutex> lock(order->mutex);
  for (;;) {
    order->changed.wait(lock, [&] { return !order->places.empty() ? order->places.front().committed : order->closed; });
    if (order->places.empty()) break;
    SimulatedCommandBuffer* buffer = order->places.front().buffer;
    order->places.pop_front();
    lock.unlock();
    @autoreleasepool {
      [buffer execute];
      {
        std::lock_guard<std::mutex> again(order->mutex);
        --order->in_flight;
        order->changed.notify_all();
      }
      [buffer release];
    }
    lock.lock();
  }
  lock.unlock();
  GSUnregisterCurrentThread();
}

struct QueueDescriptor {
  NSUInteger maxCommandBufferCount = 64;
};

}  // namespace
}  // namespace mps_simulator

@implementation MTLCommandQueueDescriptor
MPS_SIMULATOR_STATE(QueueDescriptor)
MPS_SIMULATOR_PROPERTY(QueueDescriptor, NSUInteger, maxCommandBufferCount, MaxCommandBufferCount)
@end

@implementation SimulatedCommandQueue

@synthesize label = _label;

- (instancetype)initWithMaxCommandBufferCount:(NSUInteger)count {
  if ((self = [super init])) {
    _maxCommandBufferCount = count;
    _order = new std::shared_ptr<QueueOrder>(std::make_shared<QueueOrder>());
  }
  return self;
}

- (void)dealloc {
  {
    auto order = *_order;
    std::lock_guard<std::mutex> lock(order->mutex);
    order->closed = true;
    order->changed.notify_all();
  }
  delete _order;
  [_label release];
  [super dealloc];
}

- (id<MTLDevice>)device {
  return simulated_device();
}

- (id<MTLCommandBuffer>)commandBuffer {
  return [self commandBufferWithDescriptor:[[MTLCommandBufferDescriptor new] autorelease]];
}

- (id<MTLCommandBuffer>)commandBufferWithUnretainedReferences {
  MTLCommandBufferDescriptor* descriptor = [[MTLCommandBufferDescriptor new] autorelease];
  descriptor.retainedReferences = NO;
  return [self commandBufferWithDescriptor:descriptor];
}

- (id<MTLCommandBuffer>)commandBufferWithDescriptor:(MTLCommandBufferDescriptor*)descriptor {
  check_not_forked();
  if (!descriptor) fail_validation("commandBufferWithDescriptor: the descriptor is nil");
  auto order = *_order;
  {
    std::unique_lock<std::mutex> lock(order->mutex);
    order->changed.wait(lock, [&] {
      if (order->uncommitted >= _maxCommandBufferCount) {
        fail_validation("all " + std::to_string(_maxCommandBufferCount) +
                        " command buffers of the queue are uncommitted: another one is waited for without end");
      }
      return order->uncommitted + order->in_flight < _maxCommandBufferCount;
    });
    ++order->uncommitted;
  }
  return [[[SimulatedCommandBuffer alloc] initWithQueue:self descriptor:descriptor] autorelease];
}

- (void)enqueue:(SimulatedCommandBuffer*)buffer {
  auto order = *_order;
  std::lock_guard<std::mutex> lock(order->mutex);
  if (!order->find(buffer)) order->places.push_back({buffer, false});
}

- (void)commit:(SimulatedCommandBuffer*)buffer {
  check_not_forked();
  [self enqueue:buffer];
  auto order = *_order;
  std::lock_guard<std::mutex> lock(order->mutex);
  [buffer retain];
  order->find(buffer)->committed = true;
  --order->uncommitted;
  ++order->in_flight;
  if (!order->has_thread) {
    order->has_thread = true;
    std::thread(run_in_order, order).detach();
  }
  order->changed.notify_all();
}

- (void)abandon:(SimulatedCommandBuffer*)buffer {
  auto order = *_order;
  std::lock_guard<std::mutex> lock(order->mutex);
  auto& places = order->places;
  places.erase(std::remove_if(places.begin(), places.end(), [&](const auto& place) { return place.buffer == buffer; }),
               places.end());
  --order->uncommitted;
  order->changed.notify_all();
}

@end
