#include "torch/pinned.h"

#include <c10/core/CPUAllocator.h>

#include <cstring>
#include <map>
#include <mutex>

namespace mps_simulator {
namespace {

struct Ranges {
  std::mutex mutex;
  std::map<const std::byte*, size_t> sizes;  // by address
};

Ranges& ranges() {
  static Ranges* leaked = new Ranges;
  return *leaked;
}

class PinnedAllocator final : public c10::Allocator {
 public:
  c10::DataPtr allocate(size_t size) override {
    auto* owner = new c10::DataPtr(c10::GetDefaultCPUAllocator()->allocate(size));
    void* memory = owner->get();
    if (memory) {
      std::lock_guard<std::mutex> lock(ranges().mutex);
      ranges().sizes[static_cast<std::byte*>(memory)] = size;
    }
    return {memory, owner, &free, c10::Device(c10::kCPU)};
  }

  void copy_data(void* destination, const void* source, size_t count) const override {
    std::memcpy(destination, source, count);
  }

 private:
  static void free(void* context) {
    auto* owner = static_cast<c10::DataPtr*>(context);
    {
      std::lock_guard<std::mutex> lock(ranges().mutex);
      ranges().sizes.erase(static_cast<std::byte*>(owner->get()));
    }
    delete owner;
  }
};

}  // namespace

c10::Allocator* pinned_allocator() {
  static auto* leaked = new PinnedAllocator;
  return leaked;
}

bool is_pinned(const void* pointer) {
  const auto* address = static_cast<const std::byte*>(pointer);
  std::lock_guard<std::mutex> lock(ranges().mutex);
  auto after = ranges().sizes.upper_bound(address);
  if (after == ranges().sizes.begin()) return false;
  const auto& [base, size] = *std::prev(after);
  return address < base + size;
}

}  // namespace mps_simulator
