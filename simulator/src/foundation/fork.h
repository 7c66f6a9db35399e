// Telling a forked child from its parent: threads, and locks that they held, do not survive.
#pragma once

namespace mps_simulator {

// A number that is another one in each forked process.
unsigned fork_generation();

}  // namespace mps_simulator
