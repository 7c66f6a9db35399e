#pragma once

#include <ATen/core/Generator.h>

namespace mps_simulator {

const at::Generator& default_generator();
at::Generator make_generator();

}  // namespace mps_simulator
