// The bytes behind a buffer, and what is known of them: which somebody has written, and whether the buffer is gone.
#pragma once

#include <atomic>
#include <cstddef>
#include <functional>
#include <memory>
#include <mutex>

namespace mps_simulator::msl {

class BufferMemory {
 public:
  // All is taken as written. `release` runs when nobody refers to the memory any more.
  BufferMemory(size_t length, std::function<void()> release);
  ~BufferMemory();
  BufferMemory(const BufferMemory&) = delete;

  // 0xff for each byte that was written, else 0; null: all were, or the checks are off.
  std::shared_ptr<unsigned char[]> written() const;

  void set_written();
  void set_written(size_t offset, size_t length);
  // The memory is handed out anew.
  void set_unwritten();
  // Bytes were copied from `from`, which may have been unwritten themselves.
  void copy_written(size_t offset, const BufferMemory& from, size_t from_offset, size_t length);

  // The buffer is gone; commands that still refer to its memory are at fault.
  void let_go() { gone_ = true; }
  bool gone() const { return gone_; }

 private:
  const size_t length_;
  const std::function<void()> release_;
  mutable std::mutex mutex_;
  std::shared_ptr<unsigned char[]> written_;
  std::atomic<bool> gone_{false};
};

}  // namespace mps_simulator::msl
