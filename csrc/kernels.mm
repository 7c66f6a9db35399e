#include "kernels.h"

#include <ATen/mps/MPSStream.h>
#include <Foundation/Foundation.h>
#include <Metal/Metal.h>
#include <c10/util/Exception.h>

#include <array>
#include <exception>
#include <mutex>

#include "shader_source.h"

namespace mps_conv_transpose3d {
namespace {

// Owned by whoever called a method whose name begins with new, alloc or copy: reference counting is manual here.
template <typename T>
class Owned {
 public:
  explicit Owned(T object) : object_(object) {}
  ~Owned() { [object_ release]; }
  Owned(const Owned&) = delete;
  Owned& operator=(const Owned&) = delete;
  T get() const { return object_; }

 private:
  T object_;
};

std::string description(NSError* error) {
  return error == nil ? "no reason given" : [[error localizedDescription] UTF8String];
}

// bfloat needs Metal 3.1, which came with macOS 14. Older SDKs have no name for it.
constexpr auto kMetal31 = static_cast<MTLLanguageVersion>((3 << 16) + 1);

id<MTLLibrary> compile_library(id<MTLDevice> device) {
  const Owned<NSString*> source([[NSString alloc] initWithUTF8String:kShaderSource]);
  const Owned<MTLCompileOptions*> options([[MTLCompileOptions alloc] init]);
  if ([[NSProcessInfo processInfo] isOperatingSystemAtLeastVersion:NSOperatingSystemVersion{14, 0, 0}]) {
    [options.get() setLanguageVersion:kMetal31];
  }
  // Fast math, the default, assumes that no value is infinite or NaN: a network that diverges must show it.
  C10_CLANG_DIAGNOSTIC_PUSH()
  C10_CLANG_DIAGNOSTIC_IGNORE("-Wdeprecated-declarations")
  [options.get() setFastMathEnabled:NO];
  C10_CLANG_DIAGNOSTIC_POP()
  NSError* error = nil;
  id<MTLLibrary> library = [device newLibraryWithSource:source.get() options:options.get() error:&error];
  TORCH_CHECK(library != nil, "mps_conv_transpose3d: Metal does not compile the kernels: ", description(error));
  return library;
}

id<MTLComputePipelineState> compile_pipeline(id<MTLDevice> device, id<MTLLibrary> library, const std::string& name,
                                             bool has_bias) {
  const Owned<MTLFunctionConstantValues*> constants([[MTLFunctionConstantValues alloc] init]);
  [constants.get() setConstantValue:&has_bias type:MTLDataTypeBool atIndex:0];
  const Owned<NSString*> function_name([[NSString alloc] initWithUTF8String:name.c_str()]);
  NSError* error = nil;
  const Owned<id<MTLFunction>> function([library newFunctionWithName:function_name.get()
                                                      constantValues:constants.get()
                                                               error:&error]);
  TORCH_CHECK(function.get() != nil, "mps_conv_transpose3d: no kernel ", name, ": ", description(error));
  const Owned<MTLComputePipelineDescriptor*> descriptor([[MTLComputePipelineDescriptor alloc] init]);
  [descriptor.get() setComputeFunction:function.get()];
  [descriptor.get() setLabel:function_name.get()];
  id<MTLComputePipelineState> pipeline = [device newComputePipelineStateWithDescriptor:descriptor.get()
                                                                               options:MTLPipelineOptionNone
                                                                            reflection:nil
                                                                                 error:&error];
  TORCH_CHECK(pipeline != nil, "mps_conv_transpose3d: Metal makes no pipeline of ", name, ": ", description(error));
  return pipeline;
}

// One library and one pipeline per kernel, made at first use and kept as long as the process lives.
class Pipelines {
 public:
  id<MTLComputePipelineState> get(id<MTLDevice> device, Pass pass, DataType dtype, bool has_bias) {
    const std::lock_guard<std::mutex> lock(mutex_);
    id<MTLComputePipelineState>& pipeline =
        pipelines_[static_cast<size_t>(pass)][static_cast<size_t>(dtype)][has_bias];
    if (pipeline == nil) {
      @autoreleasepool {
        if (library_ == nil) {
          library_ = compile_library(device);
        }
        pipeline = compile_pipeline(device, library_, kernel_name(pass, dtype), has_bias);
      }
    }
    return pipeline;
  }

 private:
  std::mutex mutex_;
  id<MTLLibrary> library_ = nil;
  std::array<std::array<std::array<id<MTLComputePipelineState>, 2>, kDataTypes>, kPasses> pipelines_{};
};

Pipelines& pipelines() {
  static Pipelines* pipelines = new Pipelines;  // never destroyed: Metal may be gone when the process ends
  return *pipelines;
}

MTLSize metal_size(const std::array<uint32_t, 3>& size) { return MTLSizeMake(size[0], size[1], size[2]); }

void bind(id<MTLComputeCommandEncoder> encoder, const Binding& binding) {
  id<MTLBuffer> buffer = __builtin_bit_cast(id<MTLBuffer>, binding.tensor.storage().data());
  const size_t offset = binding.tensor.storage_offset() * binding.tensor.element_size();
  [encoder setBuffer:buffer offset:offset atIndex:binding.index];
}

}  // namespace

void encode(const Plan& plan, const ConvTranspose3dParams& params, bool has_bias, const std::vector<Binding>& bindings) {
  if (plan.dispatches.empty()) {
    return;
  }
  at::mps::MPSStream* stream = at::mps::getCurrentMPSStream();
  id<MTLComputePipelineState> pipeline = pipelines().get(stream->device(), plan.pass, plan.dtype, has_bias);
  for (const Dispatch& dispatch : plan.dispatches) {
    // An exception must not cross dispatch_sync, which is C.
    __block std::exception_ptr failure;
    dispatch_sync(stream->queue(), ^{
      @autoreleasepool {
        try {
          id<MTLComputeCommandEncoder> encoder = stream->commandEncoder();
          [encoder setComputePipelineState:pipeline];
          for (const Binding& binding : bindings) {
            bind(encoder, binding);
          }
          [encoder setBytes:&params length:sizeof(params) atIndex:kParamsBuffer];
          [encoder setBytes:&dispatch.first length:sizeof(dispatch.first) atIndex:kFirstBuffer];
          [encoder dispatchThreads:metal_size(dispatch.threads)
              threadsPerThreadgroup:metal_size(dispatch.threads_per_threadgroup)];
          if (plan.dispatches.size() > 1) {
            // Each slice in a command buffer of its own: macOS kills one that runs for seconds.
            stream->synchronize(at::mps::SyncType::COMMIT);
          }
        } catch (...) {
          failure = std::current_exception();
        }
      }
    });
    if (failure) {
      std::rethrow_exception(failure);
    }
  }
}

}  // namespace mps_conv_transpose3d
