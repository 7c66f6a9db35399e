// Storage on `mps` is an id<MTLBuffer>, of exactly the size that was asked for, so that the executor's bounds are the
// tensor's. Freed buffers are kept, by size, and are handed out again when no command buffer holds them.
#include <ATen/MemoryOverlap.h>
#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/mps/MPSAllocatorInterface.h>
#include <ATen/mps/MPSDevice.h>
#include <ATen/mps/MPSStream.h>
#include <ATen/ops/from_blob.h>
#import <Metal/Metal.h>
#include <c10/core/Storage.h>
#include <pthread.h>

#include <cstdlib>
#include <cstring>
#include <limits>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "foundation/fork.h"
#import "metal/buffer.h"
#include "torch/device.h"
#include "torch/pinned.h"
#include "torch/storage.h"
#include "torch/stream.h"

namespace mps_simulator {
namespace {

// New and recycled memory is filled with this byte, a NaN in every floating type: what a kernel forgot to write, or
// reads before it is written, shows.
constexpr int kUninitialised = 0xFF;

// torch's defaults, as ratios of the device's recommendedMaxWorkingSetSize.
constexpr double kHighWatermarkRatio = 1.7;
constexpr double kLowWatermarkRatio = 1.4;
constexpr double kWatermarkUpperBound = 2.0;

// More freed memory than this is not kept: a machine that runs tests has less of it than a Mac.
constexpr int64_t kMaxCached = int64_t{512} << 20;

double ratio_from_environment(const char* name, double otherwise) {
  const char* value = std::getenv(name);
  return value ? std::strtod(value, nullptr) : otherwise;
}

void check_ratio(const char* which, double ratio) {
  TORCH_CHECK(ratio >= 0.0 && ratio <= kWatermarkUpperBound, "invalid ", which, " watermark ratio ", ratio);
}

struct Block {
  size_t size = 0;
  id_t buffer_id = 0;
  bool cached = false;           // freed by torch and kept
  bool adopted = false;          // the memory belongs to a CPU data pointer
  std::vector<int64_t> shape{};  // for setBufferShape
};

class Allocator final : public at::mps::IMPSAllocator {
 public:
  c10::DataPtr allocate(size_t size) override;
  c10::DataPtr adopt(c10::DataPtr cpu, size_t size);
  c10::DeleterFnPtr raw_deleter() const override { return &free; }
  void copy_data(void* destination, const void* source, size_t count) const override;

  bool initialized() override { return true; }
  void emptyCache(c10::MempoolId_t = {0, 0}) override {
    synchronize_all();
    std::lock_guard<std::recursive_mutex> lock(mutex_);
    release_cached();
  }
  void freeInactiveBuffers() const override {}
  void recordStream(const c10::DataPtr&, c10::Stream) override {
  }  // a buffer that a command buffer holds is never reused

  c10::CachingDeviceAllocator::DeviceStats getDeviceStats(c10::DeviceIndex) override {
    std::lock_guard<std::recursive_mutex> lock(mutex_);
    c10::CachingDeviceAllocator::DeviceStats stats;
    stats.allocated_bytes[0] = stats.active_bytes[0] = stats.requested_bytes[0] = in_use_;
    stats.reserved_bytes[0] = reserved_;
    return stats;
  }
  void resetAccumulatedStats(c10::DeviceIndex) override {
    std::lock_guard<std::recursive_mutex> lock(mutex_);
    in_use_.reset_accumulated();
    reserved_.reset_accumulated();
  }
  void resetPeakStats(c10::DeviceIndex) override {
    std::lock_guard<std::recursive_mutex> lock(mutex_);
    in_use_.reset_peak();
    reserved_.reset_peak();
  }
  std::pair<size_t, size_t> getMemoryInfo(c10::DeviceIndex) override {
    const size_t total = getRecommendedMaxMemory(), used = getDriverAllocatedMemory();
    return {total > used ? total - used : 0, total};
  }

  ssize_t getUnalignedBufferSize(const void* buffer) const override {
    std::lock_guard<std::recursive_mutex> lock(mutex_);
    const Block* block = find(buffer);
    return block ? static_cast<ssize_t>(block->size) : -1;
  }
  at::IntArrayRef getBufferShape(const void* buffer) const override {
    std::lock_guard<std::recursive_mutex> lock(mutex_);
    const Block* block = find(buffer);
    return block ? at::IntArrayRef(block->shape) : at::IntArrayRef();
  }
  void setBufferShape(const void* buffer, const at::IntArrayRef& shape) const override {
    std::lock_guard<std::recursive_mutex> lock(mutex_);
    if (Block* block = find(buffer)) block->shape = shape.vec();
  }
  id_t getBufferId(const void* buffer) const override {
    std::lock_guard<std::recursive_mutex> lock(mutex_);
    const Block* block = find(buffer);
    return block ? block->buffer_id : 0;
  }
  bool isSharedBuffer(const void* buffer) const override {
    std::lock_guard<std::recursive_mutex> lock(mutex_);
    return find(buffer) != nullptr;
  }
  std::pair<const void*, uint32_t> getSharedBufferPtr(const void* buffer) const override {
    std::lock_guard<std::recursive_mutex> lock(mutex_);
    if (!find(buffer)) return {nullptr, 0};
    const auto metal = (id<MTLBuffer>)buffer;
    memory_of(metal)->set_written();  // from now on the host may do so unseen
    return {host_memory(metal), static_cast<uint32_t>([metal retainCount])};
  }
  c10::DataPtr allocScalarBufferWithValue(void* value, size_t size) const override {
    c10::DataPtr pointer = const_cast<Allocator*>(this)->allocate(size);
    std::memcpy(host_memory((id<MTLBuffer>)pointer.get()), value, size);
    memory_of((id<MTLBuffer>)pointer.get())->set_written();
    return pointer;
  }
  c10::Storage getHostAliasStorage(const c10::Storage& storage) const override;

  std::string formatSize(size_t size) const override { return c10::CachingAllocator::format_size(size); }
  void setLowWatermarkRatio(double ratio) const override {
    check_ratio("low", ratio);
    low_ratio_ = ratio;
  }
  void setHighWatermarkRatio(double ratio) const override {
    check_ratio("high", ratio);
    high_ratio_ = ratio;
  }
  ssize_t getLowWatermarkValue() const override {
    if (low_ratio_ == 0.0) return std::numeric_limits<ssize_t>::max();
    const auto left = static_cast<ssize_t>(getLowWatermarkLimit()) - static_cast<ssize_t>(getDriverAllocatedMemory());
    return std::max<ssize_t>(0, left / (1 << 20));
  }
  size_t getLowWatermarkLimit() const override { return static_cast<size_t>(low_ratio_ * getRecommendedMaxMemory()); }
  size_t getHighWatermarkLimit() const override {
    return high_ratio_ == 0.0 ? std::numeric_limits<size_t>::max()
                              : static_cast<size_t>(high_ratio_ * getRecommendedMaxMemory());
  }
  size_t getTotalAllocatedMemory() const override {
    std::lock_guard<std::recursive_mutex> lock(mutex_);
    return reserved_.current;
  }
  size_t getCurrentAllocatedMemory() const override {
    std::lock_guard<std::recursive_mutex> lock(mutex_);
    return in_use_.current;
  }
  size_t getDriverAllocatedMemory() const override { return [device() currentAllocatedSize]; }
  size_t getRecommendedMaxMemory() const override { return [device() recommendedMaxWorkingSetSize]; }

  bool recordEvents(c10::ArrayRef<const void*>) const override { return false; }
  bool waitForEvents(c10::ArrayRef<const void*>) const override { return false; }

  std::recursive_mutex& mutex() { return mutex_; }
  void replace_mutex() { new (&mutex_) std::recursive_mutex; }

 private:
  static id<MTLDevice> device() { return at::mps::MPSDevice::getInstance()->device(); }
  static void free(void* buffer);

  Block* find(const void* buffer) const {
    const auto found = blocks_.find(buffer);
    return found == blocks_.end() ? nullptr : &found->second;
  }

  bool fits(size_t size) const { return getDriverAllocatedMemory() + size <= getHighWatermarkLimit(); }
  void require_room(size_t size);
  void* take_cached(size_t size);
  void insert(void* buffer, size_t size, bool adopted);
  void release(const void* buffer);
  void release_cached();

  // torch's interface calls setters const.
  mutable std::recursive_mutex mutex_;
  mutable double high_ratio_ = ratio_from_environment("PYTORCH_MPS_HIGH_WATERMARK_RATIO", kHighWatermarkRatio);
  mutable double low_ratio_ =
      ratio_from_environment("PYTORCH_MPS_LOW_WATERMARK_RATIO",
                             high_ratio_ == 0 ? kLowWatermarkRatio : std::min(kLowWatermarkRatio, high_ratio_));
  mutable std::unordered_map<const void*, Block> blocks_;
  std::unordered_map<size_t, std::vector<void*>> cache_;  // freed buffers by size
  c10::CachingAllocator::Stat in_use_, reserved_;
  id_t next_id_ = 0;
};

Allocator& allocator() {
  static Allocator* leaked = new Allocator;
  static const bool once = [] {
    pthread_atfork([] { leaked->mutex().lock(); }, [] { leaked->mutex().unlock(); }, [] { leaked->replace_mutex(); });
    return true;
  }();
  (void)once;
  return *leaked;
}

c10::DataPtr data_pointer(void* buffer, c10::DeleterFnPtr deleter) {
  return {buffer, buffer, deleter, c10::Device(c10::kMPS, 0)};
}

c10::DataPtr Allocator::allocate(size_t size) {
  if (size == 0) return data_pointer(nullptr, &free);
  check_not_forked();
  TORCH_CHECK(size <= max_buffer_length(), "Invalid buffer size: ", formatSize(size));
  std::lock_guard<std::recursive_mutex> lock(mutex_);
  void* buffer = take_cached(size);
  if (!buffer) {
    require_room(size);
    buffer = [device() newBufferWithLength:size options:MTLResourceStorageModeShared];
    TORCH_CHECK(buffer, "MPS backend out of memory: the machine has no ", formatSize(size), " left.");
    insert(buffer, size, false);
  }
  std::memset(host_memory((id<MTLBuffer>)buffer), kUninitialised, size);
  memory_of((id<MTLBuffer>)buffer)->set_unwritten();
  in_use_.increase(size);
  return data_pointer(buffer, &free);
}

c10::DataPtr Allocator::adopt(c10::DataPtr cpu, size_t size) {
  if (size == 0 || !cpu.get()) return data_pointer(nullptr, &free);
  std::lock_guard<std::recursive_mutex> lock(mutex_);
  require_room(size);
  auto* owner = new c10::DataPtr(std::move(cpu));
  void* buffer = new_buffer_around(owner->get(), size, [owner] { delete owner; });
  insert(buffer, size, true);
  in_use_.increase(size);
  return data_pointer(buffer, &free);
}

void Allocator::free(void* buffer) {
  if (!buffer) return;
  Allocator& self = allocator();
  std::lock_guard<std::recursive_mutex> lock(self.mutex_);
  Block* block = self.find(buffer);
  TORCH_INTERNAL_ASSERT(block && !block->cached);
  self.in_use_.decrease(block->size);
  if (block->adopted) {
    self.release(buffer);
  } else {
    block->cached = true;
    block->shape.clear();
    self.cache_[block->size].push_back(buffer);
    if (self.reserved_.current - self.in_use_.current > kMaxCached) self.release_cached();
  }
}

void* Allocator::take_cached(size_t size) {
  const auto found = cache_.find(size);
  if (found == cache_.end()) return nullptr;
  auto& buffers = found->second;
  for (auto it = buffers.rbegin(); it != buffers.rend(); ++it) {
    void* buffer = *it;
    if ([(id<MTLBuffer>)buffer retainCount] > 1) continue;  // a command buffer holds it
    buffers.erase(std::next(it).base());
    find(buffer)->cached = false;
    return buffer;
  }
  return nullptr;
}

// As torch does before it gives up: first the cache goes, then the work in flight, which may hold buffers.
void Allocator::require_room(size_t size) {
  check_ratio("high", high_ratio_);  // the environment's are not checked before
  check_ratio("low", low_ratio_);
  if (fits(size)) return;
  release_cached();
  if (fits(size)) return;
  mutex_.unlock();
  synchronize_all();
  mutex_.lock();
  if (fits(size)) return;
  const size_t driver = getDriverAllocatedMemory();
  const size_t ours = reserved_.current;
  TORCH_CHECK(false, "MPS backend out of memory (MPS allocated: ", formatSize(ours),
              ", other allocations: ", formatSize(driver > ours ? driver - ours : 0),
              ", max allowed: ", formatSize(getHighWatermarkLimit()), "). Tried to allocate ", formatSize(size),
              " on shared pool. Use PYTORCH_MPS_HIGH_WATERMARK_RATIO=0.0 to disable upper limit for memory "
              "allocations (may cause system failure).");
}

void Allocator::insert(void* buffer, size_t size, bool adopted) {
  blocks_[buffer] = Block{size, ++next_id_, false, adopted};
  reserved_.increase(size);
}

void Allocator::release(const void* buffer) {
  reserved_.decrease(find(buffer)->size);
  blocks_.erase(buffer);
  [(id<MTLBuffer>)buffer release];
}

void Allocator::release_cached() {
  for (auto& [size, buffers] : cache_) {
    for (void* buffer : buffers) release(buffer);
  }
  cache_.clear();
}

void Allocator::copy_data(void* destination, const void* source, size_t count) const {
  synchronize_for_host();
  const auto to = (id<MTLBuffer>)destination, from = (id<MTLBuffer>)source;
  std::memcpy(host_memory(to), host_memory(from), count);
  memory_of(to)->copy_written(0, *memory_of(from), 0, count);
}

c10::Storage Allocator::getHostAliasStorage(const c10::Storage& storage) const {
  TORCH_CHECK(isSharedBuffer(storage.data()) || storage.nbytes() == 0, "The storage is not of the mps allocator");
  if (storage.data()) memory_of((id<MTLBuffer>)storage.data())->set_written();
  auto* owner = new c10::Storage(storage);
  c10::DataPtr pointer(
      contents(*storage.unsafeGetStorageImpl()), owner,
      [](void* context) { delete static_cast<c10::Storage*>(context); }, c10::Device(c10::kCPU));
  return c10::Storage(c10::Storage::use_byte_size_t(), storage.nbytes(), std::move(pointer));
}

}  // namespace

REGISTER_ALLOCATOR(c10::kMPS, &allocator())

std::byte* contents(const c10::StorageImpl& storage) {
  const void* buffer = storage.data();
  return buffer ? host_memory((id<MTLBuffer>)buffer) : nullptr;
}

std::byte* contents(const at::TensorBase& tensor) {
  std::byte* base = contents(*tensor.storage().unsafeGetStorageImpl());
  return base ? base + tensor.storage_offset() * tensor.element_size() : nullptr;
}

void mark_written(const at::Tensor& tensor) {
  const void* buffer = tensor.numel() ? tensor.storage().data() : nullptr;
  if (!buffer) return;
  const auto& memory = memory_of((id<MTLBuffer>)buffer);
  const auto map = memory->written();
  if (!map) return;
  const size_t size = tensor.element_size(), begin = tensor.storage_offset() * size;
  if (tensor.is_non_overlapping_and_dense()) {
    memory->set_written(begin, tensor.numel() * size);
    return;
  }
  if (at::has_internal_overlap(tensor) == at::MemOverlap::Yes) {
    memory->set_written();
    return;
  }
  // The same elements of the map.
  const auto dtype = size == 1 ? at::kChar : size == 2 ? at::kShort : size == 4 ? at::kInt : at::kLong;
  at::AutoDispatchBelowAutograd below_autograd;
  at::from_blob(map.get() + begin, tensor.sizes(), tensor.strides(), at::TensorOptions(dtype)).fill_(-1);
}

c10::DataPtr wrap(c10::DataPtr cpu, size_t nbytes) { return allocator().adopt(std::move(cpu), nbytes); }

}  // namespace mps_simulator

namespace at::mps {

IMPSAllocator* getIMPSAllocator() { return &mps_simulator::allocator(); }
at::Allocator* GetMPSAllocator() { return getIMPSAllocator(); }
bool isMPSPinnedPtr(const void* data) { return mps_simulator::is_pinned(data); }

}  // namespace at::mps
