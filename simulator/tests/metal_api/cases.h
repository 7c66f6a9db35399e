// Named cases, each run in a child process. `metal_api NAME` runs one in the process itself.
#pragma once

#import <Metal/Metal.h>

#include <functional>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

inline std::map<std::string, void (*)()>& cases() {
  static std::map<std::string, void (*)()> all;
  return all;
}

#define CASE(name)                                                      \
  static void name();                                                   \
  static const bool name##_added = cases().emplace(#name, name).second; \
  static void name()

#define CHECK(...)                                                                                      \
  do {                                                                                                  \
    if (!(__VA_ARGS__))                                                                                 \
      throw std::logic_error(std::string(__FILE__ ":") + std::to_string(__LINE__) + ": " #__VA_ARGS__); \
  } while (false)

// What a Mac's validation layer aborts on raises here, in words that contain `text`.
void check_refused(const std::string& text, const std::function<void()>& call);
#define CHECK_REFUSED(text, ...) check_refused(text, [&] { __VA_ARGS__; })

id<MTLDevice> device();

extern const char* const kShaders;
id<MTLLibrary> library();  // of kShaders
// A pipeline of kShaders.
id<MTLComputePipelineState> pipeline(const char* kernel);

// `count` floats, all of `value`.
id<MTLBuffer> floats(NSUInteger count, float value);
float first(id<MTLBuffer> buffer);

// Adds 1 to each of the buffer's floats.
void encode_increment(id<MTLCommandBuffer> commands, id<MTLBuffer> buffer);
