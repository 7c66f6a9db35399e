// The planner for programs that are not C++: one function that takes and gives JSON.
#pragma once

#include <string>

namespace mps_conv_transpose3d {

// Plans all passes of one call on dense tensors. The request, of which every field has a default:
//
//   {"dtype": "float32", "cores": 10, "has_bias": false, "batch": 1, "in_channels": 1, "out_channels": 1, "groups": 1,
//    "input": [1, 1, 1], "kernel": [1, 1, 1], "stride": ..., "padding": ..., "output_padding": ..., "dilation": ...}
//
// "device": "Apple M1", Metal's name of the GPU, may stand for its cores. The answer:
//
//   {"cores": 10, "passes": {"forward": {"kernels": ["conv_transpose3d_forward_float"], "text": "..."},
//                            "input_grad": ..., "weight_grad": ..., "bias_grad": ...}}
//
// "bias_grad" stands there with a bias only; without kernels where those of the weight gradient sum it. A call that is
// too large for the kernels has no passes: {"cores": 10, "too_large": "why"}. Throws std::invalid_argument for anything
// else.
std::string plan_json(const std::string& request);

}  // namespace mps_conv_transpose3d
