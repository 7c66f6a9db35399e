// When work runs, and in which order.
#import <MetalPerformanceShaders/MetalPerformanceShaders.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <thread>

#include "cases.h"

CASE(nothing_runs_before_commit) {
  id<MTLBuffer> buffer = floats(4, 1);
  id<MTLCommandBuffer> commands = [[device() newCommandQueue] commandBuffer];
  encode_increment(commands, buffer);
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  CHECK(first(buffer) == 1);
  CHECK(commands.status == MTLCommandBufferStatusNotEnqueued);
  [commands commit];
  [commands waitUntilCompleted];
  CHECK(first(buffer) == 2);
  CHECK(commands.status == MTLCommandBufferStatusCompleted);
  CHECK(commands.error == nil);
  CHECK(commands.GPUEndTime >= commands.GPUStartTime && commands.GPUStartTime > 0);
}

CASE(an_uncommitted_buffer_does_nothing_ever) {
  id<MTLBuffer> buffer = floats(4, 1);
  id<MTLCommandQueue> queue = [device() newCommandQueue];
  @autoreleasepool {
    encode_increment([queue commandBuffer], buffer);
  }
  id<MTLCommandBuffer> later = [queue commandBuffer];
  [later commit];
  [later waitUntilCompleted];
  CHECK(first(buffer) == 1);
}

CASE(commit_does_not_wait) {
  id<MTLBuffer> buffer = floats(4, 1);
  id<MTLSharedEvent> gate = [device() newSharedEvent];
  id<MTLCommandBuffer> commands = [[device() newCommandQueue] commandBuffer];
  [commands encodeWaitForEvent:gate value:1];
  encode_increment(commands, buffer);
  [commands commit];
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  CHECK(first(buffer) == 1);
  CHECK(commands.status < MTLCommandBufferStatusCompleted);
  gate.signaledValue = 1;
  [commands waitUntilCompleted];
  CHECK(first(buffer) == 2);
}

CASE(buffers_of_a_queue_run_in_commit_order) {
  id<MTLBuffer> buffer = floats(1, 1);
  id<MTLCommandQueue> queue = [device() newCommandQueue];
  id<MTLSharedEvent> gate = [device() newSharedEvent];
  id<MTLCommandBuffer> first_commands = [queue commandBuffer];
  [first_commands encodeWaitForEvent:gate value:1];
  id<MTLComputeCommandEncoder> encoder = [first_commands computeCommandEncoder];
  const float three = 3;
  [encoder setComputePipelineState:pipeline("add")];
  [encoder setBuffer:buffer offset:0 atIndex:0];
  [encoder setBytes:&three length:sizeof(three) atIndex:1];
  [encoder dispatchThreads:MTLSizeMake(1, 1, 1) threadsPerThreadgroup:MTLSizeMake(1, 1, 1)];
  [encoder endEncoding];
  id<MTLBuffer> copy = floats(1, 0);
  id<MTLCommandBuffer> second_commands = [queue commandBuffer];
  id<MTLBlitCommandEncoder> blit = [second_commands blitCommandEncoder];
  [blit copyFromBuffer:buffer sourceOffset:0 toBuffer:copy destinationOffset:0 size:sizeof(float)];
  [blit endEncoding];
  [first_commands commit];
  [second_commands commit];
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  CHECK(first(copy) == 0);
  gate.signaledValue = 1;
  [second_commands waitUntilCompleted];
  CHECK(first_commands.status == MTLCommandBufferStatusCompleted);
  CHECK(first(copy) == 4);
}

CASE(enqueue_keeps_a_place_in_the_order) {
  id<MTLBuffer> buffer = floats(1, 0);
  id<MTLCommandQueue> queue = [device() newCommandQueue];
  id<MTLCommandBuffer> early = [queue commandBuffer], late = [queue commandBuffer];
  [early enqueue];
  CHECK(early.status == MTLCommandBufferStatusEnqueued);
  id<MTLBlitCommandEncoder> blit = [late blitCommandEncoder];
  [blit fillBuffer:buffer range:NSMakeRange(0, 4) value:0];
  [blit endEncoding];
  [late commit];
  encode_increment(early, buffer);
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  CHECK(late.status < MTLCommandBufferStatusCompleted);
  [early commit];
  [late waitUntilCompleted];
  CHECK(first(buffer) == 0);
}

CASE(queues_wait_for_each_other_through_events) {
  id<MTLBuffer> buffer = floats(4, 1);
  id<MTLEvent> event = [device() newEvent];
  id<MTLCommandBuffer> waiting = [[device() newCommandQueue] commandBuffer];
  [waiting encodeWaitForEvent:event value:7];
  encode_increment(waiting, buffer);
  [waiting commit];
  id<MTLCommandBuffer> signalling = [[device() newCommandQueue] commandBuffer];
  id<MTLBlitCommandEncoder> blit = [signalling blitCommandEncoder];
  [blit fillBuffer:buffer range:NSMakeRange(0, buffer.length) value:0];
  [blit endEncoding];
  [signalling encodeSignalEvent:event value:7];
  [signalling commit];
  [waiting waitUntilCompleted];
  CHECK(first(buffer) == 1);
}

CASE(a_listener_is_told_of_an_events_value) {
  id<MTLSharedEvent> event = [device() newSharedEvent];
  MTLSharedEventListener* listener = [[MTLSharedEventListener alloc] init];
  dispatch_semaphore_t told = dispatch_semaphore_create(0);
  __block uint64_t seen = 0;
  [event notifyListener:listener
                atValue:2
                  block:^(id<MTLSharedEvent> signalled, uint64_t value) {
                    seen = value;
                    dispatch_semaphore_signal(told);
                  }];
  event.signaledValue = 1;
  CHECK(dispatch_semaphore_wait(told, dispatch_time(DISPATCH_TIME_NOW, 30 * NSEC_PER_MSEC)) != 0);
  id<MTLCommandBuffer> commands = [[device() newCommandQueue] commandBuffer];
  [commands encodeSignalEvent:event value:3];
  [commands commit];
  dispatch_semaphore_wait(told, DISPATCH_TIME_FOREVER);
  CHECK(seen == 3);
  CHECK([event waitUntilSignaledValue:3 timeoutMS:0]);
  CHECK(![event waitUntilSignaledValue:4 timeoutMS:10]);
}

CASE(handlers_run_before_wait_returns) {
  id<MTLCommandBuffer> commands = [[device() newCommandQueue] commandBuffer];
  auto order = std::make_shared<std::vector<int>>();
  [commands addCompletedHandler:^(id<MTLCommandBuffer> buffer) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    if (buffer.status == MTLCommandBufferStatusCompleted) order->push_back(2);
  }];
  [commands addScheduledHandler:^(id<MTLCommandBuffer>) {
    order->push_back(1);
  }];
  [commands commit];
  [commands waitUntilCompleted];
  CHECK(*order == std::vector<int>{1, 2});
}

CASE(a_fault_of_a_kernel_is_the_buffers_error) {
  id<MTLBuffer> buffer = floats(32, 1);
  id<MTLCommandQueue> queue = [device() newCommandQueue];
  id<MTLSharedEvent> event = [device() newSharedEvent];
  id<MTLCommandBuffer> commands = [queue commandBuffer];
  id<MTLComputeCommandEncoder> encoder = [commands computeCommandEncoder];
  [encoder setComputePipelineState:pipeline("diverge")];
  [encoder setBuffer:buffer offset:0 atIndex:0];
  [encoder dispatchThreads:MTLSizeMake(32, 1, 1) threadsPerThreadgroup:MTLSizeMake(32, 1, 1)];
  [encoder endEncoding];
  [commands encodeSignalEvent:event value:1];
  __block MTLCommandBufferStatus status_in_handler = MTLCommandBufferStatusNotEnqueued;
  [commands addCompletedHandler:^(id<MTLCommandBuffer> failed) {
    status_in_handler = failed.status;
  }];
  [commands commit];
  [commands waitUntilCompleted];
  CHECK(commands.status == MTLCommandBufferStatusError);
  CHECK(status_in_handler == MTLCommandBufferStatusError);
  CHECK([commands.error.domain isEqualToString:MTLCommandBufferErrorDomain]);
  CHECK(std::string([commands.error.localizedDescription UTF8String]).find("diverge") != std::string::npos);
  CHECK(event.signaledValue == 1);

  id<MTLCommandBuffer> next = [queue commandBuffer];
  id<MTLBuffer> other = floats(1, 1);
  encode_increment(next, other);
  [next commit];
  [next waitUntilCompleted];
  CHECK(first(other) == 2);
}

CASE(an_mps_command_buffer_commits_and_continues) {
  id<MTLBuffer> buffer = floats(4, 1);
  MPSCommandBuffer* commands = [MPSCommandBuffer commandBufferFromCommandQueue:[device() newCommandQueue]];
  id<MTLCommandBuffer> root = commands.rootCommandBuffer;
  encode_increment(commands, buffer);
  [commands commitAndContinue];
  CHECK(commands.rootCommandBuffer != root);
  [root waitUntilCompleted];
  CHECK(first(buffer) == 2);
  encode_increment(commands, buffer);
  CHECK(first(buffer) == 2);
  [commands commit];
  [commands waitUntilCompleted];
  CHECK(first(buffer) == 3);
}

CASE(a_queue_has_so_many_buffers) {
  id<MTLCommandQueue> queue = [device() newCommandQueueWithMaxCommandBufferCount:2];
  id<MTLSharedEvent> gate = [device() newSharedEvent];
  for (int i = 0; i < 2; ++i) {
    id<MTLCommandBuffer> commands = [queue commandBuffer];
    [commands encodeWaitForEvent:gate value:1];
    [commands commit];
  }
  std::atomic<bool> got_one{false};
  std::thread third([&] {
    @autoreleasepool {
      id<MTLCommandBuffer> commands = [queue commandBuffer];
      got_one = true;
      [commands commit];
      [commands waitUntilCompleted];
    }
  });
  std::this_thread::sleep_for(std::chrono::milliseconds(30));
  CHECK(!got_one);
  gate.signaledValue = 1;
  third.join();
  CHECK(got_one);
  CHECK([queue commandBuffer]);
  CHECK([queue commandBuffer]);
  CHECK_REFUSED("uncommitted", [queue commandBuffer]);
}

CASE(a_forked_child_cannot_use_metal) {
  id<MTLDevice> metal = device();
  id<MTLCommandQueue> queue = [metal newCommandQueue];
  id<MTLSharedEvent> event = [metal newSharedEvent];
  id<MTLBuffer> buffer = floats(4, 1);
  id<MTLCommandBuffer> open = [queue commandBuffer], committed = [queue commandBuffer];
  [committed commit];
  dispatch_queue_t serial = dispatch_queue_create("serial", DISPATCH_QUEUE_SERIAL);
  const pid_t child = fork();
  if (child == 0) {
    alarm(20);
    int refused = 0;
    const auto expect = [&refused](const std::function<void()>& use) {
      try {
        use();
      } catch (const std::exception& error) {
        refused += std::string(error.what()).find("forked child") != std::string::npos;
      }
    };
    expect([] { MTLCreateSystemDefaultDevice(); });
    expect([&] { [metal newCommandQueue]; });
    expect([&] { [metal newBufferWithLength:4 options:MTLResourceStorageModeShared]; });
    expect([&] { [metal newLibraryWithSource:@"" options:nil error:nil]; });
    expect([&] { [queue commandBuffer]; });
    expect([&] { [open commit]; });
    expect([&] { [committed waitUntilCompleted]; });
    expect([&] { [buffer contents]; });
    expect([&] { event.signaledValue = 1; });
    expect([&] {
      dispatch_sync(serial, ^{
                    });
    });
    // What it inherited it may let go.
    [buffer release];
    [event release];
    [queue release];
    _exit(refused);
  }
  int status = -1;
  waitpid(child, &status, 0);
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 10);
}

CASE(a_forked_child_may_be_the_first_to_use_metal) {
  const pid_t child = fork();
  if (child == 0) {
    alarm(20);
    id<MTLBuffer> buffer = floats(4, 1);
    id<MTLCommandBuffer> commands = [[device() newCommandQueue] commandBuffer];
    encode_increment(commands, buffer);
    [commands commit];
    [commands waitUntilCompleted];
    _exit(first(buffer) == 2 ? 0 : 1);
  }
  int status = -1;
  waitpid(child, &status, 0);
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}
