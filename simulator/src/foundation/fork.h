// Metal does not survive a fork: a child has neither the threads nor the connections to the system that it needs. On a
// Mac whoever uses it there, after the parent did, crashes or waits for ever.
#pragma once

namespace mps_simulator {

// This process uses Metal.
void enter_metal();

// Fails in a forked child whose parent had entered Metal.
void check_not_forked();

}  // namespace mps_simulator
