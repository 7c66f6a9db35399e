#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>

#include "cases.h"

const char* const kShaders = R"(
#include <metal_stdlib>
using namespace metal;

constant int kScale [[function_constant(0)]];
constant bool kNegate [[function_constant(1)]];

kernel void increment(device float* x [[buffer(0)]], uint i [[thread_position_in_grid]]) { x[i] += 1; }

kernel void add(device float* x [[buffer(0)]], constant float& value [[buffer(1)]],
                uint i [[thread_position_in_grid]]) {
  x[i] += value;
}

kernel void scale(device float* x [[buffer(0)]], uint i [[thread_position_in_grid]]) {
  x[i] *= kNegate ? -kScale : kScale;
}

kernel void reverse(device float* x [[buffer(0)]], threadgroup float* copy [[threadgroup(0)]],
                    uint i [[thread_position_in_threadgroup]], uint n [[threads_per_threadgroup]]) {
  copy[i] = x[i];
  threadgroup_barrier(mem_flags::mem_threadgroup);
  x[i] = copy[n - 1 - i];
}

// Two that no barrier orders, and that do not race.
kernel void take(device atomic_float* x [[buffer(0)]]) {
  if (atomic_load_explicit(x, memory_order_relaxed) == 1) atomic_store_explicit(x, 2.0f, memory_order_relaxed);
}

kernel void add_atomically(device atomic_float* x [[buffer(0)]]) {
  atomic_fetch_add_explicit(x, 1.0f, memory_order_relaxed);
}

kernel void constant_bytes(device float* x [[buffer(0)]], constant uchar* y [[buffer(1)]],
                           uint i [[thread_position_in_grid]]) {
  x[i] = y[0];
}

kernel void diverge(device float* x [[buffer(0)]], uint i [[thread_position_in_threadgroup]]) {
  if (i == 0) threadgroup_barrier(mem_flags::mem_threadgroup);
  x[i] = 0;
}
)";

id<MTLDevice> device() {
  static id<MTLDevice> const device = MTLCreateSystemDefaultDevice();
  return device;
}

id<MTLLibrary> library() {
  MTLCompileOptions* options = [[MTLCompileOptions new] autorelease];
  options.languageVersion = MTLLanguageVersion3_0;  // for atomic_float
  NSError* error = nil;
  id<MTLLibrary> library = [device() newLibraryWithSource:[NSString stringWithUTF8String:kShaders]
                                                  options:options
                                                    error:&error];
  if (!library) throw std::runtime_error([[error localizedDescription] UTF8String]);
  return [library autorelease];
}

id<MTLComputePipelineState> pipeline(const char* kernel) {
  NSError* error = nil;
  id<MTLFunction> function = [library() newFunctionWithName:[NSString stringWithUTF8String:kernel]];
  CHECK(function);
  id<MTLComputePipelineState> state = [device() newComputePipelineStateWithFunction:function error:&error];
  if (!state) throw std::runtime_error([[error localizedDescription] UTF8String]);
  [function release];
  return [state autorelease];
}

id<MTLBuffer> floats(NSUInteger count, float value) {
  std::vector<float> values(count, value);
  return [[device() newBufferWithBytes:values.data() length:count * sizeof(float)
                               options:MTLResourceStorageModeShared] autorelease];
}

float first(id<MTLBuffer> buffer) { return *static_cast<float*>([buffer contents]); }

void encode_increment(id<MTLCommandBuffer> commands, id<MTLBuffer> buffer) {
  id<MTLComputeCommandEncoder> encoder = [commands computeCommandEncoder];
  [encoder setComputePipelineState:pipeline("increment")];
  [encoder setBuffer:buffer offset:0 atIndex:0];
  [encoder dispatchThreads:MTLSizeMake(buffer.length / sizeof(float), 1, 1)
      threadsPerThreadgroup:MTLSizeMake(32, 1, 1)];
  [encoder endEncoding];
}

void check_refused(const std::string& text, const std::function<void()>& call) {
  try {
    call();
  } catch (const std::runtime_error& error) {
    if (std::string(error.what()).find(text) != std::string::npos) return;
    throw std::logic_error("refused in other words than \"" + text + "\": " + error.what());
  }
  throw std::logic_error("not refused: \"" + text + "\"");
}

namespace {

constexpr unsigned kSecondsPerCase = 60;

int run(const std::string& name) {
  try {
    @autoreleasepool {
      cases().at(name)();
    }
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s: %s\n", name.c_str(), error.what());
    return 1;
  }
  return 0;
}

bool run_in_child(const std::string& name) {
  const pid_t child = fork();
  if (child == 0) {
    alarm(kSecondsPerCase);
    _exit(run(name));
  }
  int status = -1;
  waitpid(child, &status, 0);
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 2) return run(argv[1]);
  bool all_passed = true;
  for (const auto& each : cases()) {
    const bool passed = run_in_child(each.first);
    std::printf("%s %s\n", passed ? "passed" : "FAILED", each.first.c_str());
    all_passed = all_passed && passed;
  }
  return all_passed ? 0 : 1;
}
