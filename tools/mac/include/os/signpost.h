// The names of os/signpost.h that PyTorch's MPS headers mention, declared by hand for the Mac check.
#pragma once

#include <os/log.h>
#include <stdint.h>

typedef uint64_t os_signpost_id_t;
typedef uint8_t os_signpost_type_t;
