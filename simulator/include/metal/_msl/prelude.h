// Everything that a shader sees but simdgroup matrices, in one precompiled header.
//
// The public headers metal_stdlib, metal_math ... all lead here. While a shader is being read (MSL_READER) they are
// empty: only which of them it includes matters then.
#pragma once

#include "aggregate.h"
#include "atomic.h"
#include "checks.h"
#include "compute.h"
#include "count.h"
#include "entry.h"
#include "logging.h"
#include "math.h"
#include "scalar.h"
#include "simd.h"
#include "traits.h"
#include "uniform.h"
#include "unsupported.h"
#include "vec.h"
