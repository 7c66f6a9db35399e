// NSExceptions in the middle of encoding, as Metal and its drivers raise them.
#pragma once

#import <Foundation/Foundation.h>

namespace mps_simulator {

// MPS_SIMULATOR_RAISE=setComputePipelineState,commit: from now on the object's methods whose selectors begin with one
// of these raise instead. The variable is read for each new command buffer and compute encoder.
void raise_where_asked(id object);

}  // namespace mps_simulator
