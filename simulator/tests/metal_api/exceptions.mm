// C++ and Objective-C exceptions in Objective-C++.
#include <cstdlib>

#include "cases.h"

namespace {

struct Unwound {
  explicit Unwound(bool* flag) : flag(flag) {}
  ~Unwound() { *flag = true; }
  bool* flag;
};

[[noreturn]] void fail() { throw std::out_of_range("far out"); }

[[noreturn]] void raise_ours() {
  [NSException raise:@"Ours" format:@"with %d", 5];
  std::abort();
}

bool is_ours(NSException* exception) { return [[exception reason] isEqualToString:@"with 5"]; }

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
  bool caught = false, unwound = false;
  @try {
    Unwound guard(&unwound);
    raise_ours();
  } @catch (NSException* exception) {
    caught = is_ours(exception);
  }
  CHECK(caught && unwound);
}

CASE(an_objc_exception_is_caught_by_its_class) {
  bool caught = false;
  @try {
    @try {
      raise_ours();
    } @catch (NSString* text) {
      CHECK(false);
    }
  } @catch (id object) {
    caught = is_ours(object);
  }
  CHECK(caught);
}

CASE(an_objc_exception_is_a_cxx_exception_of_no_known_type) {
  std::exception_ptr held;
  bool unwound = false;
  try {
    try {
      Unwound guard(&unwound);
      raise_ours();
    } catch (const std::exception&) {
      CHECK(false);
    }
  } catch (...) {
    held = std::current_exception();
  }
  CHECK(held && unwound);
  bool caught = false;
  @try {
    std::rethrow_exception(held);
  } @catch (NSException* exception) {
    caught = is_ours(exception);
  }
  CHECK(caught);
}

CASE(an_objc_exception_passes_cxx_handlers_beside_it) {
  const char* caught = nullptr;
  try {
    @try {
      raise_ours();
    } @catch (NSException* exception) {
      caught = is_ours(exception) ? "inner" : "another one";
    }
  } catch (const std::exception&) {
    caught = "outer";
  }
  CHECK(caught == std::string("inner"));
  @try {
    try {
      raise_ours();
    } catch (const std::exception&) {
      caught = "inner";
    }
  } @catch (NSException* exception) {
    caught = "outer";
  }
  CHECK(caught == std::string("outer"));
}

CASE(a_cxx_exception_passes_objc_handlers) {
  bool unwound = false;
  const char* caught = nullptr;
  try {
    @try {
      Unwound guard(&unwound);
      fail();
    } @catch (NSException* exception) {
      caught = "inner";
    }
  } catch (const std::logic_error& error) {  // in the same function
    caught = error.what();
  }
  CHECK(unwound && caught == std::string("far out"));
  void (^block)(void) = ^{
    @try {
      fail();
    } @catch (NSException* exception) {
    }
  };
  caught = nullptr;
  try {
    block();
  } catch (const std::out_of_range& error) {
    caught = error.what();
  }
  CHECK(caught == std::string("far out"));
}

CASE(an_exception_of_either_kind_leaves_an_objc_handler) {
  const char* caught = nullptr;
  try {
    @try {
      raise_ours();
    } @catch (NSException* exception) {
      if (is_ours(exception)) throw std::length_error("too long");
    }
  } catch (const std::length_error& error) {
    caught = error.what();
  }
  CHECK(caught == std::string("too long"));
  bool again = false;
  @try {
    @try {
      raise_ours();
    } @catch (NSException* exception) {
      @throw;
    }
  } @catch (NSException* exception) {
    again = is_ours(exception);
  }
  CHECK(again);
  again = false;
  @try {
    try {
      fail();
    } catch (const std::exception&) {
      raise_ours();
    }
  } @catch (NSException* exception) {
    again = is_ours(exception);
  }
  CHECK(again);
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
  CHECK_REFUSED("a C++ exception left a block through dispatch_sync: far out", dispatch_sync(queue, ^{
                  fail();
                }));
  CHECK_REFUSED("an NSException left a block through dispatch_sync: with 5", dispatch_sync(queue, ^{
                  raise_ours();
                }));
  __block bool caught = false;
  dispatch_sync(queue, ^{
    @try {
      raise_ours();
    } @catch (NSException* exception) {
      caught = is_ours(exception);
    }
  });
  CHECK(caught);
  dispatch_sync(queue, ^{
                });
}

CASE(encoding_raises_where_it_is_asked_to) {
  setenv("MPS_SIMULATOR_RAISE", "setComputePipelineState,setBufferO,computeCommandEncoderW", 1);
  id<MTLCommandQueue> commands_queue = [device() newCommandQueue];
  id<MTLCommandBuffer> commands = [commands_queue commandBuffer];
  const auto reason = [](void (^call)(void)) {
    std::string text;
    @try {
      call();
    } @catch (NSException* exception) {
      CHECK([[exception name] isEqualToString:NSInternalInconsistencyException]);
      text = [[exception reason] UTF8String];
    }
    return text;
  };
  CHECK(reason(^{
          [commands computeCommandEncoderWithDispatchType:MTLDispatchTypeSerial];
        }).rfind("-computeCommandEncoderWithDispatchType: raised", 0) == 0);
  setenv("MPS_SIMULATOR_RAISE", "setComputePipelineState,setBufferO", 1);
  commands = [commands_queue commandBuffer];
  id<MTLComputeCommandEncoder> encoder = [commands computeCommandEncoder];
  id<MTLComputePipelineState> state = pipeline("increment");
  CHECK(reason(^{
          [encoder setComputePipelineState:state];
        }).rfind("-setComputePipelineState: raised", 0) == 0);
  [encoder setBuffer:floats(1, 0) offset:0 atIndex:0];
  CHECK(reason(^{
          [encoder setBufferOffset:0 atIndex:0];
        }).rfind("-setBufferOffset:atIndex: raised", 0) == 0);
  [encoder endEncoding];
  setenv("MPS_SIMULATOR_RAISE", "commmit", 1);
  CHECK_REFUSED("begins with 'commmit'", [commands_queue commandBuffer]);
  unsetenv("MPS_SIMULATOR_RAISE");
  id<MTLBuffer> buffer = floats(1, 1);
  commands = [commands_queue commandBuffer];
  encode_increment(commands, buffer);
  [commands commit];
  [commands waitUntilCompleted];
  CHECK(first(buffer) == 2);
}
