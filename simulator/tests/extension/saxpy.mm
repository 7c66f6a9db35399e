// y + a * x, encoded in the two ways that PyTorch offers.
#include <ATen/mps/MPSStream.h>
#import <Foundation/Foundation.h>
#import <Metal/Metal.h>
#include <torch/library.h>
#include <torch/mps.h>
#include <torch/types.h>

namespace {

constexpr const char* kSource = R"(
#include <metal_stdlib>
using namespace metal;

kernel void saxpy(device const float* x [[buffer(0)]], device const float* y [[buffer(1)]],
                  device float* out [[buffer(2)]], constant float& a [[buffer(3)]],
                  uint i [[thread_position_in_grid]]) {
  out[i] = y[i] + a * x[i];
}
)";

id<MTLBuffer> buffer_of(const at::Tensor& tensor) { return __builtin_bit_cast(id<MTLBuffer>, tensor.storage().data()); }

id<MTLComputePipelineState> make_pipeline() {
  @autoreleasepool {
    id<MTLDevice> device = MTLCreateSystemDefaultDevice();
    NSError* error = nil;
    id<MTLLibrary> library = [device newLibraryWithSource:[NSString stringWithUTF8String:kSource]
                                                  options:nil
                                                    error:&error];
    TORCH_CHECK(library, error.localizedDescription.UTF8String);
    id<MTLFunction> function = [library newFunctionWithName:@"saxpy"];
    id<MTLComputePipelineState> pipeline = [device newComputePipelineStateWithFunction:function error:&error];
    TORCH_CHECK(pipeline, error.localizedDescription.UTF8String);
    return pipeline;
  }
}

void encode(id<MTLComputeCommandEncoder> encoder, const at::Tensor& x, const at::Tensor& y, float a, at::Tensor& out) {
  static id<MTLComputePipelineState> pipeline = make_pipeline();
  [encoder setComputePipelineState:pipeline];
  NSUInteger index = 0;
  for (const at::Tensor& tensor : {x, y, out}) {
    [encoder setBuffer:buffer_of(tensor) offset:tensor.storage_offset() * tensor.element_size() atIndex:index++];
  }
  [encoder setBytes:&a length:sizeof(a) atIndex:index];
  const NSUInteger count = x.numel();
  [encoder dispatchThreads:MTLSizeMake(count, 1, 1)
      threadsPerThreadgroup:MTLSizeMake(std::min(count, pipeline.maxTotalThreadsPerThreadgroup), 1, 1)];
}

// On the encoder that PyTorch shares among operators.
at::Tensor saxpy(const at::Tensor& x, const at::Tensor& y, double a) {
  at::Tensor out = at::empty_like(y);
  at::mps::MPSStream* stream = at::mps::getCurrentMPSStream();
  dispatch_sync(stream->queue(), ^{
    @autoreleasepool {
      at::Tensor result = out;
      encode(stream->commandEncoder(), x, y, a, result);
    }
  });
  return out;
}

// On an encoder of one's own, as PyTorch's documentation shows it.
at::Tensor saxpy_own_encoder(const at::Tensor& x, const at::Tensor& y, double a) {
  __block at::Tensor out = at::empty_like(y);
  @autoreleasepool {
    id<MTLCommandBuffer> commands = torch::mps::get_command_buffer();
    dispatch_sync(torch::mps::get_dispatch_queue(), ^{
      id<MTLComputeCommandEncoder> encoder = [commands computeCommandEncoder];
      encode(encoder, x, y, a, out);
      [encoder endEncoding];
      torch::mps::commit();
    });
  }
  return out;
}

}  // namespace

TORCH_LIBRARY(another_author, library) {
  library.def("saxpy(Tensor x, Tensor y, float a) -> Tensor", saxpy);
  library.def("saxpy_own_encoder(Tensor x, Tensor y, float a) -> Tensor", saxpy_own_encoder);
}
