"""The arguments of aten::_convolution and aten::convolution_backward, read as a ConvTranspose3d.

The same checks in the same order as the compiled operators make (csrc/arguments.cpp), in the words of PyTorch's CPU
kernel.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch

DTYPES = (torch.float32, torch.float16, torch.bfloat16)

Triple = tuple[int, int, int]

_MAX_INT, _MAX_INT64 = 2**31 - 1, 2**63 - 1


@dataclass(frozen=True)
class Geometry:
    """A valid call: `input` is the spatial size (D, H, W); channels are those of all groups together."""

    batch: int
    in_channels: int
    out_channels: int
    groups: int
    input: Triple
    kernel: Triple
    stride: Triple
    padding: Triple
    output_padding: Triple
    dilation: Triple

    @property
    def output(self) -> Triple:
        """Spatial size of the result."""
        depth, height, width = (
            (i - 1) * s - 2 * p + d * (k - 1) + op + 1
            for i, k, s, p, op, d in zip(
                self.input, self.kernel, self.stride, self.padding, self.output_padding, self.dilation
            )
        )
        return depth, height, width

    @property
    def arguments(self) -> tuple[Triple, Triple, Triple, bool, Triple, int]:
        """As aten::_convolution and aten::convolution_backward take them, behind the tensors."""
        return self.stride, self.padding, self.dilation, True, self.output_padding, self.groups

    @property
    def multiplications(self) -> int:
        """How many products the forward pass sums; each of the two gradients sums as many."""
        weights = self.in_channels * self.out_channels // self.groups * math.prod(self.kernel)
        return self.batch * math.prod(self.input) * weights


def read(
    input: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
) -> Geometry | None:
    """The geometry of a valid ConvTranspose3d in float32, float16 or bfloat16.

    None for another operation, and for one that PyTorch's own function refuses in its own words. Raises RuntimeError
    for what PyTorch's CPU kernel refuses and its mps kernel does not notice.
    """
    strided = input.layout == weight.layout == torch.strided
    if not (transposed and input.dim() == weight.dim() == 5 and input.dtype in DTYPES and strided):
        return None
    check_same_device(input, weight, "weight")
    if bias is not None:
        check_same_device(input, bias, "bias")
    if not _passes_generic_checks(input, weight, bias, stride, padding, dilation, output_padding, groups):
        return None
    if input.size(0) == 0:
        return None  # PyTorch computes nothing for a batch of no samples and checks no more, on any device
    check_same_dtype(input, weight)
    if bias is not None:
        check_same_dtype(input, bias)
    as_given = Geometry(
        batch=input.size(0),
        in_channels=weight.size(0),
        out_channels=weight.size(1) * groups,
        groups=groups,
        input=_triple(input.shape[2:]),
        kernel=_triple(weight.shape[2:]),
        stride=_triple(stride),
        padding=_triple(padding),
        output_padding=_triple(output_padding),
        dilation=_triple(dilation),
    )
    return _checked(weight, as_given)


def check_grad_output(grad_output: torch.Tensor, input: torch.Tensor, geometry: Geometry) -> None:
    """Raises RuntimeError if grad_output has not the shape, dtype or device of the output."""
    check_same_device(input, grad_output, "gradient of the output")
    check_same_dtype(input, grad_output)
    if grad_output.dim() != 5:
        raise RuntimeError(
            f"Expected input and grad_output to have the same number of dimensions, but got: 5 and {grad_output.dim()}"
        )
    for dim, size in enumerate((geometry.batch, geometry.out_channels, *geometry.output)):
        if grad_output.size(dim) != size:
            raise RuntimeError(
                f"Expected a tensor of dimension 5 and tensor.size[{dim}] == {size} but got: dimension 5 and "
                f"tensor.size[{dim}] = {grad_output.size(dim)}"
            )


def check_same_device(input: torch.Tensor, other: torch.Tensor, name: str) -> None:
    if other.device != input.device:
        advice = "the module first: module.to" if input.device.type == "mps" else "the input first: input.to"
        raise RuntimeError(
            f"Expected all tensors to be on the same device, but the input is on {input.device} and the {name} is on "
            f'{other.device}. Move {advice}("mps")'
        )


def check_same_dtype(input: torch.Tensor, other: torch.Tensor) -> None:
    if other.dtype != input.dtype:
        raise RuntimeError(f"expected scalar type {_type_name(input)} but found {_type_name(other)}")


def _type_name(tensor: torch.Tensor) -> str:
    """ "Float" of a "torch.mps.FloatTensor", as C++ calls it."""
    name = tensor.type().rpartition(".")[2]
    return name[: -len("Tensor")]


def _triple(values: Sequence[int]) -> Triple:
    depth, height, width = values if len(values) == 3 else tuple(values) * 3
    return depth, height, width


def _passes_generic_checks(
    input: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    output_padding: Sequence[int],
    groups: int,
) -> bool:
    """What PyTorch's own function checks before it chooses a kernel, in no words: it has them."""
    lists_fit = all(
        len(values) in (1, 3) and min(values) >= least
        for values, least in ((stride, 1), (padding, 0), (dilation, 0), (output_padding, 0))
    )
    return (
        lists_fit
        and groups >= 1
        and weight.size(0) >= groups
        and weight.size(0) % groups == 0
        and input.size(1) == weight.size(0)
        and (bias is None or (bias.dim() == 1 and bias.size(0) == weight.size(1) * groups))
        and min(input.shape[2:]) > 0
    )


def _checked(weight: torch.Tensor, g: Geometry) -> Geometry:
    """The same call with hyper-parameters that can be multiplied. Raises RuntimeError where there is none, in the words
    of PyTorch's CPU kernel where it refuses the call too.

    A dilation of one tap only has to exceed output_padding, and a stride of one input that and the output's size.
    """
    for axis, padding in enumerate(g.padding):
        if padding > _MAX_INT64 // 2:
            raise RuntimeError(
                f"Given padding={padding} at dimension {axis} , expected padding to be at most {_MAX_INT64 // 2}"
            )
    _check_as_cpu_does(weight, _as_cpu_reads(g))
    _check_size("input size", g.input)
    _check_size("kernel size", g.kernel)
    _check_size("padding", g.padding)
    _check_size("output_padding", g.output_padding)
    g = replace(
        g,
        stride=_each(lambda i, s: s if i > 1 else min(s, _MAX_INT), g.input, g.stride),
        dilation=_each(lambda k, d, op: d if k > 1 else min(d, op + 1), g.kernel, g.dilation, g.output_padding),
    )
    _check_size("stride", g.stride)
    _check_size("dilation", g.dilation)
    if min(g.output) < 1:
        raise RuntimeError(
            "Given input size per channel: ({} x {} x {}). Calculated output size per channel: ({} x {} x {}). "
            "Output size is too small".format(*g.input, *g.output)
        )
    enough = _each(lambda o, op: max(o, op + 1), g.output, g.output_padding)
    return replace(g, stride=_each(lambda i, s, e: s if i > 1 else min(s, e), g.input, g.stride, enough))


def _each(function: Callable[..., int], *triples: Triple) -> Triple:
    depth, height, width = (function(*values) for values in zip(*triples))
    return depth, height, width


def _check_size(name: str, values: Triple) -> None:
    for value in values:
        if value > _MAX_INT:
            raise RuntimeError(f"mps_conv_transpose3d: {name} {value} is too large: the most is {_MAX_INT}")


def _as_cpu_reads(g: Geometry) -> Geometry:
    """As CPU PyTorch reads hyper-parameters: it keeps their low 32 bits, which are what it checks and prints.

    A stride of one input and a dilation of one tap have no effect here, whatever their size.
    """

    def low_bits(value: int) -> int:
        return (value + 2**31) % 2**32 - 2**31

    return replace(
        g,
        stride=_each(lambda i, s: low_bits(s) if i > 1 else min(s, _MAX_INT), g.input, g.stride),
        dilation=_each(lambda k, d: low_bits(d) if k > 1 else min(d, _MAX_INT), g.kernel, g.dilation),
        output_padding=_each(low_bits, g.output_padding),
    )


def _check_as_cpu_does(weight: torch.Tensor, g: Geometry) -> None:
    if min(g.stride) < 1:
        raise RuntimeError(
            "stride should be greater than zero, but got stride_depth: {} stride_height: {} stride_width: {}".format(
                *g.stride
            )
        )
    if min(g.dilation) < 1:
        raise RuntimeError(
            "dilation should be greater than zero, but got dilation_depth: {}, dilation_height: {}, "
            "dilation_width: {}".format(*g.dilation)
        )
    if any(op >= s and op >= d for op, s, d in zip(g.output_padding, g.stride, g.dilation)):
        raise RuntimeError(
            "output padding must be smaller than either stride or dilation, but got output_padding_depth: {} "
            "output_padding_height: {} output_padding_width: {} stride_depth: {} stride_height: {} stride_width: {} "
            "dilation_depth: {} dilation_height: {} dilation_width: {}".format(
                *g.output_padding, *g.stride, *g.dilation
            )
        )
    if weight.numel() == 0:
        raise RuntimeError(
            "non-empty 5D (n_output_plane x n_input_plane x kernel_depth x kernel_height x kernel_width) tensor "
            f"expected for weight, but got: {list(weight.shape)}"
        )
