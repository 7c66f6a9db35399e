// The Metal side: pipelines, and the encoding of a plan on PyTorch's current stream.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <string>

#include "planner/plan.h"

namespace mps_conv_transpose3d {

// The tensors of a pass, or their gradients; null where the pass has none.
struct Tensors {
  const at::Tensor* input = nullptr;
  const at::Tensor* weight = nullptr;
  const at::Tensor* output = nullptr;
  const at::Tensor* bias = nullptr;
};

// Why the GPU of the current stream cannot run the kernels; none where it can.
const std::optional<std::string>& unavailable_reason();

// The GPU of the current stream.
Gpu current_gpu();

// Encodes the plan behind whatever the current stream already holds, and returns before it has run.
// Compiles kernels at their first use. Throws c10::Error when Metal refuses the source, or anything else, with Metal's
// words.
void encode(const Plan& plan, const KernelParams& params, const Tensors& tensors);

}  // namespace mps_conv_transpose3d
