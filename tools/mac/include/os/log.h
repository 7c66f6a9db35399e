// The names of os/log.h that PyTorch's MPS headers mention, declared by hand for the Mac check.
#pragma once

#include <os/object.h>

OS_OBJECT_DECL(os_log);
