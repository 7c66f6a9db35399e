#import "blit_encoder.h"

#include <cstring>

@implementation SimulatedBlitEncoder

- (std::byte*)use:(id<MTLBuffer>)buffer range:(NSRange)range call:(const char*)call {
  [self checkOpen:call];
  if (!buffer) [self fail:std::string(call) + ": a buffer is nil"];
  if (range.location > buffer.length || range.length > buffer.length - range.location) {
    [self fail:std::string(call) + ": bytes " + std::to_string(range.location) + " to " +
               std::to_string(range.location + range.length) + " of a buffer of " + std::to_string(buffer.length)];
  }
  return [self use:buffer] + range.location;
}

- (void)copyFromBuffer:(id<MTLBuffer>)source
          sourceOffset:(NSUInteger)sourceOffset
              toBuffer:(id<MTLBuffer>)destination
     destinationOffset:(NSUInteger)destinationOffset
                  size:(NSUInteger)size {
  const char* call = "copyFromBuffer";
  std::byte* from = [self use:source range:NSMakeRange(sourceOffset, size) call:call];
  std::byte* to = [self use:destination range:NSMakeRange(destinationOffset, size) call:call];
  if (from < to + size && to < from + size) [self fail:"copyFromBuffer: source and destination overlap"];
  [self append:[=] { std::memcpy(to, from, size); }];
}

- (void)fillBuffer:(id<MTLBuffer>)buffer range:(NSRange)range value:(uint8_t)value {
  std::byte* to = [self use:buffer range:range call:"fillBuffer"];
  if (range.length == 0) [self fail:"fillBuffer: the range is empty"];
  [self append:[=] { std::memset(to, value, range.length); }];
}

- (void)synchronizeResource:(id<MTLResource>)resource {
  [self checkOpen:"synchronizeResource:"];
  if (resource.storageMode != MTLStorageModeManaged) {
    [self fail:"synchronizeResource: is for resources of managed storage only"];
  }
}

- (void)updateFence:(id<MTLFence>)fence {
  [self checkOpen:"updateFence:"];
}

- (void)waitForFence:(id<MTLFence>)fence {
  [self checkOpen:"waitForFence:"];
}

@end
