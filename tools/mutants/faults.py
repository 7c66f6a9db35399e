"""The faults that `make mutants` plants: each a small change that a person could make by mistake."""

from __future__ import annotations

from dataclasses import dataclass

COMMON = "metal/common.h"
COORD = "metal/coord.h"
COMPENSATED_SUM = "metal/compensated_sum.h"
K_RANGE = "metal/k_range.h"
DIRECT = "metal/direct.metal"
DIRECT_TAPS = "metal/direct_taps.h"
DEPTHWISE = "metal/depthwise.metal"
FORWARD_POLYPHASE = "metal/forward_polyphase.metal"
PHASE = "metal/polyphase/phase.h"
POLYPHASE_LOADER = "metal/polyphase/loader.h"
K3S2_TAPS = "metal/polyphase/k3s2_taps.h"
LOOKUP_TAPS = "metal/polyphase/lookup_taps.h"
POLYPHASE_EPILOGUE = "metal/polyphase/epilogue.h"
FORWARD_TILED = "metal/forward_tiled.metal"
INPUT_GRAD = "metal/input_grad.metal"
WEIGHT_GRAD = "metal/weight_grad.metal"
FRAGMENT = "metal/gemm/fragment.h"
BLOCK_MMA = "metal/gemm/block_mma.h"
BLOCK_LOADER = "metal/gemm/block_loader.h"
ROW_COL_INDEX = "metal/gemm/row_col_index.h"
ENCODER = "csrc/encoding.mm"
OPERATORS = "csrc/operators.cpp"
ARGUMENTS = "csrc/arguments.cpp"
ALGORITHMS = "csrc/planner/algorithms.cpp"
PLAN = "csrc/planner/plan.cpp"
GEMM = "csrc/planner/gemm.cpp"
PROBLEM = "csrc/planner/problem.cpp"
POLYPHASE = "csrc/planner/polyphase.cpp"
REGISTRATION = "csrc/registration.cpp"

# In the order in which they are asked; the first test that fails is the one that caught the fault.
QUICK_TESTS = (
    "tests/test_arguments.py",
    "tests/test_algorithms.py",
    "tests/test_memory_formats.py",
    "tests/test_autograd.py",
    "tests/test_autocast.py",
    "tests/test_errors.py",
    "tests/test_switch.py",
    "tests/test_plan.py",
    "tests/test_encoding.py",
    "tests/test_fallback.py",
)


@dataclass(frozen=True)
class Fault:
    name: str
    file: str
    old: str  # occurs exactly once in the file
    new: str
    reason: str  # what it would do to a user


FAULTS = [
    Fault(
        "off-by-one tap",
        DIRECT,
        "lies_in(o_h, p.height.output) && kw < p.width.taps;",
        "lies_in(o_h, p.height.output) && kw < p.width.taps - 1;",
        "the input gradient leaves the last tap of each axis out",
    ),
    Fault(
        "off-by-one input",
        DIRECT,
        "if (k < p.width.input) {",
        "if (k <= p.width.input) {",
        "the last output reads one voxel past the end of a row",
    ),
    Fault(
        "dropped bias",
        DIRECT,
        "has_bias ? float(bias[channel + e]) : 0.0f",
        "0.0f",
        "outputs lack the bias",
    ),
    Fault(
        "bias of the group",
        DIRECT,
        "float(bias[channel + e])",
        "float(bias[o + e])",
        "every group gets the first group's bias",
    ),
    Fault(
        "wrong group",
        DIRECT,
        "offset(p.input, at.n, at.group * p.in_channels)",
        "offset(p.input, at.n, (p.groups - 1 - at.group) * p.in_channels)",
        "an output channel reads the inputs of another group",
    ),
    Fault(
        "padding with the wrong sign",
        DIRECT_TAPS,
        "const int shifted = o + axis.padding;",
        "const int shifted = o - axis.padding;",
        "the output is shifted by twice the padding",
    ),
    Fault(
        "dilation forgotten",
        COMMON,
        "return i * axis.stride + k * axis.dilation - axis.padding;",
        "return i * axis.stride + k - axis.padding;",
        "the gradients of a dilated kernel read other outputs",
    ),
    Fault(
        "sum in half precision",
        DIRECT_TAPS,
        "sums[e] += factor * float(filter[at + e * step]);",
        "sums[e] = float(T(sums[e] + factor * float(filter[at + e * step])));",
        "many channels lose digits in float16 and bfloat16",
    ),
    Fault(
        "missing barrier",
        COMPENSATED_SUM,
        "  threadgroup_barrier(mem_flags::mem_threadgroup);\n",
        "",
        "a weight's gradient lacks what the other simdgroups had not yet written",
    ),
    Fault(
        "slices all begin at zero",
        DIRECT,
        "const int z = int(position.z + z_offset), tiles = channel_tiles(p.out_channels);",
        "const int z = int(position.z), tiles = channel_tiles(p.out_channels);",
        "a large output keeps garbage where the second dispatch should have written",
    ),
    Fault(
        "last row of the bias gradient",
        DIRECT,
        "if (m < range.end) {",
        "if (m < range.end - row) {",
        "the bias learns from all rows but one",
    ),
    Fault(
        "parts that overlap",
        K_RANGE,
        "min(split_k.length, batch * k_per_sample - first)",
        "min(split_k.length + 1, batch * k_per_sample - first)",
        "a weight or bias learns from some positions twice",
    ),
    Fault(
        "part that ends with its sample",
        K_RANGE,
        "return {n, begin, end, terms - (end - begin)};",
        "return {n, begin, end, 0};",
        "a weight or bias learns from the first samples alone",
    ),
    Fault(
        "half a cell off",
        DEPTHWISE,
        "const int i = q + p.depth.padding / 2;",
        "const int i = q + (p.depth.padding + 1) / 2;",
        "the output of a depthwise layer is shifted",
    ),
    Fault(
        "run past the last plane",
        DEPTHWISE,
        "if (d + r < p.depth.input) {",
        "if (d + r <= p.depth.input) {",
        "the input gradient of a depthwise layer is written over the next channel",
    ),
    Fault(
        "output of two inputs",
        DEPTHWISE,
        "k % 3 < p.width.stride ||",
        "k % 3 <= p.width.stride ||",
        "the bias of a depthwise layer learns twice from every second output",
    ),
    Fault(
        "last terms of a part",
        DEPTHWISE,
        "terms >= kPlainTerms || rows + int(threads.y) >= range.end",
        "terms >= kPlainTerms",
        "the weight of a depthwise layer learns from the first positions alone",
    ),
    Fault(
        "fill of the first channels alone",
        POLYPHASE_EPILOGUE,
        "(column_tile + 1) * kPolyphaseFragsN + phases - 1)",
        "column_tile * kPolyphaseFragsN + phases)",
        "outputs that no tap reaches keep what was in memory",
    ),
    Fault(
        "fill over results",
        PHASE,
        "reached |= phase_of(axis, i) == phase;",
        "reached |= i == phase;",
        "padding moves the bias onto outputs that a tap reaches",
    ),
    Fault(
        "row of channels unmasked",
        POLYPHASE_LOADER,
        "  if (count >= 8) {",
        "  if (count > 0) {",
        "what lies behind the last channel is multiplied",
    ),
    Fault(
        "tap of another phase",
        PHASE,
        "phase + axis.padding - shift * axis.stride;",
        "phase - axis.padding - shift * axis.stride;",
        "outputs meet the wrong taps where there is padding",
    ),
    Fault(
        "outputs beyond the end",
        PHASE,
        "return (axis.quotients - 1) * axis.stride + phase >= axis.output;",
        "return (axis.quotients - 1) * axis.stride + phase > axis.output;",
        "the last row of an odd output is written over the next",
    ),
    Fault(
        "bias of another channel",
        FORWARD_POLYPHASE,
        "own_bias = bias + z.group * p.out_channels;",
        "own_bias = bias;",
        "every group gets the first group's bias",
    ),
    Fault(
        "missing barrier after staging",
        FORWARD_POLYPHASE,
        "          threadgroup_barrier(mem_flags::mem_threadgroup);\n          if (fragment_rows == 1) {",
        "          if (fragment_rows == 1) {",
        "a tile is multiplied before the other threads have brought their part",
    ),
    Fault(
        "missing barrier after the taps of a block",
        LOOKUP_TAPS,
        "    threadgroup_barrier(mem_flags::mem_threadgroup);\n    const int taps = tables.tap_count;",
        "    const int taps = tables.tap_count;",
        "weights of other taps are staged",
    ),
    Fault(
        "halo not cleared",
        POLYPHASE_LOADER,
        "load_8(dst + i * step * kPolyphaseBK, x, 0, 0);",
        "",
        "outputs at the border learn from what another threadgroup left",
    ),
    Fault(
        "weights beyond the last channel",
        POLYPHASE_LOADER,
        "k < channels ? outputs : 0",
        "outputs",
        "what lies behind the weight is multiplied",
    ),
    Fault(
        "taps of phases exchanged",
        K3S2_TAPS,
        "return phase + 1 - 2 * shift;",
        "return phase + 1 - 2 * (phase - shift);",
        "every second output meets the wrong tap",
    ),
    Fault(
        "second row of fragments",
        FORWARD_POLYPHASE,
        "min(t.fragment_rows, int(uint(t.rows + 7) / 8) - simdgroup * t.fragment_rows);",
        "1;",
        "every second 8 voxels hold the bias alone",
    ),
    Fault(
        "last output of an odd width",
        K3S2_TAPS,
        "const bool both = !((last & 4) && last_is_beyond(p.width, 1));",
        "const bool both = true;",
        "the next row begins with the end of this one",
    ),
    Fault(
        "halo across lines",
        POLYPHASE,
        "s.halo_w = box.w % 8 == 0 || box.d * box.h == 1;",
        "s.halo_w = true;",
        "rows of the output meet the inputs of others",
    ),
    Fault(
        "bias of the first group",
        FORWARD_TILED,
        "float(bias[z.group * p.out_channels + at.outer]);",
        "float(bias[at.outer]);",
        "every group gets the first group's bias",
    ),
    Fault(
        "pairs that are none",
        PROBLEM,
        "params.paired_output = params.non_overlapping && output[4] == 1 && g.kernel[2] % 2 == 0;",
        "params.paired_output = params.non_overlapping && g.kernel[2] % 2 == 0;",
        "neighbouring channels are written where neighbouring voxels should be",
    ),
    Fault(
        "flat whatever the strides",
        PROBLEM,
        "params.flat_input = input[4] == 1 && input[3] == g.input[2] && input[2] == g.input[1] * g.input[2];",
        "params.flat_input = true;",
        "an input in another memory format is read in the wrong order",
    ),
    Fault(
        "lines past the last",
        BLOCK_LOADER,
        "const bool all = lines >= kLines && length >= kLength;",
        "const bool all = lines > 0;",
        "what lies behind an operand is multiplied",
    ),
    Fault(
        "half a pair past the end",
        INPUT_GRAD,
        "paired && j0 + kBK <= j_end,",
        "paired,",
        "what lies behind the gradient of the output is multiplied",
    ),
    Fault(
        "rows of the next tile",
        INPUT_GRAD,
        "const int rows = min(tile_rows, p.in_channels - c0), j_end",
        "const int rows = p.in_channels - c0, j_end",
        "two threadgroups write the same channels",
    ),
    Fault(
        "missing barrier after a product",
        WEIGHT_GRAD,
        "mma.multiply(a, b, range.end - m0);\n      threadgroup_barrier(mem_flags::mem_threadgroup);",
        "mma.multiply(a, b, range.end - m0);",
        "a tile is overwritten while others still multiply it",
    ),
    Fault(
        "columns of the next group",
        ROW_COL_INDEX,
        "at.outer < p.out_channels ? tap_mask : kNoTap",
        "tap_mask",
        "what lies behind the gradient of the output is multiplied",
    ),
    Fault(
        "taps outside of the output",
        WEIGHT_GRAD,
        "if (are_valid(valid_taps, col[own_column(e, row)].tap_mask)) {",
        "if (true) {",
        "the weight learns from the neighbouring rows",
    ),
    Fault(
        "row taken for a plane",
        COORD,
        "const int row = div(index, size.w), plane = div(row, size.h), outer",
        "const int row = div(index, size.w), plane = div(index, size.h), outer",
        "voxels are looked for where others are",
    ),
    Fault(
        "columns summed once more",
        WEIGHT_GRAD,
        "    short_sums[e] = 0;",
        "",
        "the bias learns from the first voxels again and again",
    ),
    Fault(
        "bias sums behind sums that are not there",
        WEIGHT_GRAD,
        "split_k.splits > 1 ? split_k.splits : 0",
        "split_k.splits",
        "the bias learns from memory that nobody wrote",
    ),
    Fault(
        "one group's weights of a single split",
        WEIGHT_GRAD,
        "const int at = (z.group * p.in_channels + c0) * j_end + j0;",
        "const int at = c0 * j_end + j0;",
        "of several groups one learns, from the wrong channels",
    ),
    Fault(
        "bias of the first row of tiles",
        WEIGHT_GRAD,
        "const bool sums_columns = has_bias && tile.x == 0;",
        "const bool sums_columns = has_bias && tile.x == 0 && split == 0;",
        "the bias learns from a part of the volume",
    ),
    Fault(
        "bias of the first taps",
        WEIGHT_GRAD,
        "tap_index(p, at.d + p.depth.padding, at.h",
        "tap_index(p, at.d, at.h",
        "the bias learns nothing from the last plane, and twice from others",
    ),
    Fault(
        "split left out",
        WEIGHT_GRAD,
        "float4 sum = 0;\n      for (int split = 0; split < split_k.splits; ++split) {",
        "float4 sum = 0;\n      for (int split = 0; split + 1 < split_k.splits; ++split) {",
        "the weight gradient lacks the last part of its sum",
    ),
    Fault(
        "place without its carry",
        COORD,
        "    at.h -= size.h.value;\n    ++at.d;",
        "    at.h -= size.h.value;",
        "the weight learns from voxels of another plane",
    ),
    Fault(
        "slice left out",
        BLOCK_MMA,
        "for (int s = 0; s < kKSlices - 1; ++s) {",
        "for (int s = 0; s < kKSlices - 2; ++s) {",
        "where volumes are small, sums lack a part",
    ),
    Fault(
        "slices that do not wait",
        BLOCK_MMA,
        "        threadgroup_barrier(mem_flags::mem_threadgroup);\n        if (k_slice == owner) {",
        "        if (k_slice == owner) {",
        "sums are added up before they are there",
    ),
    Fault(
        "columns past the last fragment",
        BLOCK_MMA,
        "if (j < frags_n) {",
        "if (j + 1 < frags_n) {",
        "the last channels or voxels stay zero",
    ),
    Fault(
        "fragment of another lane",
        FRAGMENT,
        "int((lane / 4 & 4) + lane / 2 % 4)",
        "int((lane / 4 & 4) + lane % 4)",
        "rows of a tile are written by the wrong lane",
    ),
    Fault(
        "ignored storage offset",
        ENCODER,
        "offset:tensor.storage_offset() * tensor.element_size() atIndex:index];",
        "offset:0 atIndex:index];",
        "a view reads the beginning of the tensor that it is a part of",
    ),
    Fault(
        "missing commit",
        ENCODER,
        "encoder = stream->commandEncoder();",
        "encoder = [[stream->commandQueue() commandBuffer] computeCommandEncoder];",
        "the work is encoded to a command buffer that nobody commits",
    ),
    Fault(
        "unretained buffer",
        ENCODER,
        "element_size() atIndex:index];",
        "element_size() atIndex:index];\n  [buffer release];",
        "a buffer is gone before the device has used it",
    ),
    Fault(
        "swapped strides",
        PROBLEM,
        "narrow(s[2]), narrow(s[3]),",
        "narrow(s[3]), narrow(s[2]),",
        "depth and height are exchanged in memory",
    ),
    Fault(
        "half taken for bfloat",
        ARGUMENTS,
        "case at::kHalf:\n      return DataType::float16;",
        "case at::kHalf:\n      return DataType::bfloat16;",
        "float16 numbers are read as bfloat16",
    ),
    Fault(
        "strides of a dense gradient",
        OPERATORS,
        "return make_params(size, strides, strides_of(gy));",
        "return make_params(size, strides, contiguous_strides(size.out_channels, size.output()));",
        "the gradients of a channel slice read its neighbours",
    ),
    Fault(
        "weight taken as dense",
        OPERATORS,
        "  const at::Tensor w = weight.contiguous();\n  const at::Tensor b",
        "  const at::Tensor w = weight;\n  const at::Tensor b",
        "a transposed weight is read in the wrong order",
    ),
    Fault(
        "gradients that nobody asked for",
        OPERATORS,
        "if (output_mask[1]) {",
        "if (true) {",
        "frozen weights cost as much as others",
    ),
    Fault(
        "memory format of its own",
        OPERATORS,
        "return at::native::_determine_backend_memory_format(input, weight, backend);",
        "return at::MemoryFormat::ChannelsLast3d;",
        "a compiled graph reads a result with other strides than it has",
    ),
    Fault(
        "unchecked output_padding",
        ARGUMENTS,
        "TORCH_CHECK(smaller,",
        "TORCH_CHECK(true,",
        "an invalid call is computed",
    ),
    Fault(
        "unchecked gradient",
        ARGUMENTS,
        "at::check_dim_size(grad_output, 5, 4, output[2]);",
        "",
        "a gradient of another size is read out of its bounds",
    ),
    Fault(
        "autocast left to PyTorch",
        REGISTRATION,
        'autocast_.impl("conv_transpose3d.input", TORCH_FN(conv_transpose3d_autocast));',
        "",
        "mixed precision runs in float32",
    ),
    Fault(
        "disable does nothing",
        OPERATORS,
        "current_backend.store(backend, std::memory_order_relaxed);",
        "current_backend.store(Backend::kernels, std::memory_order_relaxed);",
        "what is switched off computes on",
    ),
    Fault(
        "half where PyTorch has float32",
        OPERATORS,
        "const bool is_native = torch_has_autocast && serving != Backend::composite && !is_kernels(serving);",
        "const bool is_native = false;",
        "switched off, autocast asks PyTorch for a half precision that it refuses",
    ),
    Fault(
        "stated threads",
        INPUT_GRAD,
        "[[kernel, max_total_threads_per_threadgroup(kGemmThreads)]]",
        "[[kernel]]",
        "Apple's compiler takes registers as it likes, and the pipeline has too few threads",
    ),
    Fault(
        "no barrier before",
        ENCODER,
        "    [encoder memoryBarrierWithScope:MTLBarrierScopeBuffers];\n    [encoder setComputePipelineState",
        "    [encoder setComputePipelineState",
        "in an encoder that orders nothing a kernel reads what is not yet written",
    ),
    Fault(
        "no barrier after",
        ENCODER,
        "    [encoder memoryBarrierWithScope:MTLBarrierScopeBuffers];\n  };",
        "  };",
        "in an encoder that orders nothing the next kernel reads what is not yet written",
    ),
    Fault(
        "slices in company",
        ENCODER,
        "      if (is_sliced) {\n        stream->synchronize(at::mps::SyncType::COMMIT);\n      }\n      for",
        "      for",
        "what was encoded before is lost with a slice that macOS kills",
    ),
    Fault(
        "exceptions of Metal's",
        ENCODER,
        "        translating_exceptions(encode);",
        "        encode();",
        "an NSException ends the process",
    ),
    Fault(
        "no language version",
        ENCODER,
        "  [options.get() setLanguageVersion:has_metal31 ? kMetal31 : kMetal30];\n",
        "",
        "Metal takes the version of the SDK that python was linked with, perhaps years old",
    ),
    Fault(
        "Metal 3.1 on macOS 13",
        ENCODER,
        "has_metal31 ? kMetal31 : kMetal30",
        "has_metal31 ? kMetal31 : kMetal31",
        "macOS 13 refuses every kernel",
    ),
    Fault(
        "any GPU",
        ENCODER,
        "if ([device supportsFamily:MTLGPUFamilyApple7]) {",
        "if (true) {",
        "a virtual machine's GPU is given kernels that it cannot run",
    ),
    Fault(
        "wrapping hyper-parameters",
        ARGUMENTS,
        '  check_size("stride", g.stride);\n',
        "",
        "a stride of 64 bits wraps round, and the process dies or computes something else",
    ),
]
