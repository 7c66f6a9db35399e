// Libraries, functions, pipelines.
#include "cases.h"

namespace {

bool contains(NSString* text, const char* part) { return [text rangeOfString:@(part)].location != NSNotFound; }

void run(id<MTLComputePipelineState> state, id<MTLBuffer> buffer) {
  id<MTLCommandBuffer> commands = [[device() newCommandQueue] commandBuffer];
  id<MTLComputeCommandEncoder> encoder = [commands computeCommandEncoder];
  [encoder setComputePipelineState:state];
  [encoder setBuffer:buffer offset:0 atIndex:0];
  [encoder dispatchThreadgroups:MTLSizeMake(1, 1, 1) threadsPerThreadgroup:MTLSizeMake(buffer.length / 4, 1, 1)];
  [encoder endEncoding];
  [commands commit];
  [commands waitUntilCompleted];
}

}  // namespace

CASE(a_refused_source_is_an_error_with_its_line) {
  NSError* error = nil;
  id<MTLLibrary> none = [device() newLibraryWithSource:@"kernel void k(device float* x) {\n  x[0] = nonsense;\n}"
                                               options:nil
                                                 error:&error];
  CHECK(none == nil);
  CHECK([error.domain isEqualToString:MTLLibraryErrorDomain]);
  CHECK(error.code == MTLLibraryErrorCompileFailure);
  CHECK(contains(error.localizedDescription, "program_source:2:"));
  CHECK(contains(error.localizedDescription, "nonsense"));
  CHECK([device() newLibraryWithSource:@"nonsense" options:nil error:nil] == nil);
}

CASE(compiled_libraries_are_refused) {
  NSError* error = nil;
  dispatch_data_t data = dispatch_data_create("MTLB", 4, dispatch_get_main_queue(),
                                              ^{
                                              });
  CHECK([device() newLibraryWithData:data error:&error] == nil);
  CHECK(contains(error.localizedDescription, "not simulated"));
  CHECK([device() newLibraryWithURL:[NSURL fileURLWithPath:@"/x.metallib"] error:&error] == nil);
}

CASE(preprocessor_macros_reach_the_source) {
  MTLCompileOptions* options = [[MTLCompileOptions new] autorelease];
  options.preprocessorMacros = @{@"NAME" : @"from_macro", @"VALUE" : @3};
  options.fastMathEnabled = NO;
  CHECK(options.mathMode == MTLMathModeSafe);
  NSError* error = nil;
  id<MTLLibrary> made =
      [device() newLibraryWithSource:@"kernel void NAME(device int* x [[buffer(0)]]) { x[0] = VALUE; }"
                             options:options
                               error:&error];
  CHECK(made);
  CHECK([made.functionNames isEqual:@[ @"from_macro" ]]);
}

CASE(functions_are_found_by_name) {
  CHECK([library().functionNames containsObject:@"increment"]);
  CHECK([library() newFunctionWithName:@"missing"] == nil);
  id<MTLFunction> function = [library() newFunctionWithName:@"increment"];
  CHECK([function.name isEqualToString:@"increment"]);
  CHECK(function.functionType == MTLFunctionTypeKernel);
  NSError* error = nil;
  CHECK([library() newFunctionWithName:@"missing"
                        constantValues:[[MTLFunctionConstantValues new] autorelease]
                                 error:&error] == nil);
  CHECK(error.code == MTLLibraryErrorFunctionNotFound);
}

CASE(function_constants_specialise) {
  const int scale = 3;
  const bool yes = true;
  MTLFunctionConstantValues* values = [[MTLFunctionConstantValues new] autorelease];
  [values setConstantValue:&scale type:MTLDataTypeInt atIndex:0];
  [values setConstantValue:&yes type:MTLDataTypeBool withName:@"kNegate"];
  NSError* error = nil;
  id<MTLFunction> function = [library() newFunctionWithName:@"scale" constantValues:values error:&error];
  CHECK(function);
  id<MTLComputePipelineState> state = [device() newComputePipelineStateWithFunction:function error:&error];
  CHECK(state);
  id<MTLBuffer> buffer = floats(4, 2);
  run(state, buffer);
  CHECK(first(buffer) == -6);

  MTLFunctionConstantValues* missing = [[MTLFunctionConstantValues new] autorelease];
  [missing setConstantValue:&scale type:MTLDataTypeInt atIndex:0];
  CHECK([library() newFunctionWithName:@"scale" constantValues:missing error:&error] == nil);
  CHECK(contains(error.localizedDescription, "kNegate"));

  NSDictionary* constants = [library() newFunctionWithName:@"scale"].functionConstantsDictionary;
  MTLFunctionConstant* constant = [constants objectForKey:@"kScale"];
  CHECK(constant.index == 0 && constant.type == MTLDataTypeInt && constant.required);
}

CASE(a_pipeline_has_the_limits_of_its_descriptor) {
  CHECK(pipeline("increment").threadExecutionWidth == 32);
  CHECK(pipeline("increment").maxTotalThreadsPerThreadgroup == 1024);
  MTLComputePipelineDescriptor* descriptor = [[MTLComputePipelineDescriptor new] autorelease];
  descriptor.computeFunction = [library() newFunctionWithName:@"increment"];
  descriptor.maxTotalThreadsPerThreadgroup = 64;
  descriptor.label = @"ours";
  descriptor.threadGroupSizeIsMultipleOfThreadExecutionWidth = YES;
  [descriptor.buffers objectAtIndexedSubscript:0].mutability = MTLMutabilityMutable;
  NSError* error = nil;
  id<MTLComputePipelineState> state = [device() newComputePipelineStateWithDescriptor:descriptor
                                                                              options:MTLPipelineOptionNone
                                                                           reflection:nil
                                                                                error:&error];
  CHECK(state.maxTotalThreadsPerThreadgroup == 64);
  CHECK([state.label isEqualToString:@"ours"]);
  CHECK_REFUSED("64 threads", run(state, floats(128, 0)));
  CHECK_REFUSED("multiple of 32", run(state, floats(33, 0)));
  run(state, floats(64, 0));
}

CASE(threadgroup_memory_comes_from_the_host) {
  id<MTLBuffer> buffer = floats(32, 0);
  for (int i = 0; i < 32; ++i) static_cast<float*>(buffer.contents)[i] = i;
  id<MTLCommandBuffer> commands = [[device() newCommandQueue] commandBuffer];
  id<MTLComputeCommandEncoder> encoder = [commands computeCommandEncoder];
  [encoder setComputePipelineState:pipeline("reverse")];
  [encoder setBuffer:buffer offset:0 atIndex:0];
  CHECK_REFUSED("threadgroup memory", [encoder dispatchThreads:MTLSizeMake(32, 1, 1)
                                          threadsPerThreadgroup:MTLSizeMake(32, 1, 1)]);
  [encoder setThreadgroupMemoryLength:128 atIndex:0];
  [encoder dispatchThreads:MTLSizeMake(32, 1, 1) threadsPerThreadgroup:MTLSizeMake(32, 1, 1)];
  [encoder memoryBarrierWithScope:MTLBarrierScopeBuffers];
  [encoder endEncoding];
  [commands commit];
  [commands waitUntilCompleted];
  CHECK(static_cast<float*>(buffer.contents)[0] == 31 && static_cast<float*>(buffer.contents)[31] == 0);
}

CASE(a_dispatch_sees_the_arguments_of_its_time) {
  id<MTLBuffer> buffer = floats(8, 0);
  id<MTLCommandBuffer> commands = [[device() newCommandQueue] commandBuffer];
  id<MTLComputeCommandEncoder> encoder = [commands computeCommandEncoder];
  [encoder setComputePipelineState:pipeline("add")];
  for (float value : {1.0f, 10.0f}) {
    const NSUInteger offset = value == 1 ? 0 : 4 * sizeof(float);
    if (value == 1) [encoder setBuffer:buffer offset:offset atIndex:0];
    [encoder setBufferOffset:offset atIndex:0];
    [encoder setBytes:&value length:sizeof(value) atIndex:1];
    [encoder dispatchThreads:MTLSizeMake(4, 1, 1) threadsPerThreadgroup:MTLSizeMake(4, 1, 1)];
  }
  [encoder endEncoding];
  [commands commit];
  [commands waitUntilCompleted];
  const float* x = static_cast<float*>(buffer.contents);
  CHECK(x[0] == 1 && x[3] == 1 && x[4] == 10 && x[7] == 10);
}

CASE(a_source_is_of_the_version_that_its_options_state) {
  const auto compile = [](NSString* type, MTLCompileOptions* options) {
    NSString* source = [NSString stringWithFormat:@"#include <metal_stdlib>\nusing namespace metal;\n"
                                                   "kernel void k(device %@* x, device int* version) {\n"
                                                   "  version[0] = __METAL_VERSION__;\n}",
                                                  type];
    NSError* error = nil;
    id<MTLLibrary> made = [device() newLibraryWithSource:source options:options error:&error];
    return std::string(made ? "" : [error.localizedDescription UTF8String]);
  };
  MTLCompileOptions* options = [[MTLCompileOptions new] autorelease];
  CHECK(options.languageVersion == MTLLanguageVersion2_4);
  for (MTLCompileOptions* unset : {static_cast<MTLCompileOptions*>(nil), options}) {
    CHECK(compile(@"float", unset) == "");
    CHECK(compile(@"bfloat", unset).find("program_source:3:22: error: unknown type name 'bfloat'") == 0);
    CHECK(compile(@"atomic_float", unset).find("unknown type name 'atomic_float'") != std::string::npos);
  }
  options.languageVersion = MTLLanguageVersion3_0;
  CHECK(compile(@"bfloat4", options).find("unknown type name 'bfloat4'") != std::string::npos);
  CHECK(compile(@"atomic_float", options) == "");
  options.languageVersion = MTLLanguageVersion3_1;
  CHECK(compile(@"bfloat4", options) == "");
  options.languageVersion = MTLLanguageVersion3_2;
  CHECK(compile(@"bfloat", options) == "");
  options.languageVersion = MTLLanguageVersion4_0;  // macOS 26
  CHECK(compile(@"float", options).find("invalid value 'metal4.0' in '-std=metal4.0'") != std::string::npos);
}

CASE(a_source_knows_its_version) {
  for (NSUInteger minor : {0, 1, 2}) {
    MTLCompileOptions* options = [[MTLCompileOptions new] autorelease];
    options.languageVersion = static_cast<MTLLanguageVersion>((3 << 16) + minor);
    NSError* error = nil;
    id<MTLLibrary> made =
        [device() newLibraryWithSource:@"kernel void k(device float* x [[buffer(0)]]) { x[0] = __METAL_VERSION__; }"
                               options:options
                                 error:&error];
    id<MTLBuffer> buffer = floats(1, 0);
    run([device() newComputePipelineStateWithFunction:[made newFunctionWithName:@"k"] error:&error], buffer);
    CHECK(first(buffer) == 300 + 10 * minor);
  }
}
