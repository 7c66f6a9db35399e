// GNUstep's Foundation, with what Apple's has beside it.
#pragma once

#include <objc/objc.h>
#ifdef __OBJC__
#include_next <Foundation/Foundation.h>
// GNUstep's localisation macros; ATen uses both names.
#undef _
#undef __
// GNUstep's nil is an id, which C++ does not convert to other pointers.
#undef nil
#undef Nil
#ifdef __cplusplus
#define nil nullptr
#define Nil nullptr
#else
#define nil ((void*)0)
#define Nil ((void*)0)
#endif
#endif

#include <Availability.h>
#include <dispatch/dispatch.h>
#include <objc/blocks_runtime.h>
#include <signal.h>
#include <stdint.h>
#include <sys/types.h>
#include <unistd.h>
#ifdef __cplusplus
#include <condition_variable>  // libc++ brings it in beside <mutex>, and PyTorch's MPSEvent.h needs it
#endif

#define NS_INLINE static inline
#define NS_RETURNS_INNER_POINTER __attribute__((objc_returns_inner_pointer))
// Clang predefines this word on Darwin only. Its sister __nonnull is a macro of glibc's: write _Nonnull.
#define __nullable _Nullable

typedef double CFTimeInterval;

#ifdef __OBJC__
typedef NSString* NSErrorUserInfoKey;

typedef struct {
  NSInteger majorVersion;
  NSInteger minorVersion;
  NSInteger patchVersion;
} NSOperatingSystemVersion;

@interface NSProcessInfo (NSOperatingSystemVersion)
@property(readonly) NSOperatingSystemVersion operatingSystemVersion;
- (BOOL)isOperatingSystemAtLeastVersion:(NSOperatingSystemVersion)version;
@end
#endif
