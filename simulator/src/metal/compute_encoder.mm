#import "compute_encoder.h"

#include <algorithm>
#include <array>
#include <functional>
#include <limits>
#include <memory>
#include <vector>

#include "../msl/msl.h"
#include "../record.h"
#import "buffer.h"
#import "command_buffer.h"
#import "error.h"
#import "pipeline.h"
#import "raise.h"
#import "reference.h"

namespace mps_simulator {

constexpr NSUInteger kMaxBytes = 4096;
constexpr NSUInteger kThreadgroupMemoryAlignment = 16;

// What a dispatch sees of the calls before it.
struct Bindings {
  Reference<SimulatedPipeline*> pipeline;
  std::array<msl::BufferBinding, msl::kMaxBuffers> buffers;
  std::array<std::shared_ptr<std::vector<std::byte>>, msl::kMaxBuffers> bytes;  // behind the buffers that setBytes made
  std::array<size_t, msl::kMaxBuffers> threadgroup_memory{};
  std::shared_ptr<uint32_t> barriers = std::make_shared<uint32_t>(0);  // for buffers, since the last dispatch
};

// Dispatches of a concurrent encoder since the last barrier.
struct Concurrent {
  std::shared_ptr<msl::Unordered> unordered = msl::begin_unordered();
  std::vector<std::function<void()>> dispatches;
};

namespace {

std::string to_string(MTLSize size) {
  return "(" + std::to_string(size.width) + ", " + std::to_string(size.height) + ", " + std::to_string(size.depth) +
         ")";
}

bool fits_in_32_bits(MTLSize size) {
  constexpr NSUInteger kLimit = std::numeric_limits<uint32_t>::max();
  return size.width <= kLimit && size.height <= kLimit && size.depth <= kLimit;
}

msl::Uint3 to_uint3(MTLSize size) {
  return {static_cast<uint32_t>(size.width), static_cast<uint32_t>(size.height), static_cast<uint32_t>(size.depth)};
}

}  // namespace
}  // namespace mps_simulator

using namespace mps_simulator;

@implementation SimulatedComputeEncoder

- (instancetype)initWithBuffer:(SimulatedCommandBuffer*)buffer dispatchType:(MTLDispatchType)type {
  if ((self = [super initWithBuffer:buffer])) {
    _bindings = new Bindings;
    if (type == MTLDispatchTypeConcurrent) _concurrent = new Concurrent;
    raise_where_asked(self);
  }
  return self;
}

- (void)dealloc {
  delete _bindings;
  delete _concurrent;
  [super dealloc];
}

- (MTLDispatchType)dispatchType {
  return _concurrent ? MTLDispatchTypeConcurrent : MTLDispatchTypeSerial;
}

- (void)check:(const char*)call index:(NSUInteger)index {
  [self checkOpen:call];
  if (index >= msl::kMaxBuffers) {
    [self fail:std::string(call) + ": index " + std::to_string(index) +
               " must be <= " + std::to_string(msl::kMaxBuffers - 1)];
  }
}

- (void)check:(const char*)call offset:(NSUInteger)offset length:(NSUInteger)length {
  if (offset >= length) {
    [self fail:std::string(call) + ": offset " + std::to_string(offset) + " must be < the buffer's length " +
               std::to_string(length)];
  }
}

- (void)setComputePipelineState:(id<MTLComputePipelineState>)state {
  [self checkOpen:"setComputePipelineState:"];
  if (!state) [self fail:"setComputePipelineState: the pipeline is nil"];
  _bindings->pipeline = static_cast<SimulatedPipeline*>(state);
}

- (void)setBytes:(const void*)bytes length:(NSUInteger)length atIndex:(NSUInteger)index {
  [self check:"setBytes" index:index];
  if (!bytes || length == 0) [self fail:"setBytes: there are no bytes"];
  if (length > kMaxBytes) {
    [self fail:"setBytes: length " + std::to_string(length) + " must be <= " + std::to_string(kMaxBytes)];
  }
  const auto* first = static_cast<const std::byte*>(bytes);
  auto copy = std::make_shared<std::vector<std::byte>>(first, first + length);
  _bindings->buffers[index] = {copy->data(), length};
  _bindings->bytes[index] = std::move(copy);
}

- (void)setBuffer:(id<MTLBuffer>)buffer offset:(NSUInteger)offset atIndex:(NSUInteger)index {
  [self check:"setBuffer" index:index];
  if (buffer) [self check:"setBuffer" offset:offset length:buffer.length];
  _bindings->buffers[index] = buffer ? [self use:buffer offset:offset] : msl::BufferBinding{};
  _bindings->bytes[index] = nullptr;
}

- (void)setBufferOffset:(NSUInteger)offset atIndex:(NSUInteger)index {
  [self check:"setBufferOffset" index:index];
  auto& binding = _bindings->buffers[index];
  if (!binding.base) [self fail:"setBufferOffset: no buffer is set at index " + std::to_string(index)];
  [self check:"setBufferOffset" offset:offset length:binding.length];
  binding.offset = offset;
}

- (void)setBuffers:(const id<MTLBuffer>[])buffers offsets:(const NSUInteger[])offsets withRange:(NSRange)range {
  for (NSUInteger i = 0; i < range.length; ++i) {
    [self setBuffer:buffers[i] offset:offsets[i] atIndex:range.location + i];
  }
}

- (void)setThreadgroupMemoryLength:(NSUInteger)length atIndex:(NSUInteger)index {
  [self check:"setThreadgroupMemoryLength" index:index];
  if (length % kThreadgroupMemoryAlignment) {
    [self fail:"setThreadgroupMemoryLength: length " + std::to_string(length) + " must be a multiple of " +
               std::to_string(kThreadgroupMemoryAlignment)];
  }
  if (length > msl::kMaxThreadgroupMemory) {
    [self fail:"setThreadgroupMemoryLength: length " + std::to_string(length) +
               " must be <= " + std::to_string(msl::kMaxThreadgroupMemory)];
  }
  _bindings->threadgroup_memory[index] = length;
}

- (void)checkArguments:(const msl::Pipeline&)pipeline {
  for (const msl::Argument& argument : pipeline.arguments()) {
    const bool is_buffer = argument.kind == msl::ArgumentKind::buffer;
    const size_t offset = _bindings->buffers[argument.index].offset;
    if (is_buffer && offset % argument.alignment) {
      [self fail:"kernel " + pipeline.name() + ": the offset " + std::to_string(offset) + " of the buffer at index " +
                 std::to_string(argument.index) + " for " + argument.name + " must be a multiple of " +
                 std::to_string(argument.alignment)];
    }
    if (is_buffer ? _bindings->buffers[argument.index].base != nullptr
                  : _bindings->threadgroup_memory[argument.index] != 0) {
      continue;
    }
    [self fail:"kernel " + pipeline.name() + ": missing " + (is_buffer ? "buffer" : "threadgroup memory") +
               " binding at index " + std::to_string(argument.index) + " for " + argument.name];
  }
}

- (void)checkThreadgroup:(MTLSize)size call:(const std::string&)call {
  SimulatedPipeline* pipeline = _bindings->pipeline;
  const NSUInteger limit = [pipeline maxTotalThreadsPerThreadgroup];
  // Each side alone first: their product could overflow.
  if (size.width > limit || size.height > limit || size.depth > limit ||
      size.width * size.height * size.depth > limit) {
    [self fail:call + ": threadsPerThreadgroup " + to_string(size) + " is more than the " + std::to_string(limit) +
               " threads of kernel " + [pipeline pipeline]->name()];
  }
  if ([pipeline wholeSimdgroups] && size.width * size.height * size.depth % msl::kSimdWidth) {
    [self fail:call + ": threadsPerThreadgroup " + to_string(size) + " must be a multiple of 32 threads for kernel " +
               [pipeline pipeline]->name()];
  }
}

- (void)dispatch:(MTLSize)grid threadsPerThreadgroup:(MTLSize)size call:(const std::string&)call {
  [self checkOpen:call.c_str()];
  if (!_bindings->pipeline) [self fail:call + ": no pipeline is set"];
  if (!(grid.width && grid.height && grid.depth && size.width && size.height && size.depth)) {
    [self fail:call + ": grid " + to_string(grid) + " and threadsPerThreadgroup " + to_string(size) +
               " must not have a zero"];
  }
  if (!fits_in_32_bits(grid)) [self fail:call + ": a grid of " + to_string(grid) + " threads is past 32 bits"];
  [self checkThreadgroup:size call:call];
  const std::shared_ptr<const msl::Pipeline>& pipeline = [_bindings->pipeline pipeline];
  [self checkArguments:*pipeline];
  size_t memory = pipeline->static_threadgroup_memory_length();
  for (size_t length : _bindings->threadgroup_memory) memory += length;
  if (memory > msl::kMaxThreadgroupMemory) {
    [self fail:call + ": " + std::to_string(memory) + " bytes of threadgroup memory are more than " +
               std::to_string(msl::kMaxThreadgroupMemory)];
  }

  msl::Dispatch dispatch;
  dispatch.threads_per_grid = to_uint3(grid);
  dispatch.threads_per_threadgroup = to_uint3(size);
  dispatch.buffers = _bindings->buffers;
  dispatch.threadgroup_memory = _bindings->threadgroup_memory;
  if (_concurrent) dispatch.unordered = _concurrent->unordered;
  const uint32_t barriers_before = *_bindings->barriers;
  _bindings->barriers = std::make_shared<uint32_t>(0);
  NSString* label = [_bindings->pipeline label] ?: _label;
  DispatchRecord record{pipeline->name(),
                        mps_simulator::to_string(label),
                        {grid.width, grid.height, grid.depth},
                        {size.width, size.height, size.depth},
                        [_buffer number],
                        barriers_before,
                        _bindings -> barriers,
                        nullptr};
  std::function<void()> run = [pipeline, dispatch, record = std::move(record), bytes = _bindings->bytes]() mutable {
    Recorder& recorder = Recorder::instance();
    if (const std::optional<uint64_t> accesses = recorder.counting()) {
      record.counters = std::make_shared<msl::Counters>(pipeline->count(dispatch, *accesses));
    } else {
      pipeline->run(dispatch);
    }
    if (recorder.recording()) recorder.add(record);
  };
  if (_concurrent) {
    _concurrent->dispatches.push_back(std::move(run));
  } else {
    [self append:std::move(run)];
  }
}

- (void)dispatchThreads:(MTLSize)grid threadsPerThreadgroup:(MTLSize)size {
  [self dispatch:grid threadsPerThreadgroup:size call:"dispatchThreads"];
}

- (void)dispatchThreadgroups:(MTLSize)groups threadsPerThreadgroup:(MTLSize)size {
  const std::string call = "dispatchThreadgroups";
  [self checkOpen:call.c_str()];
  if (!fits_in_32_bits(groups) || !fits_in_32_bits(size)) {
    [self fail:call + ": threadgroupsPerGrid " + to_string(groups) + " is past 32 bits"];
  }
  [self dispatch:MTLSizeMake(groups.width * size.width, groups.height * size.height, groups.depth * size.depth)
      threadsPerThreadgroup:size
                       call:call];
}

// Hands on what a concurrent encoder may run in any order; what comes later is not mixed with it.
- (void)appendConcurrent {
  for (size_t i : msl::order_of_unordered(_concurrent->dispatches.size())) {
    [self append:std::move(_concurrent->dispatches[i])];
  }
  _concurrent->dispatches.clear();
}

- (void)memoryBarrierWithScope:(MTLBarrierScope)scope {
  [self checkOpen:"memoryBarrierWithScope:"];
  if (!(scope & MTLBarrierScopeBuffers)) return;
  ++*_bindings->barriers;
  if (!_concurrent) return;
  [self appendConcurrent];
  _concurrent->unordered = msl::begin_unordered();
}

- (void)memoryBarrierWithResources:(const id<MTLResource>[])resources count:(NSUInteger)count {
  [self checkOpen:"memoryBarrierWithResources:count:"];
  ++*_bindings->barriers;
  if (!_concurrent) return;
  [self appendConcurrent];
  std::vector<std::byte*> ordered;
  for (NSUInteger i = 0; i < count; ++i) ordered.push_back(host_memory(static_cast<id<MTLBuffer>>(resources[i])));
  _concurrent->unordered = msl::begin_unordered(_concurrent->unordered, ordered);
}

- (void)endEncoding {
  [self checkOpen:"endEncoding"];
  if (_concurrent) [self appendConcurrent];
  [super endEncoding];
}

- (void)useResource:(id<MTLResource>)resource usage:(MTLResourceUsage)usage {
  [self checkOpen:"useResource:usage:"];
  if (!resource) [self fail:"useResource:usage: the resource is nil"];
  [_buffer hold:resource];
}

- (void)useResources:(const id<MTLResource>[])resources count:(NSUInteger)count usage:(MTLResourceUsage)usage {
  for (NSUInteger i = 0; i < count; ++i) [self useResource:resources[i] usage:usage];
}

- (void)updateFence:(id<MTLFence>)fence {
  [self checkOpen:"updateFence:"];
}

- (void)waitForFence:(id<MTLFence>)fence {
  [self checkOpen:"waitForFence:"];
}

@end
