#pragma once

namespace mps_simulator {

// Takes from autocast on `mps` what the played PyTorch does not have yet.
void register_autocast();

}  // namespace mps_simulator
