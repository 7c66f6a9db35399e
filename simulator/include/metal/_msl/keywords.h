// MSL's keywords in terms of clang's.
//
// The address spaces are SYCL's (the compiler runs with -fsycl-is-device): distinct types, so that overloads and
// partial specialisations on them work, all converting implicitly to the unqualified one, so that implicit copies of a
// struct work from and to every address space. `thread` is the unqualified one, with an attribute that has no
// meaning here and shows in the syntax tree that it was written. Conversions that Metal refuses are found afterwards,
// in that tree (src/msl/ast.h).
#pragma once

#include "worker.h"

#define device __attribute__((opencl_global))
#define threadgroup __attribute__((opencl_local))
#define constant __attribute__((opencl_global_host)) const
#define thread __attribute__((noderef))

#define METAL_FUNC inline __attribute__((always_inline))
#define METAL_PURE __attribute__((pure))
#define METAL_CONST __attribute__((const))
#define METAL_INTERNAL inline

// What the syntax tree shows of a declaration when the host reads it (check_prologue() in src/msl/pipeline.h). Nothing
// in code that runs: a function with an annotation is emitted for itself too, however often it is inlined.
#define MSL_NOTE(...)

// A default argument: the caller's line and column, by which barriers and simdgroup operations are told apart.
#define MSL_SITE unsigned msl_site = (__builtin_LINE() << 8 | (__builtin_COLUMN() & 255))
