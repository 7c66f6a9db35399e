// The size of a page of memory.
#pragma once

#include <stdint.h>

typedef uintptr_t vm_size_t;

#ifdef __cplusplus
extern "C" {
#endif
extern vm_size_t vm_page_size;
#ifdef __cplusplus
}
#endif
