// C++ and Objective-C exceptions in Objective-C++.
#include "cases.h"

namespace {

struct Unwound {
  explicit Unwound(bool* flag) : flag(flag) {}
  ~Unwound() { *flag = true; }
  bool* flag;
};

[[noreturn]] void fail() { throw std::out_of_range("far out"); }

}  // namespace

@interface Thrower : NSObject
- (void)fail:(bool*)unwound;
@end

@implementation Thrower

- (void)fail:(bool*)unwound {
  Unwound guard(unwound);
  @autoreleasepool {
    fail();
  }
}

@end

CASE(a_cxx_exception_is_caught) {
  bool unwound = false, caught = false;
  try {
    [[[Thrower new] autorelease] fail:&unwound];
  } catch (const std::out_of_range& error) {
    caught = std::string(error.what()) == "far out";
  }
  CHECK(unwound && caught);
}

CASE(an_exception_pointer_is_rethrown) {
  std::exception_ptr held;
  try {
    fail();
  } catch (...) {
    held = std::current_exception();
  }
  bool caught = false;
  try {
    std::rethrow_exception(held);
  } catch (const std::runtime_error&) {
    CHECK(false);
  } catch (const std::logic_error&) {
    caught = true;
  }
  CHECK(caught);
}

CASE(an_objc_exception_is_caught) {
  bool caught = false;
  @try {
    [NSException raise:@"Ours" format:@"with %d", 5];
  } @catch (NSException* exception) {
    caught = [[exception reason] isEqualToString:@"with 5"];
  }
  CHECK(caught);
}

CASE(an_exception_is_carried_out_of_a_block) {
  dispatch_queue_t queue = dispatch_queue_create("queue", nullptr);
  __block std::exception_ptr held;
  dispatch_sync(queue, ^{
    try {
      fail();
    } catch (...) {
      held = std::current_exception();
    }
  });
  CHECK(held);
  CHECK_REFUSED("left a block through dispatch_sync: far out", dispatch_sync(queue, ^{
                  fail();
                }));
  dispatch_sync(queue, ^{
                });
}
