// What Metal's validation layer aborts on.
#include <unistd.h>

#include "cases.h"

namespace {

id<MTLCommandBuffer> commands() { return [[[device() newCommandQueue] autorelease] commandBuffer]; }

struct Encoder {
  id<MTLCommandBuffer> buffer = commands();
  id<MTLComputeCommandEncoder> encoder = [buffer computeCommandEncoder];
  MTLSize one = MTLSizeMake(1, 1, 1);
};

}  // namespace

CASE(encoders_end_once_and_before_commit) {
  Encoder open;
  CHECK_REFUSED("encoder is open", [open.buffer computeCommandEncoder]);
  CHECK_REFUSED("encoder is open", [open.buffer blitCommandEncoder]);
  CHECK_REFUSED("encoder is open", [open.buffer commit]);
  CHECK_REFUSED("encoder is open", [open.buffer encodeSignalEvent:[device() newSharedEvent] value:1]);
  [open.encoder endEncoding];
  CHECK_REFUSED("after endEncoding", [open.encoder endEncoding]);
  CHECK_REFUSED("after endEncoding", [open.encoder setBytes:"x" length:1 atIndex:0]);
  CHECK_REFUSED("after endEncoding", [open.encoder dispatchThreads:open.one threadsPerThreadgroup:open.one]);
  CHECK_REFUSED("after endEncoding", [open.encoder setComputePipelineState:pipeline("increment")]);
  CHECK_REFUSED("after endEncoding", [open.encoder memoryBarrierWithScope:MTLBarrierScopeBuffers]);
  [open.buffer commit];
  [open.buffer waitUntilCompleted];
}

CASE(a_forgotten_encoder_is_refused) {
  CHECK_REFUSED("released without endEncoding", @autoreleasepool { Encoder forgotten; });
}

CASE(a_refused_encoder_does_not_block_its_buffer) {
  id<MTLCommandBuffer> buffer = commands();
  CHECK_REFUSED("no pipeline", {
    @autoreleasepool {
      const MTLSize one = MTLSizeMake(1, 1, 1);
      [[buffer computeCommandEncoder] dispatchThreads:one threadsPerThreadgroup:one];
    }
  });
  id<MTLBuffer> x = floats(4, 1);
  encode_increment(buffer, x);
  [buffer commit];
  [buffer waitUntilCompleted];
  CHECK(first(x) == 2);
}

CASE(a_buffer_is_committed_once) {
  id<MTLCommandBuffer> buffer = commands();
  CHECK_REFUSED("not committed", [buffer waitUntilCompleted]);
  CHECK_REFUSED("not committed", [buffer waitUntilScheduled]);
  [buffer commit];
  CHECK_REFUSED("was committed", [buffer commit]);
  CHECK_REFUSED("was committed", [buffer computeCommandEncoder]);
  CHECK_REFUSED("enqueued or committed", [buffer enqueue]);
  CHECK_REFUSED("after commit", [buffer addCompletedHandler:^(id<MTLCommandBuffer>){
                                }]);
  CHECK_REFUSED("after commit", [buffer addScheduledHandler:^(id<MTLCommandBuffer>){
                                }]);
  [buffer waitUntilCompleted];
}

CASE(arguments_have_limits) {
  Encoder open;
  id<MTLComputeCommandEncoder> encoder = open.encoder;
  std::vector<char> bytes(5000);
  id<MTLBuffer> buffer = floats(4, 0);
  [encoder setBytes:bytes.data() length:4096 atIndex:30];
  CHECK_REFUSED("<= 4096", [encoder setBytes:bytes.data() length:4097 atIndex:0]);
  CHECK_REFUSED("no bytes", [encoder setBytes:bytes.data() length:0 atIndex:0]);
  CHECK_REFUSED("<= 30", [encoder setBytes:bytes.data() length:1 atIndex:31]);
  CHECK_REFUSED("<= 30", [encoder setBuffer:buffer offset:0 atIndex:31]);
  CHECK_REFUSED("buffer's length 16", [encoder setBuffer:buffer offset:16 atIndex:0]);
  [encoder setBuffer:buffer offset:12 atIndex:0];
  CHECK_REFUSED("buffer's length 16", [encoder setBufferOffset:20 atIndex:0]);
  CHECK_REFUSED("no buffer", [encoder setBufferOffset:0 atIndex:5]);
  const id<MTLBuffer> two[] = {buffer, buffer};
  const NSUInteger offsets[] = {0, 4};
  [encoder setBuffers:two offsets:offsets withRange:NSMakeRange(29, 2)];
  CHECK_REFUSED("<= 30", [encoder setBuffers:two offsets:offsets withRange:NSMakeRange(30, 2)]);
  CHECK_REFUSED("multiple of 16", [encoder setThreadgroupMemoryLength:8 atIndex:0]);
  CHECK_REFUSED("<= 32768", [encoder setThreadgroupMemoryLength:32784 atIndex:0]);
  CHECK_REFUSED("pipeline is nil", [encoder setComputePipelineState:(id<MTLComputePipelineState> _Nonnull)nil]);
  [encoder endEncoding];
}

CASE(dispatches_have_limits) {
  Encoder open;
  id<MTLComputeCommandEncoder> encoder = open.encoder;
  id<MTLBuffer> buffer = floats(4, 0);
  CHECK_REFUSED("no pipeline", [encoder dispatchThreads:open.one threadsPerThreadgroup:open.one]);
  [encoder setComputePipelineState:pipeline("increment")];
  CHECK_REFUSED("missing buffer binding at index 0 for x", [encoder dispatchThreads:open.one
                                                               threadsPerThreadgroup:open.one]);
  [encoder setBuffer:buffer offset:0 atIndex:0];
  [encoder setBuffer:nil offset:0 atIndex:0];
  CHECK_REFUSED("missing buffer binding", [encoder dispatchThreads:open.one threadsPerThreadgroup:open.one]);
  [encoder setBuffer:buffer offset:0 atIndex:0];
  CHECK_REFUSED("must not have a zero", [encoder dispatchThreads:MTLSizeMake(0, 1, 1) threadsPerThreadgroup:open.one]);
  CHECK_REFUSED("must not have a zero", [encoder dispatchThreadgroups:open.one
                                                threadsPerThreadgroup:MTLSizeMake(1, 0, 1)]);
  CHECK_REFUSED("1024 threads", [encoder dispatchThreads:open.one threadsPerThreadgroup:MTLSizeMake(1025, 1, 1)]);
  CHECK_REFUSED("1024 threads", [encoder dispatchThreadgroups:open.one threadsPerThreadgroup:MTLSizeMake(32, 32, 2)]);
  CHECK_REFUSED("32 bits", [encoder dispatchThreads:MTLSizeMake(1ul << 32, 1, 1) threadsPerThreadgroup:open.one]);
  [encoder setThreadgroupMemoryLength:32768 atIndex:0];
  [encoder setThreadgroupMemoryLength:16 atIndex:1];
  CHECK_REFUSED("threadgroup memory", [encoder dispatchThreads:open.one threadsPerThreadgroup:open.one]);
  [encoder endEncoding];
}

CASE(blits_stay_inside_their_buffers) {
  id<MTLBlitCommandEncoder> blit = [commands() blitCommandEncoder];
  id<MTLBuffer> from = floats(4, 0), to = floats(4, 0);
  CHECK_REFUSED("nil", [blit fillBuffer:(id<MTLBuffer> _Nonnull)nil range:NSMakeRange(0, 1) value:0]);
  CHECK_REFUSED("of a buffer of 16", [blit copyFromBuffer:from sourceOffset:8 toBuffer:to destinationOffset:0 size:12]);
  CHECK_REFUSED("of a buffer of 16", [blit copyFromBuffer:from sourceOffset:0 toBuffer:to destinationOffset:17 size:0]);
  CHECK_REFUSED("of a buffer of 16", [blit fillBuffer:to range:NSMakeRange(16, 1) value:0]);
  CHECK_REFUSED("overlap", [blit copyFromBuffer:to sourceOffset:0 toBuffer:to destinationOffset:4 size:8]);
  [blit copyFromBuffer:to sourceOffset:0 toBuffer:to destinationOffset:8 size:8];
  CHECK_REFUSED("managed", [blit synchronizeResource:to]);
  [blit endEncoding];
}

CASE(buffers_have_limits) {
  CHECK_REFUSED("zero length", [device() newBufferWithLength:0 options:MTLResourceStorageModeShared]);
  CHECK_REFUSED("maxBufferLength", [device() newBufferWithLength:device().maxBufferLength + 1
                                                         options:MTLResourceStorageModeShared]);
  alignas(64) char memory[64];
  CHECK_REFUSED("page size", [device() newBufferWithBytesNoCopy:memory
                                                         length:getpagesize()
                                                        options:MTLResourceStorageModeShared
                                                    deallocator:nil]);
}

CASE(debug_groups_are_balanced) {
  Encoder open;
  CHECK_REFUSED("without a debug group", [open.encoder popDebugGroup]);
  [open.encoder pushDebugGroup:@"group"];
  CHECK_REFUSED("not popped", [open.encoder endEncoding]);
  [open.encoder popDebugGroup];
  open.encoder.label = @"ours";
  CHECK_REFUSED("\"ours\"", [open.encoder popDebugGroup]);
  [open.encoder endEncoding];
}
