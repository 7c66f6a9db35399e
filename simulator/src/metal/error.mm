#import "error.h"

#import <Metal/Metal.h>

NSErrorDomain const MTLLibraryErrorDomain = @"MTLLibraryErrorDomain";
NSErrorDomain const MTLCommandBufferErrorDomain = @"MTLCommandBufferErrorDomain";

namespace mps_simulator {

NSError* make_error(NSString* domain, NSInteger code, const std::string& message) {
  return [NSError errorWithDomain:domain code:code userInfo:@{NSLocalizedDescriptionKey : to_nsstring(message)}];
}

}  // namespace mps_simulator
