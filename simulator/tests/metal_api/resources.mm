// Buffers, heaps, and who keeps them alive.
#include <unistd.h>

#include <cmath>
#include <cstdlib>

#include "cases.h"

CASE(the_device_is_an_m1) {
  CHECK([device() supportsFamily:MTLGPUFamilyApple7]);
  CHECK(![device() supportsFamily:MTLGPUFamilyApple9]);
  CHECK([device() supportsFamily:MTLGPUFamilyMetal3]);
  CHECK(device().hasUnifiedMemory && !device().isLowPower);
  CHECK(device().maxThreadgroupMemoryLength == 32768);
  CHECK(device().maxBufferLength < device().recommendedMaxWorkingSetSize);
  CHECK([MTLCopyAllDevices() count] == 1);
  CHECK([[NSProcessInfo processInfo] isOperatingSystemAtLeastVersion:{15, 0, 0}]);
  CHECK(![[NSProcessInfo processInfo] isOperatingSystemAtLeastVersion:{26, 0, 0}]);
}

CASE(fresh_memory_is_poisoned) {
  id<MTLBuffer> buffer = [device() newBufferWithLength:12 options:MTLResourceStorageModeShared];
  CHECK(buffer.length == 12);
  CHECK(std::isnan(static_cast<float*>(buffer.contents)[2]));
  CHECK(buffer.gpuAddress != 0);
}

CASE(private_memory_has_no_contents) {
  id<MTLBuffer> hidden = [device() newBufferWithLength:4 options:MTLResourceStorageModePrivate];
  CHECK(hidden.contents == nullptr);
  CHECK(hidden.storageMode == MTLStorageModePrivate);
  id<MTLBuffer> seen = floats(1, 5), copy = floats(1, 0);
  id<MTLCommandBuffer> commands = [[device() newCommandQueue] commandBuffer];
  id<MTLBlitCommandEncoder> blit = [commands blitCommandEncoder];
  [blit copyFromBuffer:seen sourceOffset:0 toBuffer:hidden destinationOffset:0 size:4];
  [blit copyFromBuffer:hidden sourceOffset:0 toBuffer:copy destinationOffset:0 size:4];
  [blit endEncoding];
  [commands commit];
  [commands waitUntilCompleted];
  CHECK(first(copy) == 5);
}

CASE(the_device_counts_what_is_allocated) {
  const NSUInteger before = device().currentAllocatedSize;
  id<MTLBuffer> buffer = [device() newBufferWithLength:1000 options:MTLResourceStorageModeShared];
  CHECK(device().currentAllocatedSize == before + 1000);
  [buffer release];
  CHECK(device().currentAllocatedSize == before);
}

CASE(memory_of_the_host_is_used_in_place) {
  const NSUInteger page = getpagesize();
  void* memory = std::aligned_alloc(page, page);
  static_cast<float*>(memory)[0] = 1;
  __block int freed = 0;
  id<MTLCommandBuffer> commands = [[device() newCommandQueue] commandBuffer];
  @autoreleasepool {
    id<MTLBuffer> buffer = [[device() newBufferWithBytesNoCopy:memory
                                                        length:page
                                                       options:MTLResourceStorageModeShared
                                                   deallocator:^(void* pointer, NSUInteger length) {
                                                     if (pointer == memory && length == page) ++freed;
                                                   }] autorelease];
    encode_increment(commands, buffer);
  }
  CHECK(freed == 0);
  [commands commit];
  [commands waitUntilCompleted];
  CHECK(static_cast<float*>(memory)[0] == 2);
  CHECK(freed == 1);
  std::free(memory);
}

CASE(a_command_buffer_holds_what_it_uses) {
  id<MTLBuffer> buffer = floats(4, 1);
  const NSUInteger before = [buffer retainCount];
  id<MTLCommandBuffer> commands = [[device() newCommandQueue] commandBuffer];
  CHECK(commands.retainedReferences);
  encode_increment(commands, buffer);
  CHECK([buffer retainCount] == before + 1);
  [commands commit];
  [commands waitUntilCompleted];
  CHECK([buffer retainCount] == before);
}

CASE(a_command_buffer_of_unretained_references_does_not) {
  id<MTLBuffer> buffer = floats(4, 1);
  const NSUInteger before = [buffer retainCount];
  id<MTLCommandBuffer> commands = [[device() newCommandQueue] commandBufferWithUnretainedReferences];
  CHECK(!commands.retainedReferences);
  encode_increment(commands, buffer);
  CHECK([buffer retainCount] == before);
  [commands commit];
  [commands waitUntilCompleted];
  CHECK(first(buffer) == 2);
}

CASE(a_heap_is_a_budget) {
  MTLHeapDescriptor* descriptor = [[MTLHeapDescriptor new] autorelease];
  descriptor.size = 4096;
  descriptor.storageMode = MTLStorageModeShared;
  id<MTLHeap> heap = [device() newHeapWithDescriptor:descriptor];
  id<MTLBuffer> buffer = [heap newBufferWithLength:3072 options:MTLResourceStorageModeShared];
  CHECK(buffer.heap == heap);
  CHECK(heap.usedSize == 3072);
  CHECK([heap maxAvailableSizeWithAlignment:256] == 1024);
  CHECK([heap newBufferWithLength:2048 options:MTLResourceStorageModeShared] == nil);
  [buffer release];
  CHECK(heap.usedSize == 0);
  CHECK([[[descriptor copy] autorelease] size] == 4096);
}

CASE(a_device_supports_the_families_up_to_its_own) {
  CHECK([device() supportsFamily:MTLGPUFamilyApple1] && [device() supportsFamily:MTLGPUFamilyApple7]);
  CHECK(![device() supportsFamily:MTLGPUFamilyApple8]);
  CHECK([device() supportsFamily:MTLGPUFamilyMetal3] && ![device() supportsFamily:MTLGPUFamilyMetal4]);
  CHECK([device() supportsFamily:MTLGPUFamilyMac2] && [device() supportsFamily:MTLGPUFamilyCommon3]);
}
