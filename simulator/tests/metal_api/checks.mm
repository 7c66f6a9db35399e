// What the checks find in encodings: each fault beside an encoding like it that has none.
#include <cstdlib>
#include <cstring>

#include "cases.h"

namespace {

struct Commands {
  id<MTLCommandQueue> queue = [[device() newCommandQueue] autorelease];
  id<MTLCommandBuffer> buffer = [queue commandBuffer];

  // The words of the finding, or "".
  std::string run() {
    [buffer commit];
    [buffer waitUntilCompleted];
    return buffer.error ? [buffer.error.localizedDescription UTF8String] : "";
  }
};

void dispatch(id<MTLComputeCommandEncoder> encoder, const char* kernel, id<MTLBuffer> x, NSUInteger offset = 0) {
  const float three = 3;
  [encoder setComputePipelineState:pipeline(kernel)];
  [encoder setBuffer:x offset:offset atIndex:0];
  if (!std::strcmp(kernel, "add")) [encoder setBytes:&three length:sizeof(three) atIndex:1];
  [encoder dispatchThreads:MTLSizeMake((x.length - offset) / sizeof(float), 1, 1)
      threadsPerThreadgroup:MTLSizeMake(32, 1, 1)];
}

bool contains(const std::string& text, const char* words) { return text.find(words) != std::string::npos; }

// Increments `first`, does what `between` does, and increments `second`.
std::string increment_both(MTLDispatchType type, id<MTLBuffer> first, id<MTLBuffer> second,
                           const std::function<void(id<MTLComputeCommandEncoder>)>& between) {
  Commands commands;
  id<MTLComputeCommandEncoder> encoder = [commands.buffer computeCommandEncoderWithDispatchType:type];
  dispatch(encoder, "increment", first);
  between(encoder);
  dispatch(encoder, "increment", second);
  [encoder endEncoding];
  return commands.run();
}

void nothing(id<MTLComputeCommandEncoder>) {}
void barrier(id<MTLComputeCommandEncoder> encoder) { [encoder memoryBarrierWithScope:MTLBarrierScopeBuffers]; }

const char* const kUnordered = "a race with another dispatch of the same concurrent encoder";

}  // namespace

CASE(only_barriers_order_concurrent_dispatches) {
  id<MTLBuffer> x = floats(40, 1), y = floats(40, 1);
  CHECK(increment_both(MTLDispatchTypeConcurrent, x, y, nothing) == "");
  CHECK(increment_both(MTLDispatchTypeConcurrent, x, x, barrier) == "");
  CHECK(increment_both(MTLDispatchTypeSerial, x, x, nothing) == "");
  CHECK(first(x) == 6 && first(y) == 2);
  const std::string found = increment_both(MTLDispatchTypeConcurrent, x, x, nothing);
  CHECK(contains(found, "kernel 'increment', threadgroup (0, 0, 0): thread (0, 0, 0), program_source:8: "));
  CHECK(contains(found, kUnordered));
  CHECK(increment_both(MTLDispatchTypeConcurrent, x, x, barrier) == "");
}

CASE(only_a_barrier_orders_a_write_after_a_read) {
  id<MTLBuffer> x = floats(40, 1), y = floats(40, 1);
  for (const bool ordered : {true, false}) {
    Commands commands;
    id<MTLComputeCommandEncoder> encoder =
        [commands.buffer computeCommandEncoderWithDispatchType:MTLDispatchTypeConcurrent];
    [encoder setBuffer:y offset:0 atIndex:1];
    dispatch(encoder, "constant_bytes", x);
    if (ordered) barrier(encoder);
    dispatch(encoder, "increment", y);
    [encoder endEncoding];
    CHECK(contains(commands.run(), kUnordered) != ordered);
  }
}

CASE(a_barrier_for_resources_orders_these_alone) {
  id<MTLBuffer> x = floats(40, 1), y = floats(40, 1);
  const id<MTLResource> of_x[] = {x}, of_y[] = {y};
  CHECK(increment_both(MTLDispatchTypeConcurrent, x, x, [&](id<MTLComputeCommandEncoder> encoder) {
          [encoder memoryBarrierWithResources:of_x count:1];
        }) == "");
  CHECK(contains(
      increment_both(MTLDispatchTypeConcurrent, x, x,
                     [&](id<MTLComputeCommandEncoder> encoder) { [encoder memoryBarrierWithResources:of_y count:1]; }),
      kUnordered));
}

CASE(parts_of_one_buffer_are_its_own) {
  id<MTLBuffer> x = floats(40, 1);
  for (const bool apart : {true, false}) {
    Commands commands;
    id<MTLComputeCommandEncoder> encoder =
        [commands.buffer computeCommandEncoderWithDispatchType:MTLDispatchTypeConcurrent];
    [encoder setComputePipelineState:pipeline("increment")];
    for (const NSUInteger offset : {0, 80}) {
      [encoder setBuffer:x offset:offset atIndex:0];
      [encoder dispatchThreads:MTLSizeMake(apart ? 20 : 21 - offset / 80, 1, 1)
          threadsPerThreadgroup:MTLSizeMake(32, 1, 1)];
    }
    [encoder endEncoding];
    CHECK(contains(commands.run(), kUnordered) != apart);
  }
}

CASE(unordered_dispatches_run_in_reverse) {
  setenv("MPS_SIMULATOR_ORDER", "reverse", 1);
  for (const MTLDispatchType type : {MTLDispatchTypeConcurrent, MTLDispatchTypeSerial}) {
    Commands commands;
    id<MTLBuffer> x = floats(1, 1);
    id<MTLComputeCommandEncoder> encoder = [commands.buffer computeCommandEncoderWithDispatchType:type];
    dispatch(encoder, "take", x);
    dispatch(encoder, "add_atomically", x);
    [encoder endEncoding];
    CHECK(commands.run() == "");
    CHECK(first(x) == (type == MTLDispatchTypeConcurrent ? 2 : 3));
  }
}

CASE(memory_must_be_written_before_it_is_read) {
  for (const bool written : {true, false}) {
    id<MTLBuffer> from = [device() newBufferWithLength:160 options:MTLResourceStorageModePrivate];
    id<MTLBuffer> to = [device() newBufferWithLength:160 options:MTLResourceStorageModePrivate];
    Commands commands;
    id<MTLBlitCommandEncoder> blit = [commands.buffer blitCommandEncoder];
    [blit fillBuffer:from range:NSMakeRange(0, written ? 160 : 156) value:0];
    [blit copyFromBuffer:from sourceOffset:0 toBuffer:to destinationOffset:0 size:160];
    [blit endEncoding];
    encode_increment(commands.buffer, to);
    const std::string found = commands.run();
    CHECK(written == found.empty());
    CHECK(written || contains(found, "thread (7, 0, 0), program_source:8: a read of 4 bytes at offset 156 of the "
                                     "buffer at index 0, which has 160 bytes: nobody has written there"));
  }
}

CASE(who_takes_the_contents_may_write_them) {
  id<MTLBuffer> buffer = [device() newBufferWithLength:160 options:MTLResourceStorageModeShared];
  std::memset(buffer.contents, 0, 160);
  Commands commands;
  encode_increment(commands.buffer, buffer);
  CHECK(commands.run() == "" && first(buffer) == 1);
}

CASE(buffers_outlive_their_commands) {
  for (const bool retained : {true, false}) {
    for (const bool blits : {true, false}) {
      Commands commands;
      if (!retained) commands.buffer = [commands.queue commandBufferWithUnretainedReferences];
      id<MTLSharedEvent> gate = [device() newSharedEvent];
      [commands.buffer encodeWaitForEvent:gate value:1];
      @autoreleasepool {
        id<MTLBuffer> x = floats(40, 1);
        if (blits) {
          id<MTLBlitCommandEncoder> blit = [commands.buffer blitCommandEncoder];
          [blit fillBuffer:x range:NSMakeRange(0, 160) value:0];
          [blit endEncoding];
        } else {
          encode_increment(commands.buffer, x);
        }
      }
      gate.signaledValue = 1;
      const std::string found = commands.run();
      CHECK(retained == found.empty());
      CHECK(retained || contains(found, "released before the commands that use it were complete"));
      CHECK(retained || contains(found, blits ? "fillBuffer" : "kernel 'increment': the buffer at index 0, 'x'"));
    }
  }
}

CASE(offsets_are_multiples_of_what_is_read_there) {
  Commands commands;
  id<MTLBuffer> x = floats(40, 1), y = floats(40, 1);
  id<MTLComputeCommandEncoder> encoder = [commands.buffer computeCommandEncoder];
  dispatch(encoder, "increment", x, 4);
  CHECK_REFUSED("the offset 2 of the buffer at index 0 for x must be a multiple of 4",
                dispatch(encoder, "increment", x, 2));
  [encoder setBuffer:y offset:8 atIndex:1];
  dispatch(encoder, "constant_bytes", x);
  [encoder setBuffer:y offset:9 atIndex:1];  // its type would allow any, the address space does not
  CHECK_REFUSED("the offset 9 of the buffer at index 1 for y must be a multiple of 4",
                dispatch(encoder, "constant_bytes", x));
  [encoder endEncoding];
  CHECK(commands.run() == "");
}
