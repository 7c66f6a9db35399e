#include "fork.h"

#include <pthread.h>

#include <atomic>

namespace mps_simulator {
namespace {

std::atomic<unsigned> generation{0};

const int registered = pthread_atfork(nullptr, nullptr, [] { ++generation; });

}  // namespace

unsigned fork_generation() { return generation.load(std::memory_order_relaxed); }

}  // namespace mps_simulator
