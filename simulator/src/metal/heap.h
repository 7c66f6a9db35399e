// A budget that buffers are taken from.
#pragma once

#import <Metal/Metal.h>

#include <atomic>

@interface SimulatedHeap : NSObject <MTLHeap> {
  NSUInteger _size;
  std::atomic<NSUInteger> _used;
  MTLResourceOptions _options;
  MTLHeapType _type;
  NSString* _label;
}
- (instancetype)initWithDescriptor:(MTLHeapDescriptor*)descriptor;
- (void)giveBack:(NSUInteger)length;
@end
