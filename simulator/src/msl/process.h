// Other programs: the compiler and its kin.
#pragma once

#include <string>
#include <vector>

namespace mps_simulator::msl {

struct Output {
  bool ok;
  std::string out, error;
};

// Runs command[0], a path, in `folder`, with `input` as its standard input; what it writes of its own accord goes to
// `scratch`. Throws std::runtime_error if it cannot be started, is ended by a signal, or fails and does not say why.
Output run(std::vector<std::string> command, const std::string& input, const std::string& folder,
           const std::string& scratch = "");

}  // namespace mps_simulator::msl
