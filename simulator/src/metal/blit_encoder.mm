#import "blit_encoder.h"

#include <cstring>
#include <stdexcept>
#include <string>

using namespace mps_simulator;

namespace {

// At the time of the copy, when the buffer may be gone: a command buffer of unretained references does not keep it.
std::byte* address(const msl::BufferBinding& bytes, const char* call) {
  if (bytes.memory->gone()) {
    throw msl::Finding(std::string(call) + ": a buffer of " + std::to_string(bytes.length) +
                       " bytes was released before the commands that use it were complete");
  }
  return bytes.base + bytes.offset;
}

}  // namespace

@implementation SimulatedBlitEncoder

- (msl::BufferBinding)use:(id<MTLBuffer>)buffer range:(NSRange)range call:(const char*)call {
  [self checkOpen:call];
  if (!buffer) [self fail:std::string(call) + ": a buffer is nil"];
  if (range.location > buffer.length || range.length > buffer.length - range.location) {
    [self fail:std::string(call) + ": bytes " + std::to_string(range.location) + " to " +
               std::to_string(range.location + range.length) + " of a buffer of " + std::to_string(buffer.length)];
  }
  return [self use:buffer offset:range.location];
}

- (void)copyFromBuffer:(id<MTLBuffer>)source
          sourceOffset:(NSUInteger)sourceOffset
              toBuffer:(id<MTLBuffer>)destination
     destinationOffset:(NSUInteger)destinationOffset
                  size:(NSUInteger)size {
  const char* call = "copyFromBuffer";
  const msl::BufferBinding from = [self use:source range:NSMakeRange(sourceOffset, size) call:call];
  const msl::BufferBinding to = [self use:destination range:NSMakeRange(destinationOffset, size) call:call];
  const std::byte *first = from.base + from.offset, *second = to.base + to.offset;
  if (first < second + size && second < first + size) [self fail:"copyFromBuffer: source and destination overlap"];
  [self append:[=] {
    std::memcpy(address(to, call), address(from, call), size);
    to.memory->copy_written(to.offset, *from.memory, from.offset, size);
  }];
}

- (void)fillBuffer:(id<MTLBuffer>)buffer range:(NSRange)range value:(uint8_t)value {
  const char* call = "fillBuffer";
  const msl::BufferBinding to = [self use:buffer range:range call:call];
  if (range.length == 0) [self fail:"fillBuffer: the range is empty"];
  [self append:[=] {
    std::memset(address(to, call), value, range.length);
    to.memory->set_written(to.offset, range.length);
  }];
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
