#include "buffer_memory.h"

#include <cstdlib>
#include <cstring>
#include <new>
#include <utility>

#include "checks.h"

namespace mps_simulator::msl {

BufferMemory::BufferMemory(size_t length, std::function<void()> release)
    : length_(length), release_(std::move(release)) {}

BufferMemory::~BufferMemory() {
  if (release_) release_();
}

std::shared_ptr<unsigned char[]> BufferMemory::written() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return written_;
}

void BufferMemory::set_written() {
  std::lock_guard<std::mutex> lock(mutex_);
  written_ = nullptr;
}

void BufferMemory::set_written(size_t offset, size_t length) {
  if (offset == 0 && length >= length_) return set_written();
  if (const auto map = written()) std::memset(map.get() + offset, 0xff, length);
}

void BufferMemory::set_unwritten() {
  if (!checks_enabled()) return;
  // Of a large one no page is touched before it is needed.
  auto* map = static_cast<unsigned char*>(std::calloc(length_, 1));
  if (!map) throw std::bad_alloc();
  std::lock_guard<std::mutex> lock(mutex_);
  written_ = std::shared_ptr<unsigned char[]>(map, std::free);
}

void BufferMemory::copy_written(size_t offset, const BufferMemory& from, size_t from_offset, size_t length) {
  const auto source = from.written();
  if (!source) return set_written(offset, length);
  const auto complete = [&] {
    for (size_t i = 0; i < length; ++i) {
      if (!source[from_offset + i]) return false;
    }
    return true;
  };
  if (complete()) return set_written(offset, length);
  auto map = written();
  if (!map) {
    set_unwritten();
    map = written();
    std::memset(map.get(), 0xff, length_);
  }
  std::memmove(map.get() + offset, source.get() + from_offset, length);
}

}  // namespace mps_simulator::msl
