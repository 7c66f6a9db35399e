// Other programs: the compiler and its kin.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace mps_simulator::msl {

struct Output {
  bool ok;
  std::string out, error;
};

// Of this machine: how many programs are worth running at a time.
size_t cores();

// Runs command[0], a path, in `folder`, with `input` as its standard input; what it writes of its own accord goes to
// `scratch`. Throws std::runtime_error if it cannot be started, is ended by a signal, or fails and does not say why. No
// more of them run at a time than there are cores.
Output run(std::vector<std::string> command, const std::string& input, const std::string& folder,
           const std::string& scratch = "");

}  // namespace mps_simulator::msl
