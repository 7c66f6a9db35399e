// The Metal side: pipelines, and the encoding of a plan on PyTorch's current stream.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "plan.h"

namespace mps_conv_transpose3d {

// A tensor bound to one of ConvTranspose3dBuffer's indices.
struct Binding {
  ConvTranspose3dBuffer index;
  const at::Tensor& tensor;
};

// Encodes the plan behind whatever the current stream already holds, and returns before it has run.
// Compiles the kernel at its first use. Throws c10::Error when Metal refuses the source, with Metal's words.
void encode(const Plan& plan, const ConvTranspose3dParams& params, bool has_bias, const std::vector<Binding>& bindings);

}  // namespace mps_conv_transpose3d
