// at::native::mps::MetalShaderLibrary and MetalKernelFunction, torch's own classes, which torch.mps.compile_shader
// hands to Python. The kernels that torch ships in its own library are not here.
#include <ATen/core/Tensor.h>
#include <ATen/mps/MPSStream.h>
#include <ATen/native/mps/MetalShaderLibrary.h>
#import <Metal/Metal.h>

#include <cstdlib>
#include <stdexcept>

#include "foundation/machine.h"

namespace at::native::mps {
namespace {

using at::mps::getCurrentMPSStream;

std::string text(NSString* string) { return string ? [string UTF8String] : ""; }

id<MTLDevice> device() { return at::mps::MPSDevice::getInstance()->device(); }

bool fast_math() {
  static const bool enabled = [] {
    const char* value = std::getenv("PYTORCH_MPS_FAST_MATH");
    return value && std::string(value) != "0";
  }();
  return enabled;
}

// PyTorch's choice, and up to 2.8 that for macOS 13.
MTLLanguageVersion language_version() {
  if (mps_simulator::macos_is_at_least(26)) return MTLLanguageVersion4_0;
  if (mps_simulator::macos_is_at_least(15)) return MTLLanguageVersion3_2;
  return mps_simulator::macos_is_at_least(14) ? MTLLanguageVersion3_1 : MTLLanguageVersion3_0;
}

MTLSize size_of(c10::ArrayRef<uint64_t> dims) {
  return MTLSizeMake(dims[0], dims.size() > 1 ? dims[1] : 1, dims.size() > 2 ? dims[2] : 1);
}

}  // namespace

MetalShaderLibrary::~MetalShaderLibrary() {
  for (auto& [key, pipeline_and_function] : cplMap) {
    [pipeline_and_function.first release];
    [pipeline_and_function.second release];
  }
}

DynamicMetalShaderLibrary::~DynamicMetalShaderLibrary() { [library release]; }

MTLLibrary_t MetalShaderLibrary::compileLibrary(const std::string& source) {
  @autoreleasepool {
    MTLCompileOptions* options = compile_options;
    if (!options) {
      options = [[MTLCompileOptions new] autorelease];
      [options setLanguageVersion:language_version()];
      [options setMathMode:fast_math() ? MTLMathModeFast : MTLMathModeSafe];
    }
    NSError* error = nil;
    library = [device() newLibraryWithSource:[NSString stringWithUTF8String:source.c_str()]
                                     options:options
                                       error:&error];
    if (!library) {
      if ([[error domain] isEqual:MTLLibraryErrorDomain] && [error code] == MTLLibraryErrorCompileFailure) {
        throw c10::SyntaxError({__func__, __FILE__, static_cast<uint32_t>(__LINE__)},
                               text([error localizedDescription]));
      }
      TORCH_CHECK(false, "Failed to create metal library, error: ", text([error description]));
    }
  }
  return library;
}

MTLLibrary_t MetalShaderLibrary::getLibrary() {
  TORCH_INTERNAL_ASSERT(nparams == 0);
  return library ? library : compileLibrary(shaderSource);
}

MTLLibrary_t MetalShaderLibrary::getLibrary(const std::initializer_list<std::string>&) {
  TORCH_CHECK_NOT_IMPLEMENTED(false, "Shader libraries with parameters are not simulated");
}

std::pair<MTLComputePipelineState_t, MTLFunction_t> MetalShaderLibrary::getLibraryPipelineState(
    MTLLibrary_t lib, const std::string& fname) {
  const auto found = cplMap.find(fname);
  if (found != cplMap.end()) return found->second;
  @autoreleasepool {
    id<MTLFunction> function = [lib newFunctionWithName:[NSString stringWithUTF8String:fname.c_str()]];
    TORCH_CHECK(function, "Failed to create function state object for: ", fname);
    NSError* error = nil;
    id<MTLComputePipelineState> pipeline = [device() newComputePipelineStateWithFunction:function error:&error];
    TORCH_CHECK(pipeline, "Failed to created pipeline state object, error: ", text([error description]));
    return cplMap[fname] = {pipeline, function};
  }
}

std::vector<std::string> MetalShaderLibrary::getFunctionNames() {
  std::vector<std::string> names;
  @autoreleasepool {
    for (NSString* name in [getLibrary() functionNames]) names.push_back(text(name));
  }
  return names;
}

bool MetalShaderLibrary::hasFunction(const std::string& fname) {
  if (!functionNamesPopulated) {
    for (auto& name : getFunctionNames()) functionNames.insert(name);
    functionNamesPopulated = true;
  }
  return functionNames.count(fname) > 0;
}

std::shared_ptr<MetalKernelFunction> MetalShaderLibrary::getKernelFunction(const std::string& name) {
  auto [pipeline, function] = getLibraryPipelineState(getLibrary(), name);
  return std::make_shared<MetalKernelFunction>(pipeline, function);
}

MetalKernelFunction* MetalShaderLibrary::getCachedKernelFunctionPtr(const std::string& name) {
  auto& cached = kernelCache[name];
  if (!cached) {
    auto [pipeline, function] = getLibraryPipelineState(getLibrary(), name);
    cached = std::make_unique<MetalKernelFunction>(pipeline, function);
  }
  return cached.get();
}

MetalKernelFunction::MetalKernelFunction(MTLComputePipelineState_t cps_, MTLFunction_t f_)
    : cps([cps_ retain]), func([f_ retain]) {}

MetalKernelFunction::~MetalKernelFunction() {
  [cps release];
  [func release];
}

void MetalKernelFunction::runCommandBlock(std::function<void(void)> run) {
  const auto* body = &run;
  at::mps::dispatch_sync_with_rethrow(getCurrentMPSStream()->queue(), ^{
    @autoreleasepool {
      (*body)();
    }
  });
}

void MetalKernelFunction::startEncoding() {
  encoder = getCurrentMPSStream()->commandEncoder();
  [encoder setComputePipelineState:cps];
}

void MetalKernelFunction::setArg(unsigned idx, const at::TensorBase& t) {
  if (!t.is_mps()) {
    // A 0-dim CPU tensor is passed by value.
    TORCH_CHECK(t.device().is_cpu() && t.dim() == 0, "Passed CPU tensor to MPS op");
    [encoder setBytes:t.const_data_ptr() length:t.element_size() atIndex:idx];
    return;
  }
  [encoder setBuffer:(id<MTLBuffer>)t.storage().data() offset:t.storage_offset() * t.element_size() atIndex:idx];
}

void MetalKernelFunction::setArg(unsigned idx, const void* ptr, uint64_t size) {
  TORCH_CHECK(size > 0);
  [encoder setBytes:ptr length:size atIndex:idx];
}

void MetalKernelFunction::setErrorBufferIndex(unsigned idx) {
  [encoder setBuffer:getCurrentMPSStream()->getErrorBuffer() offset:0 atIndex:idx];
}

void MetalKernelFunction::dispatch(uint64_t length, std::optional<uint64_t> groupSize) {
  const uint64_t group = groupSize.value_or(std::min(length, getMaxThreadsPerThreadgroup()));
  dispatch(c10::ArrayRef<uint64_t>(length), c10::ArrayRef<uint64_t>(group));
}

void MetalKernelFunction::dispatch(c10::ArrayRef<uint64_t> length, c10::OptionalArrayRef<uint64_t> groupSize) {
  TORCH_CHECK(!length.empty() && length.size() < 4, "Dispatch dimensions must be less than 3 and non-empty");
  TORCH_CHECK(!groupSize || groupSize->size() == length.size(),
              "size and group_size must have same number of dimensions");
  const uint64_t limit = getMaxThreadsPerThreadgroup();
  const MTLSize group = groupSize ? size_of(*groupSize) : MTLSizeMake(limit, 1, 1);
  TORCH_CHECK_VALUE(group.width * group.height * group.depth <= limit, "Threadgroup size exceeds ", limit, " limit");
  [encoder dispatchThreads:size_of(length) threadsPerThreadgroup:group];
}

uint64_t MetalKernelFunction::getMaxThreadsPerThreadgroup() const { return [cps maxTotalThreadsPerThreadgroup]; }

uint64_t MetalKernelFunction::getThreadExecutionWidth() const { return [cps threadExecutionWidth]; }

uint64_t MetalKernelFunction::getStaticThreadGroupMemoryLength() const { return [cps staticThreadgroupMemoryLength]; }

void* get_tensor_gpu_address(const at::TensorBase& t) {
  const auto buffer = (id<MTLBuffer>)t.storage().data();
  return reinterpret_cast<void*>([buffer gpuAddress] + t.storage_offset() * t.element_size());
}

}  // namespace at::native::mps
