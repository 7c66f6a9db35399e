#import "library.h"

#include "../foundation/fork.h"
#include "../foundation/machine.h"
#include "../foundation/validation.h"
#import "device.h"
#import "error.h"
#import "object_state.h"
#import "reference.h"

using namespace mps_simulator;

namespace {

// Without one in its options, a source is of the version that came with the SDK to which the program is linked:
// python's, which is old.
constexpr MTLLanguageVersion kDefaultLanguageVersion = MTLLanguageVersion2_4;

struct CompileOptions {
  Reference<NSDictionary*> preprocessorMacros;
  MTLMathMode mathMode = MTLMathModeFast;
  MTLMathFloatingPointFunctions mathFloatingPointFunctions = MTLMathFloatingPointFunctionsFast;
  MTLLanguageVersion languageVersion = kDefaultLanguageVersion;
  MTLLibraryType libraryType = MTLLibraryTypeExecutable;
  Reference<NSString*> installName;
  Reference<NSArray*> libraries;
  BOOL preserveInvariance = NO;
  MTLLibraryOptimizationLevel optimizationLevel = MTLLibraryOptimizationLevelDefault;
};

struct FunctionConstant {
  Reference<NSString*> name;
  MTLDataType type = MTLDataTypeNone;
  NSUInteger index = 0;
  BOOL required = NO;
};

// As __METAL_VERSION__ has it. Throws msl::CompileError for one that came after the system.
unsigned language_version(MTLLanguageVersion version) {
  struct Since {
    MTLLanguageVersion version;
    unsigned macos;
  };
  const unsigned major = version >> 16, minor = version & 0xffff;
  for (const Since& since : {Since{MTLLanguageVersion4_1, 27},
                             {MTLLanguageVersion4_0, 26},
                             {MTLLanguageVersion3_2, 15},
                             {MTLLanguageVersion3_1, 14},
                             {MTLLanguageVersion3_0, 13},
                             {MTLLanguageVersion2_4, 12}}) {
    const bool too_new =
        version > MTLLanguageVersion4_1 || (version == since.version && !macos_is_at_least(since.macos));
    if (!too_new) continue;
    const std::string name = "metal" + std::to_string(major) + "." + std::to_string(minor);
    throw msl::CompileError("error: invalid value '" + name + "' in '-std=" + name + "'");
  }
  return major * 100 + minor * 10;
}

msl::CompileOptions to_msl(MTLCompileOptions* options) {
  msl::CompileOptions result;
  result.language_version = language_version(options ? options.languageVersion : kDefaultLanguageVersion);
  if (!options) return result;
  result.fast_math = options.mathMode != MTLMathModeSafe;
  for (NSString* name in options.preprocessorMacros) {
    result.macros[to_string(name)] = to_string([[options.preprocessorMacros objectForKey:name] description]);
  }
  return result;
}

}  // namespace

@implementation MTLCompileOptions

MPS_SIMULATOR_STATE(CompileOptions)
MPS_SIMULATOR_PROPERTY(CompileOptions, MTLMathMode, mathMode, MathMode)
MPS_SIMULATOR_PROPERTY(CompileOptions, MTLMathFloatingPointFunctions, mathFloatingPointFunctions,
                       MathFloatingPointFunctions)
MPS_SIMULATOR_PROPERTY(CompileOptions, MTLLanguageVersion, languageVersion, LanguageVersion)
MPS_SIMULATOR_PROPERTY(CompileOptions, MTLLibraryType, libraryType, LibraryType)
MPS_SIMULATOR_PROPERTY(CompileOptions, BOOL, preserveInvariance, PreserveInvariance)
MPS_SIMULATOR_PROPERTY(CompileOptions, MTLLibraryOptimizationLevel, optimizationLevel, OptimizationLevel)

- (BOOL)fastMathEnabled {
  return self.mathMode == MTLMathModeFast;
}

- (void)setFastMathEnabled:(BOOL)enabled {
  self.mathMode = enabled ? MTLMathModeFast : MTLMathModeSafe;
}

- (NSDictionary*)preprocessorMacros {
  return state_of<CompileOptions>(self).preprocessorMacros;
}

- (void)setPreprocessorMacros:(NSDictionary*)macros {
  state_of<CompileOptions>(self).preprocessorMacros = [[macros copy] autorelease];
}

- (NSString*)installName {
  return state_of<CompileOptions>(self).installName;
}

- (void)setInstallName:(NSString*)name {
  state_of<CompileOptions>(self).installName = [[name copy] autorelease];
}

- (NSArray*)libraries {
  return state_of<CompileOptions>(self).libraries;
}

- (void)setLibraries:(NSArray*)libraries {
  state_of<CompileOptions>(self).libraries = [[libraries copy] autorelease];
}

@end

@implementation MTLFunctionConstant

MPS_SIMULATOR_STATE(FunctionConstant)

- (NSString*)name {
  return state_of<FunctionConstant>(self).name;
}

- (MTLDataType)type {
  return state_of<FunctionConstant>(self).type;
}

- (NSUInteger)index {
  return state_of<FunctionConstant>(self).index;
}

- (BOOL)required {
  return state_of<FunctionConstant>(self).required;
}

@end

@interface SimulatedFunction : NSObject <MTLFunction> {
 @public
  std::shared_ptr<const msl::Function>* _function;
  NSString* _label;
}
@end

@implementation SimulatedFunction

@synthesize label = _label;

- (instancetype)initWithFunction:(std::shared_ptr<const msl::Function>)function {
  if ((self = [super init])) _function = new std::shared_ptr<const msl::Function>(std::move(function));
  return self;
}

- (void)dealloc {
  delete _function;
  [_label release];
  [super dealloc];
}

- (id<MTLDevice>)device {
  return simulated_device();
}

- (MTLFunctionType)functionType {
  return MTLFunctionTypeKernel;
}

- (NSString*)name {
  return to_nsstring((*_function)->name());
}

- (NSDictionary*)functionConstantsDictionary {
  NSMutableDictionary* dictionary = [NSMutableDictionary dictionary];
  for (const msl::FunctionConstant& constant : (*_function)->constants()) {
    MTLFunctionConstant* object = [[MTLFunctionConstant new] autorelease];
    state_of<FunctionConstant>(object) = {to_nsstring(constant.name), data_type(constant.type), constant.index,
                                          constant.required};
    [dictionary setObject:object forKey:object.name];
  }
  return dictionary;
}

@end

@interface SimulatedLibrary : NSObject <MTLLibrary> {
  std::shared_ptr<const msl::Library>* _library;
  NSString* _label;
}
@end

@implementation SimulatedLibrary

@synthesize label = _label;

- (instancetype)initWithLibrary:(std::shared_ptr<const msl::Library>)library {
  if ((self = [super init])) _library = new std::shared_ptr<const msl::Library>(std::move(library));
  return self;
}

- (void)dealloc {
  delete _library;
  [_label release];
  [super dealloc];
}

- (id<MTLDevice>)device {
  return simulated_device();
}

- (MTLLibraryType)type {
  return MTLLibraryTypeExecutable;
}

- (NSString*)installName {
  return nil;
}

- (NSArray<NSString*>*)functionNames {
  NSMutableArray* names = [NSMutableArray array];
  for (const std::string& name : (*_library)->function_names()) [names addObject:to_nsstring(name)];
  return names;
}

- (id<MTLFunction>)newFunctionWithName:(NSString*)name {
  if (!name) fail_validation("newFunctionWithName: the name is nil");
  auto function = (*_library)->function(to_string(name));
  return function ? [[SimulatedFunction alloc] initWithFunction:function] : nil;
}

- (id<MTLFunction>)newFunctionWithName:(NSString*)name
                        constantValues:(MTLFunctionConstantValues*)values
                                 error:(NSError**)error {
  if (!name) fail_validation("newFunctionWithName:constantValues:error: the name is nil");
  if (!values) fail_validation("newFunctionWithName:constantValues:error: constantValues is nil");
  try {
    auto function = (*_library)->function(to_string(name), &constant_values(values));
    if (function) return [[SimulatedFunction alloc] initWithFunction:function];
    set_error(error, make_error(MTLLibraryErrorDomain, MTLLibraryErrorFunctionNotFound,
                                "Function " + to_string(name) + " was not found in the library"));
  } catch (const msl::CompileError& refused) {
    set_error(error, make_error(MTLLibraryErrorDomain, MTLLibraryErrorCompileFailure, refused.what()));
  }
  return nil;
}

@end

namespace mps_simulator {

id<MTLLibrary> new_library(NSString* source, MTLCompileOptions* options, NSError** error) {
  check_not_forked();
  if (!source) fail_validation("newLibraryWithSource: the source is nil");
  if (options.libraryType != MTLLibraryTypeExecutable || options.libraries.count) {
    set_error(error, make_error(MTLLibraryErrorDomain, MTLLibraryErrorUnsupported,
                                "dynamic Metal libraries are not simulated"));
    return nil;
  }
  try {
    return [[SimulatedLibrary alloc] initWithLibrary:msl::compile(to_string(source), to_msl(options))];
  } catch (const msl::CompileError& refused) {
    set_error(error, make_error(MTLLibraryErrorDomain, MTLLibraryErrorCompileFailure, refused.what()));
    return nil;
  }
}

std::shared_ptr<const msl::Function> compiled_function(id<MTLFunction> function) {
  return *static_cast<SimulatedFunction*>(function)->_function;
}

}  // namespace mps_simulator
