// Metal's library as the second reading knows it: declared, so that types, overloads and address spaces are looked at,
// and not computed. C++ for OpenCL, after names.h; independent of the headers that kernels are executed with.
#pragma once

#include "atomic.h"
#include "functions.h"
#include "simdgroup.h"
