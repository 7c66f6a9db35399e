#include "executor.h"

#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>

#include "../../include/metal/_msl/fiber.h"
#include "checks.h"
#include "counters.h"
#include "signals.h"

namespace mps_simulator::msl {
namespace {

using msl_runtime::Fault;
using msl_runtime::Worker;

constexpr unsigned kMain = msl_runtime::kMaxThreads;  // the executor's place among the stack pointers

void run_thread(Worker& w, unsigned place) {
  const unsigned thread_index = w.order[place];
  (thread_index % kSimdWidth == 0 ? w.leader : w.follower)();
}

// Marks a thread as returned. Those that wait at a barrier would wait for ever.
void finish_thread(Worker& w, unsigned place) {
  w.waits[w.order[place]] = msl_runtime::kDone;
  ++w.finished;
  if (w.counting) static_cast<GroupCounter*>(w.counting)->finish_thread(w, w.order[place]);
  if (w.arrivals != w.target) w.fail(&w, Fault::barrier_after_return, w.barrier_site, 0);
}

// Hands control on until there is a new threadgroup.
void leave(Worker& w, unsigned fiber) {
  const unsigned epoch = w.epoch;
  while (*const_cast<volatile unsigned*>(&w.epoch) == epoch) {
    const unsigned fibers = w.threads - w.first;
    msl_runtime::switch_fiber(w, fiber, w.finished == w.threads ? kMain : fiber + 1 < fibers ? fiber + 1 : 0);
  }
}

// What every fiber does for ever: one thread of each threadgroup. Fiber 0 runs one thread after the other as long as
// none of them has had to wait, so that kernels without barriers never pay for fibers.
void fiber_main() {
  Worker& w = msl_runtime::worker();
  const unsigned fiber = msl_runtime::this_fiber();
  while (true) {
    if (fiber == 0) {
      for (unsigned t = 0; t < w.threads && !w.suspended; ++t) {
        w.first = t;
        run_thread(w, t);
        finish_thread(w, t);
      }
    } else {
      const unsigned t = w.first + fiber;
      run_thread(w, t);
      finish_thread(w, t);
    }
    leave(w, fiber);
  }
}

void fail(Worker* w, Fault fault, unsigned site, unsigned other_site) {
  w->fault = fault;
  w->fault_site = site;
  w->fault_other_site = other_site;
  msl_runtime::switch_fiber(*w, msl_runtime::this_fiber(), kMain);
  __builtin_unreachable();
}

#if !defined(__x86_64__) || defined(MSL_PORTABLE_SWITCH)
#include "portable_switch.inc"
#else
void prepare(Worker& w, unsigned fiber, unsigned char* top) {
  void** frame = reinterpret_cast<void**>(top) - 2;  // entered as if it had been called: 8 bytes off 16
  frame[0] = reinterpret_cast<void*>(&fiber_main);
  frame[1] = nullptr;
  w.stack_pointers[fiber] = frame;
}
void prepare_switch(Worker&) {}
#endif

// The memory of one CPU thread's threadgroup: see worker.h.
class Region {
 public:
  Region() {
    constexpr size_t size = msl_runtime::kRegionBytes;
    void* p = mmap(nullptr, 2 * size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) throw std::runtime_error("no address space for the stacks of Metal threads");
    const uintptr_t begin = reinterpret_cast<uintptr_t>(p), base = (begin + size - 1) & ~(size - 1);
    if (base > begin) munmap(p, base - begin);
    munmap(reinterpret_cast<void*>(base + size), begin + size - base);
    base_ = reinterpret_cast<unsigned char*>(base);
    open(base_, msl_runtime::kStackBytes);
    p = mmap(nullptr, sizeof(msl_runtime::Matrices), PROT_READ | PROT_WRITE,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) throw std::runtime_error("no address space for the matrices of simdgroups");
    worker().matrices = static_cast<msl_runtime::Matrices*>(p);
    worker().fail = &fail;
    if (checks_enabled()) worker().checks = new msl_runtime::Checks{};
    prepare_switch(worker());
  }
  Region(const Region&) = delete;

  Worker& worker() { return *reinterpret_cast<Worker*>(base_); }

  void need(unsigned fibers) {
    for (; stacks_ < fibers; ++stacks_) {
      open(stack(stacks_) + kGuard, msl_runtime::kStackBytes - kGuard);
      reset(stacks_);
    }
  }

  // After a fault: no fiber remembers where it was.
  void reset() {
    for (unsigned f = 0; f < stacks_; ++f) reset(f);
  }

 private:
  static constexpr size_t kGuard = 4096;

  unsigned char* stack(unsigned fiber) { return base_ + (fiber + 1) * msl_runtime::kStackBytes; }

  void open(unsigned char* at, size_t bytes) {
    if (mprotect(at, bytes, PROT_READ | PROT_WRITE) != 0) {
      throw std::runtime_error("no memory for the stacks of Metal threads");
    }
  }

  // Tops at equal distances would share one set of the cache: each is shifted by some lines.
  void reset(unsigned fiber) {
    prepare(worker(), fiber, stack(fiber) + msl_runtime::kStackBytes - 64 - fiber % 64 * 192);
  }

  unsigned char* base_;
  unsigned stacks_ = 0;
};

msl_runtime::Uint3 plain(const Uint3& v) { return {v.x, v.y, v.z}; }

class Job {
 public:
  explicit Job(const Launch& launch) : launch_(launch) {
    const Uint3 &n = launch.dispatch->threads_per_grid, &g = launch.dispatch->threads_per_threadgroup;
    groups_ = {n.x / g.x + (n.x % g.x != 0), n.y / g.y + (n.y % g.y != 0), n.z / g.z + (n.z % g.z != 0)};
    total_ = launch.collector ? launch.collector->sample().threadgroups.size() : groups_.volume();
    if (checks_enabled() && !launch.collector) memory_.emplace(launch, groups_.volume());
    // Handed out singly when they are few, and else so that handing out costs nothing beside tiny threadgroups.
    chunk_ = std::clamp<uint64_t>(total_ / 1024, 1, 64);
  }

  uint64_t total() const { return total_; }

  // Runs threadgroups until none is left, in the memory of `region`.
  void work(Region& region) {
    Worker& w = region.worker();
    const Dispatch& d = *launch_.dispatch;
    region.need(static_cast<unsigned>(d.threads_per_threadgroup.volume()));
    const GuardedKernels guard(w);
    w.leader = launch_.code.leader;
    w.follower = launch_.code.follower;
    w.threads_per_grid = plain(d.threads_per_grid);
    w.threadgroups_per_grid = plain(groups_);
    w.dispatch_threads_per_threadgroup = plain(d.threads_per_threadgroup);
    for (size_t i = 0; i < kMaxBuffers; ++i) {
      w.buffers[i] = d.buffers[i].base ? d.buffers[i].base + d.buffers[i].offset : nullptr;
      w.threadgroup_memory[i] = w.arena + launch_.arguments[i];
    }
    if (memory_) memory_->begin(*w.checks);
    for (const ThreadgroupVariable& v : launch_.variables) w.threadgroup_variables[v.id] = w.arena + v.offset;
    std::optional<GroupCounter> counter;
    if (launch_.collector) counter.emplace(*launch_.collector, w);
    w.counting = counter ? &*counter : nullptr;
    for (uint64_t begin; (begin = next_.fetch_add(chunk_)) < total_;) {
      for (uint64_t i = begin; i < std::min(begin + chunk_, total_); ++i) {
        if (counter) counter->begin_threadgroup();
        run(w, counter ? launch_.collector->sample().threadgroups[i] : order_.threadgroup(i, total_));
        if (w.fault == Fault::none) {
          if (counter) counter->end_threadgroup(w, i);
          continue;
        }
        stop(w);
        region.reset();
        return;
      }
    }
  }

  void finish() const {
    if (!fault_.empty()) throw Finding(fault_);
  }

 private:
  void run(Worker& w, uint64_t index) {
    const Dispatch& d = *launch_.dispatch;
    const Uint3 &n = d.threads_per_grid, &g = d.threads_per_threadgroup;
    const msl_runtime::Uint3 at = {static_cast<unsigned>(index % groups_.x),
                                   static_cast<unsigned>(index / groups_.x % groups_.y),
                                   static_cast<unsigned>(index / groups_.x / groups_.y)};
    const msl_runtime::Uint3 size = {std::min(g.x, n.x - at.x * g.x), std::min(g.y, n.y - at.y * g.y),
                                     std::min(g.z, n.z - at.z * g.z)};
    w.threadgroup_position = at;
    w.threads_per_threadgroup = size;
    w.threads = size.x * size.y * size.z;
    lay_out(w, size);
    order_.threads(index, w.threads, w.order);
    if (memory_) begin_threadgroup(*w.checks, index);
    w.first = w.finished = w.suspended = w.arrivals = w.target = 0;
    for (unsigned i = 0; i * kSimdWidth < w.threads; ++i) {
      w.simdgroups[i].generation = 1;
      w.simdgroups[i].reduced[0] = w.simdgroups[i].reduced[1] = 0;
    }
    w.parity = msl_runtime::kBarrierEven;
    w.fault = Fault::none;
    std::memset(w.waits, 0, w.threads * sizeof(w.waits[0]));
    std::memset(w.matrices->operations, 0, w.threads * sizeof(w.matrices->operations[0]));
    // Not zero: a kernel that relies on zeroed threadgroup memory shall not pass. All ones is a NaN of every type.
    std::memset(w.arena, 0xff, launch_.arena_bytes);
    ++w.epoch;
    msl_runtime::switch_fiber(w, kMain, 0);
    if (memory_ && w.fault == Fault::none) end_threadgroup(w);
  }

  // Where each thread of a threadgroup of this size stands. Most have the size of the one before.
  static void lay_out(Worker& w, const msl_runtime::Uint3& size) {
    const msl_runtime::Uint3& last = w.positions_of;
    if (last.x == size.x && last.y == size.y && last.z == size.z) return;
    w.positions_of = size;
    unsigned t = 0;
    for (unsigned z = 0; z < size.z; ++z) {
      for (unsigned y = 0; y < size.y; ++y) {
        for (unsigned x = 0; x < size.x; ++x) {
          w.position_in_threadgroup[t++] = {static_cast<unsigned short>(x), static_cast<unsigned short>(y),
                                            static_cast<unsigned short>(z)};
        }
      }
    }
  }

  void stop(const Worker& w) {
    next_.store(total_);
    std::lock_guard<std::mutex> lock(mutex_);
    if (!fault_.empty()) return;
    const auto line = [](unsigned site) { return "program_source:" + std::to_string(site >> 8); };
    const msl_runtime::Uint3& g = w.threadgroup_position;
    fault_ = "kernel '" + launch_.name + "', threadgroup (" + std::to_string(g.x) + ", " + std::to_string(g.y) + ", " +
             std::to_string(g.z) + "): ";
    switch (w.fault) {
      case Fault::barrier_after_return:
        fault_ +=
            "the threadgroup_barrier at " + line(w.fault_site) + " is not reached by all threads: some have returned";
        break;
      case Fault::different_barriers:
        fault_ +=
            "threads wait at different barriers, at " + line(w.fault_site) + " and at " + line(w.fault_other_site);
        break;
      case Fault::different_simd_sites:
        fault_ += "lanes of one simdgroup wait in different simdgroup operations, at " + line(w.fault_site) +
                  " and at " + line(w.fault_other_site);
        break;
      case Fault::partial_simd_barrier:
        fault_ += "the simdgroup operation at " + line(w.fault_site) + " is not reached by all lanes of the simdgroup";
        break;
      case Fault::partial_simdgroup:
        fault_ += "the simdgroup matrix operation at " + line(w.fault_site) +
                  " needs 32 threads in its simdgroup, which has fewer";
        break;
      case Fault::different_matrices:
        fault_ += describe_matrices(w);
        break;
      case Fault::access:
        fault_ += describe(w);
        break;
      case Fault::memory:
      case Fault::misaligned:
      case Fault::stack:
      case Fault::division:
        fault_ += describe_signal(w);
        break;
      case Fault::none:
        break;
    }
  }

  const Launch& launch_;
  const Order& order_ = Order::of_environment();
  std::optional<DispatchMemory> memory_;
  Uint3 groups_;
  uint64_t total_, chunk_;
  std::atomic<uint64_t> next_{0};
  std::mutex mutex_;
  std::string fault_;
};

// CPU threads beside the caller, made on the first dispatch that is worth them. Never destroyed: work in flight when
// the process exits does no harm.
class Pool {
 public:
  static Pool& instance() {
    static Pool* const pool = new Pool;
    return *pool;
  }

  void run(Job& job) {
    std::lock_guard<std::mutex> one_dispatch(dispatch_);
    const size_t helpers = std::min<uint64_t>(job.total() - 1, cores_ - 1);
    while (threads_ < helpers) {
      std::thread([this] { serve(); }).detach();
      ++threads_;
    }
    {
      std::lock_guard<std::mutex> lock(mutex_);
      for (size_t i = 0; i < helpers; ++i) queue_.push_back(&job);
      running_ = helpers;
    }
    wake_.notify_all();
    job.work(region_);
    std::unique_lock<std::mutex> lock(mutex_);
    done_.wait(lock, [&] { return running_ == 0; });
  }

 private:
  void serve() {
    Region region;
    while (true) {
      Job* job;
      {
        std::unique_lock<std::mutex> lock(mutex_);
        wake_.wait(lock, [&] { return !queue_.empty(); });
        job = queue_.front();
        queue_.pop_front();
      }
      job->work(region);
      std::lock_guard<std::mutex> lock(mutex_);
      if (--running_ == 0) done_.notify_all();
    }
  }

  const size_t cores_ = std::max(1u, std::thread::hardware_concurrency());
  Region region_;  // of whichever thread calls run()
  std::mutex dispatch_, mutex_;
  std::condition_variable wake_, done_;
  std::deque<Job*> queue_;
  size_t threads_ = 0, running_ = 0;
};

}  // namespace

void execute(const Launch& launch) {
  Job job(launch);
  if (job.total() == 0) return;
  Pool::instance().run(job);
  job.finish();
}

}  // namespace mps_simulator::msl
