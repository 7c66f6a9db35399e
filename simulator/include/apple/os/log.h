// Unified logging: accepted, and discarded.
#pragma once

#include <stdbool.h>
#include <stdint.h>

typedef struct os_log_s* os_log_t;

#define OS_LOG_DEFAULT ((os_log_t)0)
#define OS_LOG_DISABLED ((os_log_t)0)

static inline os_log_t os_log_create(const char* subsystem, const char* category) {
  (void)subsystem;
  (void)category;
  return OS_LOG_DEFAULT;
}

#define os_log(log, ...) ((void)(log))
#define os_log_info(log, ...) ((void)(log))
#define os_log_debug(log, ...) ((void)(log))
#define os_log_error(log, ...) ((void)(log))
#define os_log_fault(log, ...) ((void)(log))
