"""The one list of cases: what tests and benchmarks ask of ConvTranspose3d.

`NETWORKS` holds every distinct call of 17 networks of the field (nnU-Net, MONAI's and others), at full size; `cut_down`
makes one small enough to be compared with float64. `SWEEP` goes through the arguments one property at a time.
"""

from __future__ import annotations

import itertools
from dataclasses import replace

from mps_conv_transpose3d._cases import Case, network_cases

DTYPES = ("float32", "float16", "bfloat16")


def cut_down(case: Case, multiplications: int = 8_000_000) -> Case:
    """The same call with small spatial sizes, all three different, and where need be with fewer channels.

    What decides which code runs (kernel, stride, paddings, groups, bias, whether C equals O) stays as it is.
    """
    small = tuple(min(size, limit) for size, limit in zip(case.input[-3:], (2, 3, 4)))
    case = replace(case, input=(*case.input[:-3], *small))
    while case.multiplications > multiplications and case.groups == 1 and min(case.weight[:2]) >= 16:
        channels = case.input[1] // 2
        case = replace(
            case,
            input=(case.input[0], channels, *small),
            weight=(channels, case.weight[1] // 2, *case.kernel),
        )
    return case


# More arithmetic than one dispatch is given (csrc/planner/plan.cpp): it runs in slices.
LONG = Case("long", (1, 64, 18, 18, 18), (64, 64, 3, 3, 3), padding=(1, 1, 1))

# The layer that people try first.
SEED = Case("seed", (1, 16, 32, 32, 32), (16, 32, 3, 3, 3), stride=(2, 2, 2), padding=(1, 1, 1))

NETWORKS = network_cases()

SWEEP = [
    # Kernel and stride: equal, larger, smaller (then some outputs get the bias alone), one.
    Case("kernel_equals_stride", (2, 3, 2, 3, 4), (3, 5, 2, 2, 2), stride=(2, 2, 2)),
    Case("kernel_equals_stride_anisotropic", (2, 3, 3, 3, 2), (3, 5, 1, 2, 2), stride=(1, 2, 2)),
    Case("kernel_equals_stride_four", (1, 2, 2, 3, 2), (2, 3, 4, 4, 4), stride=(4, 4, 4)),
    Case("kernel_equals_stride_all_different", (1, 2, 3, 2, 4), (2, 3, 4, 3, 2), stride=(4, 3, 2)),
    Case("kernel_one_stride_one", (2, 5, 2, 3, 4), (5, 3, 1, 1, 1)),
    Case("kernel_larger_than_stride", (1, 3, 3, 4, 5), (3, 2, 3, 4, 5), stride=(2, 2, 2)),
    Case("kernel_smaller_than_stride", (1, 4, 2, 3, 3), (4, 3, 1, 1, 1), stride=(2, 2, 2)),
    Case("kernel_smaller_than_stride_anisotropic", (1, 4, 2, 3, 3), (4, 3, 2, 1, 3), stride=(3, 4, 2)),
    Case("stride_all_different", (2, 2, 3, 4, 2), (2, 3, 3, 3, 3), stride=(1, 2, 3)),
    Case("stride_one", (2, 3, 3, 4, 5), (3, 2, 3, 3, 3), padding=(1, 1, 1)),
    # Padding and output padding.
    Case("padding_all_different", (1, 2, 4, 4, 4), (2, 3, 5, 4, 3), padding=(3, 2, 1)),
    Case("padding_beyond_kernel", (1, 2, 6, 7, 8), (2, 3, 2, 2, 2), padding=(2, 3, 2)),
    Case("padding_cuts_to_one_voxel", (1, 2, 3, 3, 3), (2, 3, 3, 3, 3), padding=(2, 2, 2)),
    Case(
        "output_padding",
        (2, 3, 3, 2, 4),
        (3, 4, 3, 3, 3),
        stride=(2, 2, 2),
        padding=(1, 1, 1),
        output_padding=(1, 1, 1),
    ),
    Case(
        "output_padding_all_different",
        (1, 2, 2, 3, 2),
        (2, 3, 2, 3, 4),
        stride=(3, 4, 2),
        padding=(0, 1, 2),
        output_padding=(2, 3, 1),
    ),
    # Not reached by any tap: PyTorch allows it up to the larger of stride and dilation.
    Case(
        "output_padding_below_dilation", (1, 2, 3, 3, 3), (2, 3, 2, 2, 2), output_padding=(2, 1, 1), dilation=(3, 2, 2)
    ),
    # Dilation.
    Case("dilation", (1, 3, 3, 4, 3), (3, 2, 3, 3, 3), dilation=(2, 2, 2), padding=(1, 1, 1)),
    Case("dilation_all_different", (1, 2, 4, 3, 3), (2, 3, 2, 3, 2), dilation=(1, 2, 3)),
    Case("dilation_shares_factor_with_stride", (1, 2, 3, 3, 3), (2, 3, 3, 3, 3), stride=(2, 4, 3), dilation=(2, 2, 3)),
    Case("dilation_coprime_to_stride", (1, 2, 3, 3, 3), (2, 3, 3, 3, 3), stride=(2, 3, 5), dilation=(3, 2, 4)),
    # Groups.
    Case("groups", (2, 6, 3, 2, 3), (6, 4, 3, 3, 3), stride=(2, 2, 2), padding=(1, 1, 1), groups=3),
    Case("groups_one_output_each", (1, 6, 2, 3, 2), (6, 1, 2, 2, 2), stride=(2, 2, 2), groups=3),
    Case("groups_one_input_each", (1, 3, 2, 3, 2), (3, 4, 2, 2, 2), stride=(2, 2, 2), groups=3),
    Case("depthwise", (2, 7, 3, 3, 4), (7, 1, 3, 3, 3), stride=(2, 2, 2), padding=(1, 1, 1), groups=7),
    Case("depthwise_without_bias", (1, 5, 3, 3, 3), (5, 1, 5, 5, 5), False, (2, 2, 2), (2, 2, 2), groups=5),
    # Sizes.
    Case("one_voxel", (1, 1, 1, 1, 1), (1, 1, 1, 1, 1)),
    Case("one_voxel_larger_kernel", (1, 3, 1, 1, 1), (3, 4, 3, 3, 3), stride=(2, 2, 2)),
    Case("flat", (2, 3, 1, 5, 6), (3, 2, 1, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1)),
    Case("column", (2, 3, 7, 1, 1), (3, 2, 3, 1, 1), stride=(2, 1, 1)),
    Case("many_input_channels", (1, 67, 2, 2, 2), (67, 3, 2, 2, 2), stride=(2, 2, 2)),
    Case("many_output_channels", (1, 3, 2, 2, 2), (3, 67, 2, 2, 2), stride=(2, 2, 2)),
    Case("many_voxels", (1, 1, 13, 17, 19), (1, 1, 3, 3, 3), stride=(2, 2, 2), padding=(1, 1, 1)),
    Case("batch_of_five", (5, 2, 2, 2, 2), (2, 2, 2, 2, 2), stride=(2, 2, 2)),
    Case("batch_of_zero", (0, 3, 2, 3, 4), (3, 2, 2, 2, 2), stride=(2, 2, 2)),
    # Shape of the call.
    Case("without_bias", (2, 3, 2, 3, 4), (3, 5, 2, 2, 2), False, (2, 2, 2)),
    Case("unbatched", (3, 2, 3, 4), (3, 5, 3, 3, 3), stride=(2, 2, 2), padding=(1, 1, 1)),
]

# The matrix kernels' tiles are 16 to 128 rows and 64 or 128 columns, in fragments of 8, and 8 or 16 deep. These are
# the sizes on both sides of every edge, of M positions, N = O * taps columns and C channels; first where the kernel
# tiles the output, then where it does not.
TILE_EDGES = [
    Case(
        f"tiles_{m}x{n}x{c}",
        (batch, c * groups, *input),
        (c * groups, n // taps, *kernel),
        stride=kernel,
        groups=groups,
    )
    for m, n, c, batch, input, kernel, groups in [
        (15, 15, 15, 1, (1, 3, 5), (1, 1, 1), 1),
        (16, 16, 16, 2, (1, 4, 4), (1, 2, 2), 2),
        (17, 17, 17, 1, (17, 1, 1), (1, 1, 1), 1),
        (31, 30, 31, 1, (1, 31, 1), (1, 1, 2), 1),
        (32, 32, 32, 3, (2, 4, 4), (2, 2, 2), 1),
        (33, 33, 33, 2, (1, 3, 11), (1, 1, 3), 1),
        (63, 63, 63, 1, (7, 3, 3), (1, 3, 3), 1),
        (64, 64, 64, 2, (4, 4, 4), (4, 4, 4), 1),
        (65, 66, 65, 1, (13, 1, 5), (2, 1, 3), 1),
        (127, 128, 8, 1, (1, 1, 127), (2, 2, 1), 3),
        (130, 126, 7, 2, (2, 5, 13), (3, 2, 1), 1),
        # Deeper than one sum, and cut into several partial sums.
        (3072, 8, 300, 1, (16, 16, 12), (2, 2, 2), 1),
        # More samples than partial sums are kept of.
        (1, 512, 640, 9, (1, 1, 1), (2, 2, 2), 1),
    ]
    for taps in [kernel[0] * kernel[1] * kernel[2]]
]
TILE_EDGES += [
    Case("tiles_overlapping_31", (2, 17, 1, 1, 31), (17, 9, 3, 3, 3), stride=(2, 2, 2), padding=(1, 1, 1)),
    Case(
        "tiles_overlapping_64",
        (1, 48, 4, 4, 4),
        (48, 16, 3, 3, 3),
        stride=(2, 2, 2),
        padding=(1, 1, 1),
        output_padding=(1, 1, 1),
    ),
    Case("tiles_overlapping_65", (1, 32, 5, 13, 1), (32, 16, 3, 3, 3), stride=(2, 2, 2), padding=(1, 1, 0)),
    Case("tiles_overlapping_groups", (2, 62, 3, 11, 1), (62, 17, 3, 2, 2), stride=(2, 3, 1), groups=2),
    # Deeper than one sum, by its taps.
    Case(
        "tiles_overlapping_deep",
        (1, 144, 3, 4, 5),
        (144, 8, 3, 3, 3),
        stride=(2, 2, 2),
        padding=(1, 1, 1),
        output_padding=(1, 0, 1),
    ),
    Case("tiles_stride_one", (1, 16, 5, 5, 5), (16, 65, 3, 3, 3), padding=(1, 1, 1)),
    Case("tiles_overlapping_odd", (1, 8, 2, 3, 40), (8, 8, 3, 3, 3), stride=(2, 2, 2), padding=(1, 1, 1)),
    # More taps than are staged at a time.
    Case("tiles_kernel_5", (1, 16, 3, 4, 5), (16, 17, 5, 5, 5), stride=(2, 2, 2), padding=(2, 2, 2)),
    Case("tiles_kernel_7", (1, 24, 3, 3, 5), (24, 16, 7, 7, 7), padding=(3, 2, 0)),
    Case("tiles_kernel_below_stride", (1, 33, 3, 3, 7), (33, 24, 1, 1, 1), stride=(2, 2, 2)),
    Case("tiles_of_one_phase", (2, 17, 2, 3, 5), (17, 67, 1, 1, 2), stride=(2, 2, 3), output_padding=(1, 0, 1)),
    Case("tiles_below_stride_many_phases", (1, 16, 2, 3, 3), (16, 17, 3, 3, 3), stride=(4, 4, 4), padding=(1, 1, 1)),
    Case("tiles_many_phases", (1, 16, 2, 3, 4), (16, 16, 3, 4, 5), stride=(3, 3, 3), padding=(1, 2, 0)),
    Case(
        "tiles_dilated",
        (1, 24, 4, 5, 6),
        (24, 15, 3, 2, 3),
        stride=(2, 3, 4),
        dilation=(3, 2, 2),
        padding=(2, 0, 1),
    ),
]


# The depthwise kernels compute runs of 4 along the depth, from 2x2x2 inputs each, and rows of 32 lanes; direct ones 1,
# 4 or 16 channels. Sums are cut into parts of no fewer than 2048 positions, or of several samples.
DEPTHWISE_EDGES = [
    Case(name, input, (input[1], o, 3, 3, 3), bias, (s, s, s), (p, p, p), (op, op, op), (d, d, d), groups)
    for name, input, o, groups, bias, s, p, op, d in [
        ("depthwise_depth_3", (2, 3, 3, 4, 33), 1, 3, True, 2, 1, 0, 1),
        ("depthwise_depth_4", (1, 3, 4, 5, 32), 1, 3, True, 2, 1, 1, 1),
        ("depthwise_depth_5", (1, 2, 5, 1, 31), 1, 2, False, 2, 1, 1, 1),
        ("depthwise_depth_9", (2, 2, 9, 5, 4), 1, 2, True, 2, 3, 0, 1),
        ("depthwise_one_voxel", (3, 4, 1, 1, 1), 1, 4, True, 2, 1, 1, 1),
        ("depthwise_two_outputs", (1, 12, 4, 5, 6), 2, 1, True, 2, 1, 1, 1),
        ("depthwise_groups", (2, 6, 5, 4, 3), 3, 3, True, 2, 1, 0, 1),
        ("depthwise_five_channels", (1, 4, 3, 4, 5), 5, 1, True, 2, 1, 1, 1),
        ("depthwise_seventeen_channels", (1, 17, 3, 4, 5), 18, 1, True, 2, 1, 1, 1),
        ("depthwise_even_padding", (1, 3, 5, 4, 3), 1, 3, True, 2, 2, 1, 1),
        ("depthwise_stride_one", (1, 3, 5, 4, 3), 1, 3, True, 1, 1, 0, 1),
        ("depthwise_stride_three", (1, 3, 5, 4, 3), 1, 3, True, 3, 1, 2, 1),
        ("depthwise_stride_four", (1, 3, 2, 4, 3), 1, 3, True, 4, 1, 1, 1),
        ("depthwise_dilation", (1, 3, 5, 4, 3), 1, 3, True, 2, 1, 1, 2),
        ("depthwise_parts", (1, 2, 22, 20, 22), 1, 2, True, 2, 1, 1, 1),
        ("depthwise_samples", (131, 2, 1, 2, 3), 1, 2, True, 2, 1, 0, 1),
    ]
]
BY_NAME = {case.name: case for case in itertools.chain([SEED, LONG], NETWORKS, SWEEP, TILE_EDGES, DEPTHWISE_EDGES)}
