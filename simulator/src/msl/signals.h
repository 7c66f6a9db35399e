// A kernel that touches memory it does not have must not take the process with it.
#pragma once

#include "../../include/metal/_msl/worker.h"

namespace mps_simulator::msl {

// While one of these lives, SIGSEGV, SIGBUS and SIGFPE raised on this CPU thread by a kernel become faults of `worker`.
// Signals from elsewhere go to whoever handled them before.
class GuardedKernels {
 public:
  explicit GuardedKernels(msl_runtime::Worker& worker);
  ~GuardedKernels();
  GuardedKernels(const GuardedKernels&) = delete;
};

}  // namespace mps_simulator::msl
