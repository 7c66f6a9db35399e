// Values that command buffers and the host signal and wait for.
#pragma once

#import <Metal/Metal.h>

#include <atomic>
#include <chrono>
#include <memory>

namespace mps_simulator {

struct Notification;

// Values only grow.
struct EventValue {
  std::atomic<uint64_t> value{0};

  void signal(uint64_t new_value);
  void wait(uint64_t for_value);
  // False when it took longer.
  bool wait_for(uint64_t for_value, std::chrono::milliseconds timeout);
};

// Shared with the commands that use it, which may outlive an event that their command buffer does not retain.
std::shared_ptr<EventValue> event_value(id<MTLEvent> event);

}  // namespace mps_simulator

@interface SimulatedEvent : NSObject <MTLEvent> {
  std::shared_ptr<mps_simulator::EventValue>* _value;
  NSString* _label;
}
- (const std::shared_ptr<mps_simulator::EventValue>&)value;
@end

@interface SimulatedSharedEvent : SimulatedEvent <MTLSharedEvent>
@end

// Orders encoders of a queue, which run in order anyway.
@interface SimulatedFence : NSObject <MTLFence> {
  NSString* _label;
}
@end
