#pragma once

namespace mps_simulator {

// Gives torch.mps and torch::mps their device, which at::MPSHooksInterface stands for. torch looks it up once and
// remembers what it saw, so this must come before anybody asks. Not done by loading the library alone: an extension
// that is linked to it may be loaded where the device is not wanted.
void register_hooks();

}  // namespace mps_simulator
