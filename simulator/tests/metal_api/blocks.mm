// The block runtime.
#include "cases.h"

@interface Mortal : NSObject
@end

static int deaths = 0;

@implementation Mortal
- (void)dealloc {
  ++deaths;
  [super dealloc];
}
@end

namespace {

struct Counted {
  explicit Counted(int* count) : count(count) { ++*count; }
  Counted(const Counted& other) : count(other.count) { ++*count; }
  ~Counted() { --*count; }
  int* count;
};

}  // namespace

CASE(a_block_retains_what_it_captures) {
  Mortal* object = [Mortal new];
  NSUInteger (^block)(void) = Block_copy(^{
    return [object retainCount];
  });
  [object release];
  CHECK(deaths == 0);
  CHECK(block() == 1);
  CHECK(Block_copy(block) == block);
  Block_release(block);
  CHECK(deaths == 0);
  Block_release(block);
  CHECK(deaths == 1);
}

CASE(a_completed_handler_keeps_its_objects) {
  id<MTLCommandBuffer> commands = [[device() newCommandQueue] commandBuffer];
  __block bool told = false;
  @autoreleasepool {
    Mortal* object = [[Mortal new] autorelease];
    [commands addCompletedHandler:^(id<MTLCommandBuffer>) {
      told = [object isKindOfClass:[Mortal class]];
    }];
  }
  CHECK(deaths == 0);
  [commands commit];
  [commands waitUntilCompleted];
  CHECK(told);
}

CASE(a_block_variable_moves_to_the_heap) {
  __block int count = 0;
  __block Mortal* object = [Mortal new];
  void (^increment)(void) = Block_copy(^{
    ++count;
  });
  void (^again)(void) = Block_copy(^{
    increment();
    count += [object retainCount];  // a __block variable retains nothing
  });
  increment();
  again();
  CHECK(count == 3);
  Block_release(increment);
  again();
  CHECK(count == 5);
  Block_release(again);
  CHECK(deaths == 0);
  [object release];
  CHECK(deaths == 1);
}

CASE(a_block_copies_cxx_objects) {
  int alive = 0;
  {
    Counted counted(&alive);
    void (^block)(void) = ^{
      (void)counted;
    };
    void (^copy)(void) = Block_copy(block);
    CHECK(alive >= 2);
    Block_release(copy);
  }
  CHECK(alive == 0);
}

CASE(a_block_is_an_object) {
  int seven = 7;
  int (^block)(void) = ^{
    return seven;
  };
  int (^global)(void) = ^{
    return 8;
  };
  NSMutableArray* array = [NSMutableArray array];
  [array addObject:[[block copy] autorelease]];
  [array addObject:[[global copy] autorelease]];
  int (^found)(void) = [array objectAtIndex:0];
  CHECK(found() == 7);
  CHECK([found retainCount] >= 1);
  found = [array objectAtIndex:1];
  CHECK(found() == 8);
  CHECK([(id)block isKindOfClass:NSClassFromString(@"NSBlock")]);
}
