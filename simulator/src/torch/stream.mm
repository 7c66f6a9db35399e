// at::mps::MPSStream as an extension meets it: one shared compute encoder, a serial queue, commitAndContinue. Where
// the versions of PyTorch differ, the strictest is followed.
#include "torch/stream.h"

#include <ATen/mps/MPSAllocatorInterface.h>
#import <Metal/Metal.h>
#include <c10/metal/error.h>

#include <array>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <stdexcept>
#include <string>
#include <vector>

#include "foundation/fork.h"
#include "foundation/validation.h"
#include "torch/storage.h"

namespace mps_simulator {

namespace {

constexpr c10::StreamId kPoolSize = 32;  // as in torch 2.15

// What torch's class has no member for.
struct StreamState {
  std::atomic<bool> pending{false};  // something may have been encoded since the last wait
  // The rest is touched on the queue only.
  bool uncommitted = false;                       // something may have been encoded since the last commit
  std::vector<id<MTLCommandBuffer>> committed{};  // retained, not yet seen to be complete
  std::string fault{};                            // of the first command buffer that failed
  bool finding = false;                           // it is one of the checks of a kernel
};

struct StreamTable {
  std::mutex mutex;
  std::array<std::atomic<at::mps::MPSStream*>, kPoolSize + 1> streams{};
  std::array<StreamState, kPoolSize + 1> states{};
  std::atomic<uint32_t> next{0};
  std::atomic<int> pending_streams{0};
};

// Leaked: work may still be in flight when the process exits.
StreamTable& table() {
  static auto* const leaked = new StreamTable;
  return *leaked;
}

thread_local c10::StreamId current_id = 0;

// Under this key every stream's queue has its stream.
const char kStreamKey = 0;

StreamState& state_of(const at::mps::MPSStream* stream) { return table().states[stream->unwrap().id()]; }

void mark_pending(const at::mps::MPSStream* stream) {
  state_of(stream).uncommitted = true;
  if (!state_of(stream).pending.exchange(true)) ++table().pending_streams;
}

void mark_idle(const at::mps::MPSStream* stream) {
  if (state_of(stream).pending.exchange(false)) --table().pending_streams;
}

// PyTorch's encoder is serial, and may become concurrent: then only barriers order the dispatches of an extension.
bool concurrent_dispatches() {
  static const bool concurrent = [] {
    const char* value = std::getenv("MPS_SIMULATOR_DISPATCHES");
    const std::string text = value ? value : "serial";
    TORCH_CHECK(text == "serial" || text == "concurrent",
                "MPS_SIMULATOR_DISPATCHES must be serial or concurrent, and is ", text);
    return text == "concurrent";
  }();
  return concurrent;
}

// Forgets the command buffers that are complete, or waits for all of them, and keeps the first error.
void settle(StreamState& state, bool wait) {
  auto& committed = state.committed;
  size_t done = 0;
  for (; done < committed.size(); ++done) {
    id<MTLCommandBuffer> buffer = committed[done];
    if (wait) [buffer waitUntilCompleted];
    const MTLCommandBufferStatus status = [buffer status];
    if (status != MTLCommandBufferStatusCompleted && status != MTLCommandBufferStatusError) break;
    if (status == MTLCommandBufferStatusError && state.fault.empty()) {
      NSString* description = [[buffer error] localizedDescription];
      state.fault = description ? [description UTF8String] : "a command buffer failed";
      state.finding = [[buffer error] code] == MTLCommandBufferErrorPageFault;
    }
    [buffer release];
  }
  committed.erase(committed.begin(), committed.begin() + done);
}

void raise_fault(StreamState& state) {
  std::string fault;
  std::swap(fault, state.fault);
  if (!fault.empty() && state.finding && throw_finding) throw_finding(fault);
  TORCH_CHECK(fault.empty(), fault);
}

}  // namespace

at::mps::MPSStream* get_stream(c10::StreamId id) {
  TORCH_CHECK(id >= 0 && id <= kPoolSize, "There is no mps stream ", id);
  auto& slot = table().streams[id];
  if (auto* stream = slot.load(std::memory_order_acquire)) return stream;
  std::lock_guard<std::mutex> lock(table().mutex);
  if (!slot.load()) {
    @autoreleasepool {
      slot = new at::mps::MPSStream(c10::Stream(c10::Stream::UNSAFE, c10::Device(c10::kMPS, 0), id));
    }
  }
  return slot;
}

at::mps::MPSStream* next_stream() { return get_stream(table().next++ % kPoolSize + 1); }

at::mps::MPSStream* exchange_current_stream(at::mps::MPSStream* stream) {
  auto* previous = at::mps::getCurrentMPSStream();
  current_id = stream->unwrap().id();
  return previous;
}

c10::Stream current_stream() { return c10::Stream(c10::Stream::UNSAFE, c10::Device(c10::kMPS, 0), current_id); }

bool on_queue(const at::mps::MPSStream* stream) { return dispatch_get_specific(&kStreamKey) == stream; }

void run_on_queue(at::mps::MPSStream* stream, const std::function<void()>& body) {
  const auto* run = &body;
  at::mps::dispatch_sync_with_rethrow(stream->queue(), ^{
    @autoreleasepool {
      (*run)();
    }
  });
}

bool idle(at::mps::MPSStream* stream) {
  if (!state_of(stream).pending) return true;
  bool result = false;
  run_on_queue(stream, [&] {
    auto& state = state_of(stream);
    if (state.uncommitted) stream->synchronize(at::mps::SyncType::COMMIT);
    settle(state, false);
    result = state.committed.empty();
  });
  return result;
}

void synchronize(at::mps::MPSStream* stream) {
  run_on_queue(stream, [&] { stream->synchronize(at::mps::SyncType::COMMIT_AND_WAIT); });
}

void synchronize_all() {
  check_not_forked();
  if (table().pending_streams == 0) return;
  std::vector<at::mps::MPSStream*> pending;
  for (auto& slot : table().streams) {
    at::mps::MPSStream* stream = slot;
    if (stream && state_of(stream).pending) pending.push_back(stream);
  }
  // All are committed before any is waited for: one may wait for an event that another signals.
  for (auto* stream : pending) {
    run_on_queue(stream, [&] { stream->synchronize(at::mps::SyncType::COMMIT); });
  }
  for (auto* stream : pending) synchronize(stream);
}

void synchronize_for_host() {
  if (dispatch_get_specific(&kStreamKey)) {
    fail_validation("an operator ran inside a block of an mps stream's queue, where it waits for that queue for ever");
  }
  synchronize_all();
}

void raise_faults(at::mps::MPSStream* stream) {
  run_on_queue(stream, [&] {
    settle(state_of(stream), false);
    raise_fault(state_of(stream));
  });
}

}  // namespace mps_simulator

namespace at::mps {

using mps_simulator::mark_idle;
using mps_simulator::mark_pending;
using mps_simulator::state_of;

MPSStream::MPSStream(Stream stream) : _stream(stream) {
  TORCH_CHECK(_stream.device_type() == DeviceType::MPS);
  id<MTLDevice> device = MPSDevice::getInstance()->device();
  _commandQueue = [device newCommandQueue];
  _serialQueue = dispatch_queue_create("metal gpu stream", nullptr);
  dispatch_queue_set_specific(_serialQueue, &mps_simulator::kStreamKey, this, nullptr);
  _errorBuffer = [device newBufferWithLength:sizeof(c10::metal::ErrorMessages) options:MTLResourceStorageModeShared];
  std::memset([_errorBuffer contents], 0, sizeof(c10::metal::ErrorMessages));
}

MPSStream::~MPSStream() {
  [_errorBuffer release];
  [_commandQueue release];
  dispatch_release(_serialQueue);
}

MPSCommandBuffer* MPSStream::commandBuffer() {
  if (!_commandBuffer) {
    @autoreleasepool {
      _commandBuffer = [[MPSCommandBuffer commandBufferFromCommandQueue:_commandQueue] retain];
    }
  }
  mark_pending(this);
  return _commandBuffer;
}

id<MTLDevice> MPSStream::device() const { return [_commandQueue device]; }

id<MTLComputeCommandEncoder> MPSStream::commandEncoder() {
  if (!mps_simulator::on_queue(this)) {  // asserted by torch 2.15
    mps_simulator::fail_validation(
        "MPSStream::commandEncoder() was called outside dispatch_sync(stream->queue(), ^{ ... })");
  }
  if (!_commandEncoder) {
    @autoreleasepool {
      const auto type = mps_simulator::concurrent_dispatches() ? MTLDispatchTypeConcurrent : MTLDispatchTypeSerial;
      _commandEncoder = [[commandBuffer() computeCommandEncoderWithDispatchType:type] retain];
    }
  }
  return _commandEncoder;
}

void MPSStream::endKernelCoalescing() {
  if (_commandEncoder) {
    [_commandEncoder endEncoding];
    [_commandEncoder release];
    _commandEncoder = nil;
  }
}

void MPSStream::synchronize(SyncType syncType) {
  endKernelCoalescing();
  switch (syncType) {
    case SyncType::NONE:
      break;
    case SyncType::COMMIT_ADAPTIVE:
      if (getIMPSAllocator()->getLowWatermarkValue() <= 1) commit();
      break;
    case SyncType::COMMIT:
      commit();
      break;
    case SyncType::COMMIT_AND_WAIT:
      commitAndWait();
      break;
    case SyncType::COMMIT_AND_CONTINUE:
      commitAndContinue();
      break;
  }
}

void MPSStream::commit() {
  if (_commandBuffer) commitAndContinue();
}

void MPSStream::commitAndContinue() {
  TORCH_INTERNAL_ASSERT(_commandBuffer);
  auto& state = state_of(this);
  mps_simulator::settle(state, false);
  state.uncommitted = false;
  state.committed.push_back([[_commandBuffer rootCommandBuffer] retain]);
  [_commandBuffer commitAndContinue];
}

void MPSStream::commitAndWait() {
  auto& state = state_of(this);
  flush();
  mps_simulator::settle(state, true);
  mark_idle(this);
  checkLastError();
  mps_simulator::raise_fault(state);
}

void MPSStream::flush() {
  if (_commandBuffer) {
    state_of(this).uncommitted = false;
    state_of(this).committed.push_back([[_commandBuffer rootCommandBuffer] retain]);
    [_commandBuffer commit];
    [_commandBuffer release];
    _commandBuffer = nil;
  }
}

void MPSStream::addCompletedHandler(MTLCommandBufferHandler block) {
  dispatch_sync_with_rethrow(_serialQueue, ^{
    @autoreleasepool {
      [commandBuffer() addCompletedHandler:block];
    }
  });
}

void MPSStream::copy(id<MTLBuffer> srcBuffer, id<MTLBuffer> dstBuffer, size_t length, size_t srcOffset,
                     size_t dstOffset, uint64_t /*profileId*/, SyncType syncType) {
  dispatch_sync_with_rethrow(_serialQueue, ^{
    @autoreleasepool {
      endKernelCoalescing();
      id<MTLBlitCommandEncoder> encoder = [commandBuffer() blitCommandEncoder];
      [encoder copyFromBuffer:srcBuffer
                 sourceOffset:srcOffset
                     toBuffer:dstBuffer
            destinationOffset:dstOffset
                         size:length];
      [encoder endEncoding];
      synchronize(syncType);
    }
  });
}

void MPSStream::copy_and_sync(id<MTLBuffer> srcBuffer, id<MTLBuffer> dstBuffer, size_t length, size_t srcOffset,
                              size_t dstOffset, bool non_blocking, uint64_t profileId) {
  copy(srcBuffer, dstBuffer, length, srcOffset, dstOffset, profileId,
       non_blocking ? SyncType::COMMIT : SyncType::COMMIT_AND_WAIT);
}

void MPSStream::executeMPSGraph(MPSGraph*, NSDictionary*, NSDictionary*, SyncType) {
  TORCH_CHECK_NOT_IMPLEMENTED(false, "MPSGraph is not simulated: use Metal kernels");
}

id<MTLBuffer> MPSStream::getErrorBuffer() { return _errorBuffer; }

void MPSStream::checkLastError() {
  auto* messages = static_cast<c10::metal::ErrorMessages*>([_errorBuffer contents]);
  if (messages->count == 0) return;
  messages->count = 0;
  const auto& first = messages->msg[0];
  throw c10::AcceleratorError({first.func, first.file, first.line}, 1, first.message);
}

void dispatch_sync_with_rethrow(dispatch_queue_t queue, void (^block)()) {
  __block std::exception_ptr thrown;
  dispatch_sync(queue, ^{
    try {
      block();
    } catch (...) {
      thrown = std::current_exception();
    }
  });
  if (thrown) std::rethrow_exception(thrown);
}

MPSStream* getCurrentMPSStream() { return mps_simulator::get_stream(mps_simulator::current_id); }

MPSStream* getDefaultMPSStream() { return mps_simulator::get_stream(0); }

MPSStream* MPSStreamImpl::getInstance() { return getDefaultMPSStream(); }

}  // namespace at::mps
