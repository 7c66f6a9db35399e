#import "device.h"

#include <unistd.h>

#include <cstring>

#include "../foundation/fork.h"
#include "../foundation/machine.h"
#include "../msl/msl.h"
#import "buffer.h"
#import "command_queue.h"
#import "error.h"
#import "event.h"
#import "heap.h"
#import "library.h"
#import "pipeline.h"

using namespace mps_simulator;

namespace {

constexpr NSUInteger kDefaultCommandBufferCount = 64;

uint64_t physical_memory() { return uint64_t(sysconf(_SC_PHYS_PAGES)) * sysconf(_SC_PAGESIZE); }

id<MTLLibrary> refuse_compiled_library(NSError** error) {
  set_error(error, make_error(MTLLibraryErrorDomain, MTLLibraryErrorUnsupported,
                              "compiled Metal libraries are not simulated: use newLibraryWithSource"));
  return nil;
}

NSUInteger whole_pages(uint64_t bytes) { return bytes / 16384 * 16384; }

}  // namespace

@interface SimulatedDevice : NSObject <MTLDevice>
@end

namespace mps_simulator {

id<MTLDevice> simulated_device() {
  static SimulatedDevice* const device = [SimulatedDevice new];
  return device;
}

void check_buffer_length(NSUInteger length) {
  check_not_forked();
  if (length == 0) fail_validation("Buffer Validation: cannot create a buffer of zero length");
  const NSUInteger limit = [simulated_device() maxBufferLength];
  if (length > limit) {
    fail_validation("Buffer Validation: length " + std::to_string(length) + " must be <= maxBufferLength " +
                    std::to_string(limit));
  }
}

}  // namespace mps_simulator

id<MTLDevice> MTLCreateSystemDefaultDevice(void) {
  enter_metal();
  return [simulated_device() retain];
}

NSArray<id<MTLDevice>>* MTLCopyAllDevices(void) {
  enter_metal();
  return [[NSArray alloc] initWithObjects:simulated_device(), nil];
}

@implementation SimulatedDevice

- (NSString*)name {
  return to_nsstring(gpu().name + " (simulated)");
}

- (uint64_t)registryID {
  return 0x100000001;
}

- (BOOL)supportsFamily:(MTLGPUFamily)family {
  switch (family) {
    case MTLGPUFamilyMac1:
    case MTLGPUFamilyMac2:
    case MTLGPUFamilyCommon1:
    case MTLGPUFamilyCommon2:
    case MTLGPUFamilyCommon3:
      return YES;
    case MTLGPUFamilyMetal3:
      return gpu().metal3;
    default:
      return family >= MTLGPUFamilyApple1 && family < MTLGPUFamilyApple1 + gpu().family;
  }
}

- (MTLSize)maxThreadsPerThreadgroup {
  return MTLSizeMake(msl::kMaxThreadsPerThreadgroup, msl::kMaxThreadsPerThreadgroup, msl::kMaxThreadsPerThreadgroup);
}

- (NSUInteger)maxThreadgroupMemoryLength {
  return msl::kMaxThreadgroupMemory;
}

// Of an M1: two thirds of the machine's memory, and half of it for one buffer.
- (uint64_t)recommendedMaxWorkingSetSize {
  return whole_pages(physical_memory() / 3 * 2);
}

- (NSUInteger)maxBufferLength {
  return whole_pages(physical_memory() / 2);
}

- (NSUInteger)currentAllocatedSize {
  return allocated_bytes();
}

- (BOOL)hasUnifiedMemory {
  return YES;
}

- (BOOL)isLowPower {
  return NO;
}

- (BOOL)isHeadless {
  return NO;
}

- (BOOL)isRemovable {
  return NO;
}

- (MTLDeviceLocation)location {
  return MTLDeviceLocationBuiltIn;
}

- (id<MTLCommandQueue>)newCommandQueue {
  return [self newCommandQueueWithMaxCommandBufferCount:kDefaultCommandBufferCount];
}

- (id<MTLCommandQueue>)newCommandQueueWithMaxCommandBufferCount:(NSUInteger)count {
  check_not_forked();
  if (count == 0) fail_validation("maxCommandBufferCount must be > 0");
  return [[SimulatedCommandQueue alloc] initWithMaxCommandBufferCount:count];
}

- (id<MTLCommandQueue>)newCommandQueueWithDescriptor:(MTLCommandQueueDescriptor*)descriptor {
  if (!descriptor) fail_validation("newCommandQueueWithDescriptor: descriptor is nil");
  return [self newCommandQueueWithMaxCommandBufferCount:descriptor.maxCommandBufferCount];
}

- (MTLSizeAndAlign)heapBufferSizeAndAlignWithLength:(NSUInteger)length options:(MTLResourceOptions)options {
  constexpr NSUInteger kAlign = 256;
  return {(length + kAlign - 1) / kAlign * kAlign, kAlign};
}

- (id<MTLHeap>)newHeapWithDescriptor:(MTLHeapDescriptor*)descriptor {
  check_not_forked();
  if (!descriptor || descriptor.size == 0) fail_validation("newHeapWithDescriptor: the size must be > 0");
  return [[SimulatedHeap alloc] initWithDescriptor:descriptor];
}

- (id<MTLBuffer>)newBufferWithLength:(NSUInteger)length options:(MTLResourceOptions)options {
  check_buffer_length(length);
  return [[SimulatedBuffer alloc] initWithLength:length options:options heap:nil];
}

- (id<MTLBuffer>)newBufferWithBytes:(const void*)pointer length:(NSUInteger)length options:(MTLResourceOptions)options {
  if (!pointer) fail_validation("newBufferWithBytes: the pointer is null");
  id<MTLBuffer> buffer = [self newBufferWithLength:length options:options];
  if (buffer) {
    std::memcpy(host_memory(buffer), pointer, length);
    memory_of(buffer)->set_written();
  }
  return buffer;
}

- (id<MTLBuffer>)newBufferWithBytesNoCopy:(void*)pointer
                                   length:(NSUInteger)length
                                  options:(MTLResourceOptions)options
                              deallocator:(void (^)(void*, NSUInteger))deallocator {
  const uintptr_t page = getpagesize();
  check_buffer_length(length);
  // Memory that the simulator itself puts behind a buffer goes through new_buffer_around(), which takes any.
  if (reinterpret_cast<uintptr_t>(pointer) % page || length % page || !pointer) {
    fail_validation("newBufferWithBytesNoCopy: pointer and length must be multiples of the page size, " +
                    std::to_string(page));
  }
  void (^copy)(void*, NSUInteger) = Block_copy(deallocator);
  return [[SimulatedBuffer alloc] initWithMemory:pointer
                                          length:length
                                         options:options
                                         release:[=] {
                                           if (copy) copy(pointer, length);
                                           Block_release(copy);
                                         }];
}

- (id<MTLLibrary>)newDefaultLibrary {
  return nil;
}

- (id<MTLLibrary>)newLibraryWithURL:(NSURL*)url error:(NSError**)error {
  return refuse_compiled_library(error);
}

- (id<MTLLibrary>)newLibraryWithData:(dispatch_data_t)data error:(NSError**)error {
  return refuse_compiled_library(error);
}

- (id<MTLLibrary>)newLibraryWithSource:(NSString*)source options:(MTLCompileOptions*)options error:(NSError**)error {
  return new_library(source, options, error);
}

- (id<MTLComputePipelineState>)newComputePipelineStateWithFunction:(id<MTLFunction>)function error:(NSError**)error {
  return new_pipeline(function, nil, error);
}

- (id<MTLComputePipelineState>)newComputePipelineStateWithDescriptor:(MTLComputePipelineDescriptor*)descriptor
                                                             options:(MTLPipelineOption)options
                                                          reflection:
                                                              (MTLAutoreleasedComputePipelineReflection*)reflection
                                                               error:(NSError**)error {
  if (!descriptor) fail_validation("newComputePipelineStateWithDescriptor: descriptor is nil");
  if (reflection) *reflection = nil;
  return new_pipeline(descriptor.computeFunction, descriptor, error);
}

- (id<MTLEvent>)newEvent {
  return [SimulatedEvent new];
}

- (id<MTLSharedEvent>)newSharedEvent {
  return [SimulatedSharedEvent new];
}

- (id<MTLFence>)newFence {
  return [SimulatedFence new];
}

- (void)sampleTimestamps:(MTLTimestamp*)cpuTimestamp gpuTimestamp:(MTLTimestamp*)gpuTimestamp {
  *cpuTimestamp = *gpuTimestamp = clock_gettime_nsec_np(CLOCK_MONOTONIC);
}

@end
