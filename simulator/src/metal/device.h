// The one device of the machine: an M1 as far as it tells.
#pragma once

#import <Metal/Metal.h>

#include "../foundation/validation.h"

namespace mps_simulator {

// Lives as long as the process.
id<MTLDevice> simulated_device();

// A length that newBuffer... takes: more than nothing, at most maxBufferLength.
void check_buffer_length(NSUInteger length);

}  // namespace mps_simulator
