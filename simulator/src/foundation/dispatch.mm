// Grand Central Dispatch on threads and condition variables.
//
// A serial queue is a row of tickets: whoever holds the one being served runs, in the caller's thread for
// dispatch_sync, in a thread of the queue for dispatch_async.
#import <Foundation/Foundation.h>

#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "fork.h"
#include "validation.h"

using mps_simulator::check_not_forked;
using mps_simulator::fail_validation;
using mps_simulator::ValidationError;

namespace {

struct Work {
  uint64_t ticket;
  std::function<void()> run;
};

struct Turns {
  std::mutex mutex;
  std::condition_variable served;
  uint64_t next = 0;
  uint64_t serving = 0;
  std::deque<Work> pending;
  bool has_thread = false;

  void wait_for(uint64_t ticket) {
    std::unique_lock<std::mutex> lock(mutex);
    served.wait(lock, [&] { return serving == ticket; });
  }

  void finish() {
    std::lock_guard<std::mutex> lock(mutex);
    ++serving;
    served.notify_all();
  }
};

struct QueueState {
  std::string label;
  bool concurrent = false;
  bool main = false;
  std::mutex mutex;
  const std::shared_ptr<Turns> turns = std::make_shared<Turns>();
  std::map<const void*, void*> specific;
};

struct Deadline {
  explicit Deadline(dispatch_time_t when) : forever(when == DISPATCH_TIME_FOREVER), nanoseconds(when) {}

  bool forever;
  dispatch_time_t nanoseconds;  // of the steady clock; 0 is now

  template <class Predicate>
  bool wait(std::condition_variable& condition, std::unique_lock<std::mutex>& lock, Predicate predicate) const {
    if (forever) {
      condition.wait(lock, predicate);
      return true;
    }
    const std::chrono::steady_clock::time_point until{std::chrono::nanoseconds(nanoseconds)};
    return condition.wait_until(lock, until, predicate);
  }
};

}  // namespace

@interface MPSSimulatorQueue : NSObject <OS_dispatch_queue> {
 @public
  QueueState* state;
}
@end

@implementation MPSSimulatorQueue

- (void)dealloc {
  delete state;
  [super dealloc];
}

@end

@interface MPSSimulatorQueueAttribute : NSObject <OS_dispatch_queue_attr>
@end

@implementation MPSSimulatorQueueAttribute
@end

namespace {

// The queues whose blocks this thread is inside, the innermost last.
thread_local std::vector<MPSSimulatorQueue*> running;

QueueState& state_of(dispatch_queue_t queue) {
  if (!queue) fail_validation("a dispatch queue is nil");
  return *static_cast<MPSSimulatorQueue*>(queue)->state;
}

bool is_running(dispatch_queue_t queue) {
  for (auto* each : running) {
    if (each == queue) return true;
  }
  return false;
}

void run_inside(dispatch_queue_t queue, const std::function<void()>& work) {
  struct Inside {
    explicit Inside(dispatch_queue_t queue) { running.push_back(static_cast<MPSSimulatorQueue*>(queue)); }
    ~Inside() { running.pop_back(); }
  } inside(queue);
  work();
}

void run_pending(MPSSimulatorQueue* queue, std::shared_ptr<Turns> turns) {
  GSRegisterCurrentThread();
  for (;;) {
    Work work;
    {
      std::lock_guard<std::mutex> lock(turns->mutex);
      if (turns->pending.empty()) {
        turns->has_thread = false;
        break;
      }
      work = std::move(turns->pending.front());
      turns->pending.pop_front();
    }
    turns->wait_for(work.ticket);
    @autoreleasepool {
      run_inside(queue, work.run);
      work.run = nullptr;
    }
    turns->finish();
  }
  [queue release];
  GSUnregisterCurrentThread();
}

void run_async(dispatch_queue_t queue, std::function<void()> work) {
  check_not_forked();
  QueueState& state = state_of(queue);
  auto* retained = static_cast<MPSSimulatorQueue*>([queue retain]);
  if (state.concurrent) {
    std::thread([retained, work = std::move(work)]() mutable {
      GSRegisterCurrentThread();
      @autoreleasepool {
        run_inside(retained, work);
        work = nullptr;
        [retained release];
      }
      GSUnregisterCurrentThread();
    }).detach();
    return;
  }
  const auto turns = state.turns;
  std::lock_guard<std::mutex> lock(turns->mutex);
  turns->pending.push_back({turns->next++, std::move(work)});
  // Nothing drains the main queue of a process without a run loop, here as on a Mac.
  if (turns->has_thread || state.main) {
    [retained release];
    return;
  }
  turns->has_thread = true;
  std::thread(run_pending, retained, turns).detach();
}

void run_sync(dispatch_queue_t queue, const std::function<void()>& work) {
  check_not_forked();
  QueueState& state = state_of(queue);
  const auto guarded = [&] {
    @try {
      try {
        run_inside(queue, work);
      } catch (const ValidationError&) {
        throw;
      } catch (const std::exception& error) {
        fail_validation(std::string("a C++ exception left a block through dispatch_sync: ") + error.what());
      }
    } @catch (NSException* exception) {
      fail_validation(std::string("an NSException left a block through dispatch_sync: ") +
                      ([[exception reason] UTF8String] ?: "without a reason"));
    }
  };
  if (state.concurrent) return guarded();
  if (state.main) fail_validation("dispatch_sync on the main queue of a process without a run loop waits for ever");
  if (is_running(queue)) {
    fail_validation("dispatch_sync on queue \"" + state.label + "\", which the calling block runs on: a deadlock");
  }
  const auto turns = state.turns;
  uint64_t ticket;
  {
    std::lock_guard<std::mutex> lock(turns->mutex);
    ticket = turns->next++;
  }
  turns->wait_for(ticket);
  struct Finish {
    Turns& turns;
    ~Finish() { turns.finish(); }
  } finish{*turns};
  guarded();
}

MPSSimulatorQueue* make_queue(const char* label, bool concurrent, bool main) {
  MPSSimulatorQueue* queue = [MPSSimulatorQueue new];
  queue->state = new QueueState;
  queue->state->label = label ? label : "";
  queue->state->concurrent = concurrent;
  queue->state->main = main;
  return queue;
}

// The block lives until the last copy of the function is gone.
std::function<void()> own(dispatch_block_t block) {
  if (!block) fail_validation("a block is nil");
  std::shared_ptr<void> held((void*)Block_copy(block), [](void* copy) { Block_release((dispatch_block_t)copy); });
  return [held] { ((dispatch_block_t)held.get())(); };
}

}  // namespace

dispatch_queue_attr_t mps_simulator_dispatch_queue_concurrent(void) {
  static MPSSimulatorQueueAttribute* const attribute = [MPSSimulatorQueueAttribute new];
  return attribute;
}

void dispatch_retain(dispatch_object_t object) { [object retain]; }

void dispatch_release(dispatch_object_t object) { [object release]; }

dispatch_queue_t dispatch_queue_create(const char* label, dispatch_queue_attr_t attr) {
  return make_queue(label, attr != nil, false);
}

dispatch_queue_t dispatch_get_main_queue(void) {
  static MPSSimulatorQueue* const queue = make_queue("com.apple.main-thread", false, true);
  return queue;
}

dispatch_queue_t dispatch_get_global_queue(intptr_t, uintptr_t) {
  static MPSSimulatorQueue* const queue = make_queue("com.apple.root.default-qos", true, false);
  return queue;
}

const char* dispatch_queue_get_label(dispatch_queue_t queue) { return state_of(queue).label.c_str(); }

void dispatch_queue_set_specific(dispatch_queue_t queue, const void* key, void* context,
                                 dispatch_function_t destructor) {
  if (destructor) fail_validation("dispatch_queue_set_specific with a destructor is not simulated");
  QueueState& state = state_of(queue);
  std::lock_guard<std::mutex> lock(state.mutex);
  state.specific[key] = context;
}

void* dispatch_queue_get_specific(dispatch_queue_t queue, const void* key) {
  QueueState& state = state_of(queue);
  std::lock_guard<std::mutex> lock(state.mutex);
  const auto found = state.specific.find(key);
  return found == state.specific.end() ? nullptr : found->second;
}

void* dispatch_get_specific(const void* key) {
  return running.empty() ? nullptr : dispatch_queue_get_specific(running.back(), key);
}

void dispatch_assert_queue(dispatch_queue_t queue) {
  if (!is_running(queue)) fail_validation("the block should run on queue \"" + state_of(queue).label + "\"");
}

void dispatch_assert_queue_not(dispatch_queue_t queue) {
  if (is_running(queue)) fail_validation("the block should not run on queue \"" + state_of(queue).label + "\"");
}

void dispatch_sync(dispatch_queue_t queue, dispatch_block_t block) {
  run_sync(queue, [block] { block(); });
}

void dispatch_sync_f(dispatch_queue_t queue, void* context, dispatch_function_t work) {
  run_sync(queue, [=] { work(context); });
}

void dispatch_async(dispatch_queue_t queue, dispatch_block_t block) { run_async(queue, own(block)); }

void dispatch_async_f(dispatch_queue_t queue, void* context, dispatch_function_t work) {
  run_async(queue, [=] { work(context); });
}

void dispatch_once_f(dispatch_once_t* predicate, void* context, dispatch_function_t work) {
  static std::recursive_mutex mutex;
  if (__atomic_load_n(predicate, __ATOMIC_ACQUIRE) == ~0l) return;
  std::lock_guard<std::recursive_mutex> lock(mutex);
  if (*predicate == ~0l) return;
  work(context);
  __atomic_store_n(predicate, ~0l, __ATOMIC_RELEASE);
}

void dispatch_once(dispatch_once_t* predicate, dispatch_block_t block) {
  dispatch_once_f(predicate, (void*)block, [](void* context) { ((dispatch_block_t)context)(); });
}

dispatch_time_t dispatch_time(dispatch_time_t when, int64_t nanoseconds) {
  if (when == DISPATCH_TIME_FOREVER) return when;
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  const uint64_t base = when == DISPATCH_TIME_NOW ? std::chrono::nanoseconds(now).count() : when;
  return base + nanoseconds;
}

@interface MPSSimulatorSemaphore : NSObject <OS_dispatch_semaphore, OS_dispatch_group> {
 @public
  struct Count {
    std::mutex mutex;
    std::condition_variable changed;
    intptr_t value = 0;
  }* count;
}
@end

@implementation MPSSimulatorSemaphore

- (instancetype)init {
  if ((self = [super init])) count = new Count;
  return self;
}

- (void)dealloc {
  delete count;
  [super dealloc];
}

@end

namespace {

MPSSimulatorSemaphore* make_count(intptr_t value) {
  MPSSimulatorSemaphore* object = [MPSSimulatorSemaphore new];
  object->count->value = value;
  return object;
}

void add(id object, intptr_t difference) {
  auto* count = static_cast<MPSSimulatorSemaphore*>(object)->count;
  std::lock_guard<std::mutex> lock(count->mutex);
  count->value += difference;
  count->changed.notify_all();
}

}  // namespace

dispatch_semaphore_t dispatch_semaphore_create(intptr_t value) { return make_count(value); }

intptr_t dispatch_semaphore_signal(dispatch_semaphore_t semaphore) {
  add(semaphore, 1);
  return 0;
}

intptr_t dispatch_semaphore_wait(dispatch_semaphore_t semaphore, dispatch_time_t timeout) {
  auto* count = static_cast<MPSSimulatorSemaphore*>(semaphore)->count;
  std::unique_lock<std::mutex> lock(count->mutex);
  if (!Deadline(timeout).wait(count->changed, lock, [&] { return count->value > 0; })) return 1;
  --count->value;
  return 0;
}

dispatch_group_t dispatch_group_create(void) { return make_count(0); }

void dispatch_group_enter(dispatch_group_t group) { add(group, 1); }

void dispatch_group_leave(dispatch_group_t group) { add(group, -1); }

intptr_t dispatch_group_wait(dispatch_group_t group, dispatch_time_t timeout) {
  auto* count = static_cast<MPSSimulatorSemaphore*>(group)->count;
  std::unique_lock<std::mutex> lock(count->mutex);
  return Deadline(timeout).wait(count->changed, lock, [&] { return count->value == 0; }) ? 0 : 1;
}

void dispatch_group_async(dispatch_group_t group, dispatch_queue_t queue, dispatch_block_t block) {
  dispatch_group_enter(group);
  [group retain];
  run_async(queue, [group, work = own(block)] {
    work();
    dispatch_group_leave(group);
    [group release];
  });
}

@interface MPSSimulatorData : NSObject <OS_dispatch_data> {
 @public
  NSData* bytes;
}
@end

@implementation MPSSimulatorData

- (void)dealloc {
  [bytes release];
  [super dealloc];
}

@end

dispatch_data_t dispatch_data_create(const void* buffer, size_t size, dispatch_queue_t, dispatch_block_t destructor) {
  MPSSimulatorData* data = [MPSSimulatorData new];
  data->bytes = [[NSData alloc] initWithBytes:buffer length:size];
  if (destructor) destructor();
  return data;
}

size_t dispatch_data_get_size(dispatch_data_t data) { return [static_cast<MPSSimulatorData*>(data)->bytes length]; }
