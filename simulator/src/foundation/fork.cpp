#include "fork.h"

#include <pthread.h>

#include <atomic>

#include "validation.h"

namespace mps_simulator {
namespace {

std::atomic<bool> entered{false}, inherited{false};

const int registered = pthread_atfork(nullptr, nullptr, [] { inherited = entered.load(); });

}  // namespace

void enter_metal() {
  check_not_forked();
  entered = true;
}

void check_not_forked() {
  if (!inherited.load(std::memory_order_relaxed)) return;
  report_finding(
      "Metal is used in a forked child of a process that had used it: on a Mac this crashes or waits for ever. Start "
      "the child by 'spawn' (multiprocessing.set_start_method, multiprocessing_context of a DataLoader)");
}

}  // namespace mps_simulator
