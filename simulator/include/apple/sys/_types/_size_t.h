// Darwin's own header for size_t.
#pragma once

#include <stddef.h>
