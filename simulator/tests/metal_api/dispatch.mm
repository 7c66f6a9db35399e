// Grand Central Dispatch.
#include <atomic>
#include <chrono>
#include <thread>

#include "cases.h"

CASE(a_serial_queue_keeps_the_order) {
  dispatch_queue_t queue = dispatch_queue_create("serial", DISPATCH_QUEUE_SERIAL);
  auto order = std::make_shared<std::vector<int>>();
  for (int i = 0; i < 100; ++i) {
    dispatch_async(queue, ^{
      order->push_back(i);
    });
  }
  dispatch_sync(queue, ^{
    order->push_back(100);
  });
  CHECK(order->size() == 101);
  for (int i = 0; i <= 100; ++i) CHECK((*order)[i] == i);
  CHECK(std::string(dispatch_queue_get_label(queue)) == "serial");
}

CASE(a_serial_queue_excludes) {
  dispatch_queue_t queue = dispatch_queue_create("serial", nullptr);
  int sum = 0;
  int* counter = &sum;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([=] {
      for (int i = 0; i < 1000; ++i) {
        dispatch_sync(queue, ^{
          ++*counter;
        });
      }
    });
  }
  for (auto& thread : threads) thread.join();
  CHECK(sum == 4000);
}

CASE(waiting_for_oneself_is_refused) {
  dispatch_queue_t queue = dispatch_queue_create("mine", nullptr), other = dispatch_queue_create("other", nullptr);
  CHECK_REFUSED("deadlock", dispatch_sync(queue, ^{
                  dispatch_sync(other, ^{
                    dispatch_sync(queue, ^{
                                  });
                  });
                }));
  CHECK_REFUSED("main queue", dispatch_sync(dispatch_get_main_queue(), ^{
                                            }));
}

CASE(a_queue_is_known_from_inside) {
  static char key;
  dispatch_queue_t queue = dispatch_queue_create("known", nullptr), inner = dispatch_queue_create("inner", nullptr);
  dispatch_queue_set_specific(queue, &key, &key, nullptr);
  CHECK(dispatch_get_specific(&key) == nullptr);
  CHECK_REFUSED("should run on", dispatch_assert_queue(queue));
  dispatch_sync(queue, ^{
    dispatch_assert_queue(queue);
    CHECK(dispatch_get_specific(&key) == &key);
    dispatch_sync(inner, ^{
      CHECK(dispatch_get_specific(&key) == nullptr);
    });
    CHECK(dispatch_get_specific(&key) == &key);
  });
}

CASE(blocks_run_at_once_on_a_global_queue) {
  dispatch_group_t group = dispatch_group_create();
  dispatch_semaphore_t both = dispatch_semaphore_create(0), go = dispatch_semaphore_create(0);
  for (int i = 0; i < 2; ++i) {
    dispatch_group_async(group, dispatch_get_global_queue(DISPATCH_QUEUE_PRIORITY_DEFAULT, 0), ^{
      dispatch_semaphore_signal(both);
      dispatch_semaphore_wait(go, DISPATCH_TIME_FOREVER);
    });
  }
  dispatch_semaphore_wait(both, DISPATCH_TIME_FOREVER);
  dispatch_semaphore_wait(both, DISPATCH_TIME_FOREVER);
  CHECK(dispatch_group_wait(group, dispatch_time(DISPATCH_TIME_NOW, NSEC_PER_MSEC)) != 0);
  dispatch_semaphore_signal(go);
  dispatch_semaphore_signal(go);
  CHECK(dispatch_group_wait(group, DISPATCH_TIME_FOREVER) == 0);
}

CASE(once_is_once) {
  static dispatch_once_t once;
  static std::atomic<int> count{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([] {
      dispatch_once(&once, ^{
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
        ++count;
      });
      CHECK(count == 1);
    });
  }
  for (auto& thread : threads) thread.join();
}
