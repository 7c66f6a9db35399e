// Errors that Metal reports instead of aborting.
#pragma once

#import <Foundation/Foundation.h>

#include <string>

namespace mps_simulator {

// An autoreleased NSError with this localizedDescription.
NSError* make_error(NSString* domain, NSInteger code, const std::string& message);

// Stores it where the caller asked for errors, if it did.
inline void set_error(NSError** destination, NSError* error) {
  if (destination) *destination = error;
}

inline NSString* to_nsstring(const std::string& text) { return [NSString stringWithUTF8String:text.c_str()]; }

inline std::string to_string(NSString* text) { return text ? [text UTF8String] : ""; }

}  // namespace mps_simulator
