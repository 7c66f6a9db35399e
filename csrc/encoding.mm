#include "encoding.h"

#include <ATen/mps/MPSDevice.h>
#include <ATen/mps/MPSStream.h>
#include <ATen/ops/empty.h>
#include <Foundation/Foundation.h>
#include <Metal/Metal.h>
#include <c10/util/Exception.h>
#include <torch/version.h>

#include <algorithm>
#include <array>
#include <exception>
#include <mutex>

#include "shader_source.h"

// torch 2.9 brought MPSDevice::getCoreCount().
#if TORCH_VERSION_MAJOR > 2 || TORCH_VERSION_MINOR >= 9
#define MPS_CONV_TRANSPOSE3D_HAS_CORE_COUNT
#endif

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

// Metal may say nothing; then there is no pointer to read.
std::string text(NSString* words) {
  const char* characters = [words UTF8String];
  return characters == nullptr ? "nothing was said" : characters;
}

// Throws c10::Error for what Metal raises as an NSException.
template <typename Call>
void translating_exceptions(const Call& call) {
  @try {
    call();
  } @catch (NSException* exception) {
    TORCH_CHECK(false, "mps_conv_transpose3d: Metal raised ", text([exception name]), ": ", text([exception reason]));
  }
}

// Without a version Metal takes that of the SDK which the host program was linked with: python's may be years old.
// bfloat needs 3.1, which came with macOS 14. Older SDKs have no names for these.
constexpr auto kMetal30 = static_cast<MTLLanguageVersion>(3 << 16);
constexpr auto kMetal31 = static_cast<MTLLanguageVersion>((3 << 16) + 1);

id<MTLLibrary> compile_library(id<MTLDevice> device, Library file, DataType dtype) {
  const Owned<NSString*> source([[NSString alloc] initWithUTF8String:shader_source(file)]);
  const Owned<NSString*> element([[NSString alloc] initWithUTF8String:kElementNames[static_cast<size_t>(dtype)]]);
  const Owned<MTLCompileOptions*> options([[MTLCompileOptions alloc] init]);
  [options.get() setPreprocessorMacros:@{@"ELEMENT" : element.get()}];
  // A program may have been told an older version of the system; but there are no tensors of bfloat before macOS 14.
  const bool has_metal31 =
      dtype == DataType::bfloat16 ||
      [[NSProcessInfo processInfo] isOperatingSystemAtLeastVersion:NSOperatingSystemVersion{14, 0, 0}];
  [options.get() setLanguageVersion:has_metal31 ? kMetal31 : kMetal30];
  // Fast math, the default, assumes that no value is infinite or NaN: a network that diverges must show it.
  C10_CLANG_DIAGNOSTIC_PUSH()
  C10_CLANG_DIAGNOSTIC_IGNORE("-Wdeprecated-declarations")
  [options.get() setFastMathEnabled:NO];
  C10_CLANG_DIAGNOSTIC_POP()
  NSError* error = nil;
  id<MTLLibrary> library = [device newLibraryWithSource:source.get() options:options.get() error:&error];
  TORCH_CHECK(library != nil,
              "mps_conv_transpose3d: Metal does not compile the kernels: ", text([error localizedDescription]));
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
  TORCH_CHECK(function.get() != nil, "mps_conv_transpose3d: no kernel ", name, ": ",
              text([error localizedDescription]));
  const Owned<MTLComputePipelineDescriptor*> descriptor([[MTLComputePipelineDescriptor alloc] init]);
  [descriptor.get() setComputeFunction:function.get()];
  [descriptor.get() setLabel:function_name.get()];
  id<MTLComputePipelineState> pipeline = [device newComputePipelineStateWithDescriptor:descriptor.get()
                                                                               options:MTLPipelineOptionNone
                                                                            reflection:nil
                                                                                 error:&error];
  TORCH_CHECK(pipeline != nil, "mps_conv_transpose3d: Metal makes no pipeline of ", name, ": ",
              text([error localizedDescription]));
  return pipeline;
}

// One library per file and dtype, and one pipeline per kernel, made at first use and kept as long as the process lives.
class Pipelines {
 public:
  id<MTLComputePipelineState> get(id<MTLDevice> device, const Kernel& kernel, bool has_bias) {
    const auto index = [](auto value) { return static_cast<size_t>(value); };
    const std::lock_guard<std::mutex> lock(mutex_);
    id<MTLComputePipelineState>& pipeline =
        pipelines_[index(kernel.pass)][kernel.function()][index(kernel.dtype)][has_bias];
    if (pipeline == nil) {
      @autoreleasepool {
        const Library file = kernel.library();
        id<MTLLibrary>& library = libraries_[index(file)][index(kernel.dtype)];
        translating_exceptions([&] {
          if (library == nil) {
            library = compile_library(device, file, kernel.dtype);
          }
          pipeline = compile_pipeline(device, library, kernel.name(), has_bias);
        });
      }
    }
    return pipeline;
  }

 private:
  template <typename T, size_t n>
  using Array = std::array<T, n>;

  std::mutex mutex_;
  Array<Array<id<MTLLibrary>, kElementNames.size()>, kLibraries> libraries_{};
  Array<Array<Array<Array<id<MTLComputePipelineState>, 2>, kElementNames.size()>, kFunctions>, kPassNames.size()>
      pipelines_{};
};

Pipelines& pipelines() {
  static Pipelines* pipelines = new Pipelines;  // never destroyed: Metal may be gone when the process ends
  return *pipelines;
}

MTLSize metal_size(const std::array<uint32_t, 3>& size) { return MTLSizeMake(size[0], size[1], size[2]); }

void bind(id<MTLComputeCommandEncoder> encoder, KernelBuffer index, const at::Tensor& tensor) {
  id<MTLBuffer> buffer = __builtin_bit_cast(id<MTLBuffer>, tensor.storage().data());
  [encoder setBuffer:buffer offset:tensor.storage_offset() * tensor.element_size() atIndex:index];
}

const at::Tensor* tensor_of(Operand operand, const Tensors& tensors, const at::Tensor& partial_sums) {
  switch (operand) {
    case Operand::none:
      break;
    case Operand::input:
      return tensors.input;
    case Operand::weight:
      return tensors.weight;
    case Operand::output:
      return tensors.output;
    case Operand::bias:
      return tensors.bias;
    case Operand::partial_sums:
      return partial_sums.defined() ? &partial_sums : tensors.weight;  // a plan without any leaves it untouched
  }
  return nullptr;
}

// Compiled, and able to run the dispatch.
id<MTLComputePipelineState> pipeline_of(id<MTLDevice> device, const Dispatch& dispatch, bool has_bias) {
  id<MTLComputePipelineState> pipeline = pipelines().get(device, dispatch.kernel, has_bias);
  const auto& threads = dispatch.threads_per_threadgroup;
  const NSUInteger most = [pipeline maxTotalThreadsPerThreadgroup];
  TORCH_CHECK(threads[0] * threads[1] * threads[2] <= most, "mps_conv_transpose3d: this GPU runs ",
              dispatch.kernel.name(), " with no more than ", most, " threads in a threadgroup");
  return pipeline;
}

// Runs `encode` on the stream's queue, where alone an encoder may be used. No exception may cross dispatch_sync, which
// is C: it is carried out.
template <typename Encode>
void on_queue(at::mps::MPSStream* stream, const Encode& encode) {
  std::exception_ptr failure;
  std::exception_ptr* caught = &failure;
  dispatch_sync(stream->queue(), ^{
    @autoreleasepool {
      try {
        translating_exceptions(encode);
      } catch (...) {
        *caught = std::current_exception();
      }
    }
  });
  if (failure) {
    std::rethrow_exception(failure);
  }
}

}  // namespace

const std::optional<std::string>& unavailable_reason() {
  static const std::optional<std::string> reason = []() -> std::optional<std::string> {
    @autoreleasepool {
      id<MTLDevice> device = at::mps::getCurrentMPSStream()->device();
      if (device == nil) {
        return "there is no Metal device";
      }
      // The first family whose SIMD-groups reduce and multiply matrices. A virtual machine's GPU is of an older one.
      if ([device supportsFamily:MTLGPUFamilyApple7]) {
        return std::nullopt;
      }
      return c10::str("the GPU, ", text([device name]),
                      ", has no SIMD-group matrices (it is not of Metal's family Apple7)");
    }
  }();
  return reason;
}

Gpu current_gpu() {
  static const Gpu gpu = [] {
    @autoreleasepool {
#ifdef MPS_CONV_TRANSPOSE3D_HAS_CORE_COUNT
      // Metal tells none; PyTorch asks the driver, which in a virtual machine is another.
      if (const unsigned cores = at::mps::MPSDevice::getInstance()->getCoreCount(); cores > 0) {
        return Gpu{static_cast<int>(cores)};
      }
#endif
      return gpu_named(text([at::mps::getCurrentMPSStream()->device() name]));
    }
  }();
  return gpu;
}

void encode(const Plan& plan, const KernelParams& params, const Tensors& tensors) {
  at::mps::MPSStream* stream = at::mps::getCurrentMPSStream();
  const at::Tensor partial_sums = plan.partial_sums > 0
                                      ? at::empty({plan.partial_sums}, tensors.output->options().dtype(at::kFloat))
                                      : at::Tensor();
  std::array<id<MTLComputePipelineState>, std::tuple_size_v<decltype(plan.dispatches)>> pipelines{};
  for (size_t i = 0; i < pipelines.size(); ++i) {
    if (plan.dispatches[i]) {
      pipelines[i] = pipeline_of(stream->device(), *plan.dispatches[i], tensors.bias != nullptr);
    }
  }
  // Encodes a slice between barriers, which cost nothing while PyTorch's encoder is serial: PyTorch has tried a
  // concurrent one.
  const auto encode_slice = [&](const Dispatch& dispatch, id<MTLComputePipelineState> pipeline, uint32_t z_offset) {
    id<MTLComputeCommandEncoder> encoder = stream->commandEncoder();
    const auto set = [&](const auto& value, KernelBuffer index) {
      [encoder setBytes:&value length:sizeof(value) atIndex:index];
    };
    [encoder memoryBarrierWithScope:MTLBarrierScopeBuffers];
    [encoder setComputePipelineState:pipeline];
    for (const auto& [index, operand] : dispatch.bindings) {
      if (const at::Tensor* tensor = tensor_of(operand, tensors, partial_sums)) {
        bind(encoder, index, *tensor);
      }
    }
    set(params, kParamsBuffer);
    set(z_offset, kZOffsetBuffer);
    // What a kernel declares is all of its threadgroup memory: a length set here would stay set for whoever encodes
    // next.
    if (dispatch.polyphase_tile) {
      set(*dispatch.polyphase_tile, kPolyphaseTileBuffer);
    }
    if (dispatch.tile_rows) {
      set(*dispatch.tile_rows, kTileRowsBuffer);
    }
    if (dispatch.split_k) {
      set(*dispatch.split_k, kSplitBuffer);
    }
    const uint32_t z = std::min(dispatch.z_per_dispatch, dispatch.threads[2] - z_offset);
    [encoder dispatchThreads:MTLSizeMake(dispatch.threads[0], dispatch.threads[1], z)
        threadsPerThreadgroup:metal_size(dispatch.threads_per_threadgroup)];
    [encoder memoryBarrierWithScope:MTLBarrierScopeBuffers];
  };
  on_queue(stream, [&] {
    for (size_t i = 0; i < pipelines.size() && plan.dispatches[i]; ++i) {
      const Dispatch& dispatch = *plan.dispatches[i];
      // macOS kills a command buffer that runs for seconds, with all that it holds: each slice has one of its own.
      const bool is_sliced = dispatch.z_per_dispatch < dispatch.threads[2];
      if (is_sliced) {
        stream->synchronize(at::mps::SyncType::COMMIT);
      }
      for (uint32_t z = 0; z < dispatch.threads[2]; z += dispatch.z_per_dispatch) {
        encode_slice(dispatch, pipelines[i], z);
        if (is_sliced) {
          stream->synchronize(at::mps::SyncType::COMMIT);
        }
      }
    }
  });
}

}  // namespace mps_conv_transpose3d
