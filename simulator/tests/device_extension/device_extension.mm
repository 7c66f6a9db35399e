// Operators that use a stream rightly and wrongly.
#include <ATen/ATen.h>
#include <ATen/mps/MPSStream.h>
#import <Foundation/Foundation.h>
#import <Metal/Metal.h>
#include <torch/library.h>
#include <torch/mps.h>

#include <atomic>

namespace {

using at::mps::getCurrentMPSStream;

id<MTLComputePipelineState> double_pipeline() {
  static id<MTLComputePipelineState> pipeline = nil;
  if (!pipeline) {
    @autoreleasepool {
      NSString* source = @"kernel void twice(device float* x, uint i [[thread_position_in_grid]]) { x[i] *= 2; }";
      id<MTLDevice> device = getCurrentMPSStream()->device();
      NSError* error = nil;
      id<MTLLibrary> library = [device newLibraryWithSource:source options:nil error:&error];
      TORCH_CHECK(library, [[error localizedDescription] UTF8String]);
      id<MTLFunction> function = [library newFunctionWithName:@"twice"];
      pipeline = [device newComputePipelineStateWithFunction:function error:&error];
      [function release];
      [library release];
      TORCH_CHECK(pipeline, [[error localizedDescription] UTF8String]);
    }
  }
  return pipeline;
}

void encode(id<MTLComputeCommandEncoder> encoder, const at::Tensor& x) {
  [encoder setComputePipelineState:double_pipeline()];
  [encoder setBuffer:(id<MTLBuffer>)x.storage().data() offset:x.storage_offset() * x.element_size() atIndex:0];
  [encoder dispatchThreads:MTLSizeMake(x.numel(), 1, 1) threadsPerThreadgroup:MTLSizeMake(32, 1, 1)];
}

// On the stream's shared encoder.
void twice(const at::Tensor& x) {
  auto* stream = getCurrentMPSStream();
  double_pipeline();
  at::mps::dispatch_sync_with_rethrow(stream->queue(), ^{
    @autoreleasepool {
      encode(stream->commandEncoder(), x);
    }
  });
}

// On an encoder of its own, as PyTorch's tutorial does it.
void twice_as_in_the_tutorial(const at::Tensor& x) {
  double_pipeline();
  @autoreleasepool {
    id<MTLCommandBuffer> buffer = torch::mps::get_command_buffer();
    dispatch_sync(torch::mps::get_dispatch_queue(), ^{
      id<MTLComputeCommandEncoder> encoder = [buffer computeCommandEncoder];
      encode(encoder, x);
      [encoder endEncoding];
      torch::mps::commit();
    });
  }
}

void barrier() {
  auto* stream = getCurrentMPSStream();
  at::mps::dispatch_sync_with_rethrow(stream->queue(), ^{
    [stream->commandEncoder() memoryBarrierWithScope:MTLBarrierScopeBuffers];
  });
}

// What Metal raised, or nothing.
std::string twice_or_reason(const at::Tensor& x) {
  auto* stream = getCurrentMPSStream();
  double_pipeline();
  __block std::string reason;
  dispatch_sync(stream->queue(), ^{
    @autoreleasepool {
      @try {
        encode(stream->commandEncoder(), x);
      } @catch (NSException* exception) {
        reason = [[exception reason] UTF8String];
      }
    }
  });
  return reason;
}

void twice_unguarded(const at::Tensor& x) {
  auto* stream = getCurrentMPSStream();
  double_pipeline();
  dispatch_sync(stream->queue(), ^{
    @autoreleasepool {
      encode(stream->commandEncoder(), x);
    }
  });
}

void blit(const at::Tensor& from, const at::Tensor& to) {
  getCurrentMPSStream()->copy((id<MTLBuffer>)from.storage().data(), (id<MTLBuffer>)to.storage().data(), from.nbytes(),
                              0, 0, 0);
}

std::atomic<int64_t> handled{0};

void count_completion() {
  getCurrentMPSStream()->addCompletedHandler(^(id<MTLCommandBuffer>) {
    ++handled;
  });
}

int64_t completions() { return handled; }

bool macos_is_at_least(int64_t major, int64_t minor) {
  @autoreleasepool {
    return [[NSProcessInfo processInfo] isOperatingSystemAtLeastVersion:NSOperatingSystemVersion{major, minor, 0}];
  }
}

void encoder_outside_the_queue() { getCurrentMPSStream()->commandEncoder(); }

void operator_inside_the_queue(const at::Tensor& x) {
  at::mps::dispatch_sync_with_rethrow(getCurrentMPSStream()->queue(), ^{
    x.add(1);
  });
}

void throw_inside_the_queue() {
  at::mps::dispatch_sync_with_rethrow(getCurrentMPSStream()->queue(), ^{
    TORCH_CHECK_INDEX(false, "thrown inside");
  });
}

}  // namespace

TORCH_LIBRARY(device_extension, m) {
  m.def("twice", &twice);
  m.def("twice_as_in_the_tutorial", &twice_as_in_the_tutorial);
  m.def("barrier", &barrier);
  m.def("twice_or_reason", &twice_or_reason);
  m.def("twice_unguarded", &twice_unguarded);
  m.def("blit", &blit);
  m.def("count_completion", &count_completion);
  m.def("completions", &completions);
  m.def("macos_is_at_least", &macos_is_at_least);
  m.def("encoder_outside_the_queue", &encoder_outside_the_queue);
  m.def("operator_inside_the_queue", &operator_inside_the_queue);
  m.def("throw_inside_the_queue", &throw_inside_the_queue);
}
