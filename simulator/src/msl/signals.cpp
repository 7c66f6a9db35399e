#include "signals.h"

#include <signal.h>
#include <sys/mman.h>
#include <ucontext.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <map>
#include <mutex>

namespace mps_simulator::msl {
namespace {

using msl_runtime::Fault;
using msl_runtime::Worker;

thread_local Worker* guarded = nullptr;

struct sigaction before[64];  // who handled each signal before us

// Where a kernel goes on after a signal: on the first stack of its region, which nobody needs any more.
void land() {
  Worker* w = guarded;
  w->fail(w, w->fault, 0, 0);
}

uintptr_t& stack_pointer(ucontext_t* context) {
#if defined(__x86_64__)
  return reinterpret_cast<uintptr_t&>(context->uc_mcontext.gregs[REG_RSP]);
#else
  return reinterpret_cast<uintptr_t&>(context->uc_mcontext.sp);
#endif
}

uintptr_t& program_counter(ucontext_t* context) {
#if defined(__x86_64__)
  return reinterpret_cast<uintptr_t&>(context->uc_mcontext.gregs[REG_RIP]);
#else
  return reinterpret_cast<uintptr_t&>(context->uc_mcontext.pc);
#endif
}

// x86-64 raises a general protection fault, of which the system knows no address.
bool is_misaligned(int signal, const siginfo_t& info) {
  return (signal == SIGBUS && info.si_code == BUS_ADRALN) || (signal == SIGSEGV && info.si_code == SI_KERNEL);
}

void handle(int signal, siginfo_t* info, void* opaque) {
  auto* context = static_cast<ucontext_t*>(opaque);
  const auto in_region = [](uintptr_t address) {
    return address - reinterpret_cast<uintptr_t>(guarded) < msl_runtime::kRegionBytes;
  };
  // On a fiber's stack, and not on this thread's own: a kernel.
  if (guarded && in_region(stack_pointer(context))) {
    const auto fiber = (stack_pointer(context) - reinterpret_cast<uintptr_t>(guarded)) / msl_runtime::kStackBytes - 1;
    const auto place = std::min<uintptr_t>(guarded->first + fiber, guarded->threads - 1);
    guarded->signal = {info->si_addr, program_counter(context), guarded->order[place]};
    guarded->fault = signal == SIGFPE                                        ? Fault::division
                     : is_misaligned(signal, *info)                          ? Fault::misaligned
                     : in_region(reinterpret_cast<uintptr_t>(info->si_addr)) ? Fault::stack
                                                                             : Fault::memory;
    const uintptr_t top = reinterpret_cast<uintptr_t>(guarded) + 2 * msl_runtime::kStackBytes;
#if defined(__x86_64__)
    stack_pointer(context) = top - 128 - 8;  // as at the entry of a function
#else
    stack_pointer(context) = top - 128;
#endif
    program_counter(context) = reinterpret_cast<uintptr_t>(&land);
    return;
  }
  const struct sigaction& next = before[signal];
  if (next.sa_flags & SA_SIGINFO) {
    next.sa_sigaction(signal, info, opaque);
  } else if (next.sa_handler == SIG_DFL || next.sa_handler == SIG_IGN) {
    ::signal(signal, SIG_DFL);  // raised again when this returns
  } else {
    next.sa_handler(signal);
  }
}

// A stack for handlers: the fiber's own may be what is exhausted.
struct HandlerStack {
  stack_t previous{};
  void* memory;
  HandlerStack() : memory(std::malloc(kBytes)) {
    stack_t s{};
    s.ss_sp = memory;
    s.ss_size = kBytes;
    sigaltstack(&s, &previous);
  }
  ~HandlerStack() {
    sigaltstack(&previous, nullptr);
    std::free(memory);
  }
  static constexpr size_t kBytes = 64 * 1024;
};

}  // namespace

GuardedKernels::GuardedKernels(Worker& worker) {
  static thread_local HandlerStack stack;
  static std::once_flag once;
  std::call_once(once, [] {
    for (int signal : {SIGSEGV, SIGBUS, SIGFPE}) {
      struct sigaction action{};
      action.sa_sigaction = &handle;
      action.sa_flags = SA_SIGINFO | SA_ONSTACK;
      sigemptyset(&action.sa_mask);
      sigaction(signal, &action, &before[signal]);
    }
  });
  guarded = &worker;
}

GuardedKernels::~GuardedKernels() { guarded = nullptr; }

}  // namespace mps_simulator::msl
