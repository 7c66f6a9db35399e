// The planner for programs that are not C++: one function from JSON to JSON.
#pragma once

#include <string>

namespace mps_conv_transpose3d {

// Answers a question about
//
// - one call on dense tensors, the default. Every field has a default:
//
//     {"dtype": "float32", "cores": 10, "has_bias": false, "algorithm": "...", "batch": 1, "in_channels": 1,
//      "out_channels": 1, "groups": 1, "input": [1, 1, 1], "kernel": ..., "stride": ..., "padding": ...,
//      "output_padding": ..., "dilation": ...}
//
//   "device": "Apple M1", Metal's name of a GPU, may stand for its cores. "algorithm" is taken in each pass where it
//   can compute it. The answer:
//
//     {"cores": 10, "output": [1, 1, 1], "passes": {"forward": {
//       "dispatches": [{"kernel": "conv_transpose3d_forward_direct_float", "algorithm": "direct", "threads": [1, 1, 1],
//                       "threads_per_threadgroup": [32, 1, 1], "z_per_dispatch": 1, "tile_rows": null, "split_k": null,
//                       "polyphase_tile": null}],
//       "partial_sums": 0, "has_bias_grad": false, "text": "..."}, "input_grad": ..., "weight_grad": ...,
//       "bias_grad": ...}}
//
//   "algorithm" of a reduction is null, and "kernel" tells. "bias_grad" is for a call whose weight gradient does not
//   compute it; with "has_bias" the weight gradient does where that costs nothing ("has_bias_grad"). A call that is
//   left to PyTorch has no passes: {"cores": 10, "too_large": "why"}.
//
// - {"about": "algorithms"}: their table, and the constants of the kernels.
// - {"about": "gpu"}: what is known of Apple's GPUs (gpu.h).
//
// Throws std::invalid_argument for anything else.
std::string answer(const std::string& question);

}  // namespace mps_conv_transpose3d
