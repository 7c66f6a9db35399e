// Grand Central Dispatch: queues, semaphores, groups, once, data.
#pragma once

#include <Block.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NSEC_PER_SEC 1000000000ull
#define NSEC_PER_MSEC 1000000ull
#define USEC_PER_SEC 1000000ull
#define NSEC_PER_USEC 1000ull

#ifdef __cplusplus
#define DISPATCH_EXPORT extern "C"
#else
#define DISPATCH_EXPORT extern
#endif

// In Objective-C a dispatch object is an object, so that blocks retain it; in C and C++ it is an opaque pointer.
#ifdef __OBJC__
#include <objc/objc.h>
@class NSObject;
// clang-format off
#define DISPATCH_DECLARE(name)  \
  @protocol OS_##name           \
  @end                          \
  typedef NSObject<OS_##name>* name##_t
// clang-format on
#else
#define DISPATCH_DECLARE(name) typedef struct name##_s* name##_t
#endif

DISPATCH_DECLARE(dispatch_queue);
DISPATCH_DECLARE(dispatch_queue_attr);
DISPATCH_DECLARE(dispatch_semaphore);
DISPATCH_DECLARE(dispatch_group);
DISPATCH_DECLARE(dispatch_data);

#ifdef __OBJC__
typedef id dispatch_object_t;
#else
typedef void* dispatch_object_t;
#endif

typedef void (^dispatch_block_t)(void);
typedef void (*dispatch_function_t)(void* context);
typedef uint64_t dispatch_time_t;
typedef intptr_t dispatch_once_t;
typedef unsigned int dispatch_qos_class_t;

#define DISPATCH_TIME_NOW (0ull)
#define DISPATCH_TIME_FOREVER (~0ull)

#define DISPATCH_QUEUE_SERIAL ((dispatch_queue_attr_t)0)
#define DISPATCH_QUEUE_CONCURRENT (mps_simulator_dispatch_queue_concurrent())
#define DISPATCH_QUEUE_PRIORITY_HIGH 2
#define DISPATCH_QUEUE_PRIORITY_DEFAULT 0
#define DISPATCH_QUEUE_PRIORITY_LOW (-2)
#define DISPATCH_QUEUE_PRIORITY_BACKGROUND INT16_MIN

#define DISPATCH_DATA_DESTRUCTOR_DEFAULT ((dispatch_block_t)0)

DISPATCH_EXPORT dispatch_queue_attr_t mps_simulator_dispatch_queue_concurrent(void);

DISPATCH_EXPORT void dispatch_retain(dispatch_object_t object);
DISPATCH_EXPORT void dispatch_release(dispatch_object_t object);

DISPATCH_EXPORT dispatch_queue_t dispatch_queue_create(const char* label, dispatch_queue_attr_t attr);
DISPATCH_EXPORT dispatch_queue_t dispatch_get_main_queue(void);
DISPATCH_EXPORT dispatch_queue_t dispatch_get_global_queue(intptr_t identifier, uintptr_t flags);
DISPATCH_EXPORT const char* dispatch_queue_get_label(dispatch_queue_t queue);
DISPATCH_EXPORT void dispatch_queue_set_specific(dispatch_queue_t queue, const void* key, void* context,
                                                 dispatch_function_t destructor);
DISPATCH_EXPORT void* dispatch_queue_get_specific(dispatch_queue_t queue, const void* key);
DISPATCH_EXPORT void* dispatch_get_specific(const void* key);
DISPATCH_EXPORT void dispatch_assert_queue(dispatch_queue_t queue);
DISPATCH_EXPORT void dispatch_assert_queue_not(dispatch_queue_t queue);

DISPATCH_EXPORT void dispatch_sync(dispatch_queue_t queue, dispatch_block_t block);
DISPATCH_EXPORT void dispatch_sync_f(dispatch_queue_t queue, void* context, dispatch_function_t work);
DISPATCH_EXPORT void dispatch_async(dispatch_queue_t queue, dispatch_block_t block);
DISPATCH_EXPORT void dispatch_async_f(dispatch_queue_t queue, void* context, dispatch_function_t work);
DISPATCH_EXPORT void dispatch_once(dispatch_once_t* predicate, dispatch_block_t block);
DISPATCH_EXPORT void dispatch_once_f(dispatch_once_t* predicate, void* context, dispatch_function_t work);

DISPATCH_EXPORT dispatch_time_t dispatch_time(dispatch_time_t when, int64_t nanoseconds);

DISPATCH_EXPORT dispatch_semaphore_t dispatch_semaphore_create(intptr_t value);
DISPATCH_EXPORT intptr_t dispatch_semaphore_wait(dispatch_semaphore_t semaphore, dispatch_time_t timeout);
DISPATCH_EXPORT intptr_t dispatch_semaphore_signal(dispatch_semaphore_t semaphore);

DISPATCH_EXPORT dispatch_group_t dispatch_group_create(void);
DISPATCH_EXPORT void dispatch_group_enter(dispatch_group_t group);
DISPATCH_EXPORT void dispatch_group_leave(dispatch_group_t group);
DISPATCH_EXPORT intptr_t dispatch_group_wait(dispatch_group_t group, dispatch_time_t timeout);
DISPATCH_EXPORT void dispatch_group_async(dispatch_group_t group, dispatch_queue_t queue, dispatch_block_t block);

DISPATCH_EXPORT dispatch_data_t dispatch_data_create(const void* buffer, size_t size, dispatch_queue_t queue,
                                                     dispatch_block_t destructor);
DISPATCH_EXPORT size_t dispatch_data_get_size(dispatch_data_t data);
