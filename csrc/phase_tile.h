// How the forward pass by phases (metal/forward_polyphase.metal) is cut into threadgroups.
#pragma once

#include <cstdint>

#include "params.h"

namespace mps_conv_transpose3d {

// The tile of least time on a GPU of so many cores.
PolyphaseTile choose_phase_tile(const KernelParams& p, int64_t cores);

// Tiles along the columns, of 8 fragments of 8 output channels of one phase.
int64_t phase_column_tiles(const KernelParams& p);

int64_t phase_simdgroups(const PolyphaseTile& tile);

}  // namespace mps_conv_transpose3d
