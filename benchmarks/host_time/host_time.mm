// The least that an operator on mps can do, and what a call costs the thread that makes it.
#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/mps/MPSStream.h>
#include <ATen/ops/_convolution.h>
#include <ATen/ops/convolution_backward.h>
#include <ATen/ops/empty.h>
#include <Foundation/Foundation.h>
#include <Metal/Metal.h>
#include <time.h>
#include <torch/library.h>

#include <array>

namespace {

constexpr const char* kSource = R"(
#include <metal_stdlib>
using namespace metal;

kernel void minimal(device const float* x [[buffer(0)]], device const float* w [[buffer(1)]],
                    device float* out [[buffer(2)]], constant float& scale [[buffer(3)]],
                    uint i [[thread_position_in_grid]]) {
  out[i] = x[i] * w[i] * scale;
}
)";

id<MTLComputePipelineState> make_pipeline(id<MTLDevice> device) {
  @autoreleasepool {
    NSError* error = nil;
    id<MTLLibrary> library = [device newLibraryWithSource:[NSString stringWithUTF8String:kSource]
                                                  options:nil
                                                    error:&error];
    TORCH_CHECK(library != nil, [[error localizedDescription] UTF8String]);
    id<MTLFunction> function = [library newFunctionWithName:@"minimal"];
    id<MTLComputePipelineState> pipeline = [device newComputePipelineStateWithFunction:function error:&error];
    TORCH_CHECK(pipeline != nil, [[error localizedDescription] UTF8String]);
    [function release];
    [library release];
    return pipeline;
  }
}

// One output, three buffers and one constant to a dispatch. Each dispatch but the last fills memory of its own.
at::Tensor minimal(const at::Tensor& x, const at::Tensor& w, at::IntArrayRef sizes, int64_t dispatches) {
  at::Tensor out = at::empty(sizes, x.options());
  at::Tensor between = dispatches > 1 ? at::empty(sizes, x.options()) : out;
  at::mps::MPSStream* stream = at::mps::getCurrentMPSStream();
  static id<MTLComputePipelineState> pipeline = make_pipeline(stream->device());
  const auto encode = [&](const at::Tensor& to) {
    id<MTLComputeCommandEncoder> encoder = stream->commandEncoder();
    [encoder setComputePipelineState:pipeline];
    NSUInteger index = 0;
    for (const at::Tensor* tensor : {&x, &w, &to}) {
      [encoder setBuffer:__builtin_bit_cast(id<MTLBuffer>, tensor->storage().data())
                  offset:tensor->storage_offset() * tensor->element_size()
                 atIndex:index++];
    }
    const float scale = 2;
    [encoder setBytes:&scale length:sizeof(scale) atIndex:index];
    [encoder dispatchThreads:MTLSizeMake(32, 1, 1) threadsPerThreadgroup:MTLSizeMake(32, 1, 1)];
  };
  const auto* run = &encode;
  dispatch_sync(stream->queue(), ^{
    @autoreleasepool {
      for (int64_t i = 1; i < dispatches; ++i) {
        (*run)(between);
      }
      (*run)(out);
    }
  });
  return out;
}

// Of this thread alone: neither what the device does meanwhile nor what else the machine does.
double thread_seconds() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

template <typename Call>
double seconds_per_call(int64_t calls, const Call& call) {
  for (int i = 0; i < 5; ++i) {
    call();  // what the device did last may have emptied the processor's caches
  }
  const double start = thread_seconds();
  for (int64_t i = 0; i < calls; ++i) {
    call();
  }
  return (thread_seconds() - start) / static_cast<double>(calls);
}

double seconds(c10::string_view what, const at::Tensor& x, const at::Tensor& w, const at::Tensor& gy,
               at::IntArrayRef stride, at::IntArrayRef sizes, int64_t dispatches, int64_t calls) {
  const at::AutoDispatchBelowAutograd no_autograd;
  constexpr std::array<int64_t, 3> zero{0, 0, 0}, one{1, 1, 1};
  const auto backward = [&](std::array<bool, 3> mask) {
    at::convolution_backward(gy, x, w, std::nullopt, stride, zero, one, true, zero, 1, mask);
  };
  if (what == "minimal") {
    static const auto op = c10::Dispatcher::singleton()
                               .findSchemaOrThrow("host_time::minimal", "")
                               .typed<at::Tensor(const at::Tensor&, const at::Tensor&, at::IntArrayRef, int64_t)>();
    return seconds_per_call(calls, [&] { op.call(x, w, sizes, dispatches); });
  }
  if (what == "forward") {
    return seconds_per_call(calls, [&] {
      at::_convolution(x, w, std::nullopt, stride, zero, one, true, zero, 1, false, false, false, false);
    });
  }
  if (what == "input_grad") {
    return seconds_per_call(calls, [&] { backward({true, false, false}); });
  }
  TORCH_CHECK(what == "weight_grad", "what is ", what, "?");
  return seconds_per_call(calls, [&] { backward({false, true, false}); });
}

}  // namespace

TORCH_LIBRARY(host_time, m) {
  m.def("minimal(Tensor x, Tensor w, int[] sizes, int dispatches) -> Tensor");
  m.def(
      "seconds(str what, Tensor x, Tensor w, Tensor gy, int[] stride, int[] sizes, int dispatches, int calls) -> float",
      &seconds);
}

TORCH_LIBRARY_IMPL(host_time, MPS, m) { m.impl("minimal", &minimal); }
