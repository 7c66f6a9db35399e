// LD_PRELOAD: counts what the bridge allocates with operator new, itself or through the C++ standard library's strings
// and containers. What PyTorch or Metal allocates on its behalf is theirs.
#include <dlfcn.h>
#include <unwind.h>

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <new>

namespace {

std::atomic<bool> counting{false};
std::atomic<long> allocations{0};
thread_local bool looking = false;

// Stops at the first caller that is neither this library nor the C++ standard library.
_Unwind_Reason_Code look(_Unwind_Context* frame, void* ours) {
  Dl_info info{};
  if (dladdr(reinterpret_cast<void*>(_Unwind_GetIP(frame)), &info) == 0) {
    return _URC_NORMAL_STOP;
  }
  if (std::strstr(info.dli_fname, "liballocations") != nullptr || std::strstr(info.dli_fname, "libstdc++") != nullptr) {
    return _URC_NO_REASON;
  }
  *static_cast<bool*>(ours) = std::strstr(info.dli_fname, "/_bridge/torch_") != nullptr;
  return _URC_NORMAL_STOP;
}

}  // namespace

extern "C" {
void start_counting() {
  allocations = 0;
  counting = true;
}

long stop_counting() {
  counting = false;
  return allocations;
}
}

void* operator new(size_t size) {
  if (counting && !looking) {
    looking = true;
    bool ours = false;
    _Unwind_Backtrace(look, &ours);
    allocations += ours ? 1 : 0;
    looking = false;
  }
  if (void* memory = std::malloc(size == 0 ? 1 : size)) {
    return memory;
  }
  throw std::bad_alloc();
}

void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, size_t) noexcept { std::free(memory); }
