#include "compile_ahead.h"

#include <algorithm>
#include <exception>
#include <thread>

#include "process.h"

namespace mps_simulator::msl {

void CompileAhead::asked_for(const Kernel& kernel) {
  std::lock_guard<std::mutex> lock(mutex_);
  begun_.insert(kernel.id);
  // Who waits for one that is running needs no core.
  const size_t most = std::min(asked_++, cores() - 1 + running_.count(kernel.id));
  const std::vector<Kernel>& kernels = program_->kernels;
  auto next = std::find_if(kernels.begin(), kernels.end(), [&](const Kernel& k) { return k.id == kernel.id; });
  for (; next != kernels.end() && running_.size() < most; ++next) {
    if (!next->constants.empty() || !begun_.insert(next->id).second) continue;
    running_.insert(next->id);
    std::thread([self = shared_from_this(), &ahead = *next] {
      try {
        compile_kernel(*self->program_, ahead, {});
      } catch (const std::exception&) {
        // Told to whoever asks for this kernel.
      }
      std::lock_guard<std::mutex> lock(self->mutex_);
      self->running_.erase(ahead.id);
    }).detach();
  }
}

}  // namespace mps_simulator::msl
