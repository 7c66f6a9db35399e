#pragma once

#include <pybind11/pybind11.h>

namespace mps_simulator {

// compile_shader, ShaderLibrary and MetalKernel: what torch.mps.compile_shader returns and how it is called.
void bind_shader_library(pybind11::module_& m);

}  // namespace mps_simulator
