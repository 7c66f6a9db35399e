"""One call of ConvTranspose3d with all that can be varied of it: its tensors, and what is computed from them.

random_calls.py generates such calls, call_check.py says what is right.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Union

import torch
import torch.nn.functional as F

from mps_conv_transpose3d._arguments import Geometry
from mps_conv_transpose3d._cases import Case
from reference import DTYPES, Tensors

Shape = tuple[int, ...]
Sizes = Union[int, tuple[int, ...]]
HYPER_PARAMETERS = ("stride", "padding", "output_padding", "dilation")
MOST_ELEMENTS = 1 << 21  # of an output that anybody shall compute


# --- A call ---


@dataclass(frozen=True)
class Layout:
    """How a tensor lies in its storage. A tuple that has not an entry for each dimension counts for none of them."""

    order: tuple[int, ...] = ()  # dimensions, the outermost first
    steps: tuple[int, ...] = ()  # every how many-th element it has
    margins: tuple[int, ...] = ()  # elements before and behind that are another's
    expanded: tuple[bool, ...] = ()  # one value stands for the whole dimension
    offset: int = 0  # of the storage

    def values_shape(self, shape: Shape) -> Shape:
        """Of the values that differ."""
        expanded = self.expanded if len(self.expanded) == len(shape) else (False,) * len(shape)
        return tuple(min(size, 1) if is_expanded else size for size, is_expanded in zip(shape, expanded))

    def place(self, values: torch.Tensor, shape: Shape, device: str) -> torch.Tensor:
        """A tensor of `shape` that has these values, and NaN all around it in its storage."""
        rank, own = len(shape), values.shape
        order = self.order if len(self.order) == rank else tuple(range(rank))
        steps = self.steps if len(self.steps) == rank else (1,) * rank
        margins = self.margins if len(self.margins) == rank else (0,) * rank
        strides, offset, numel = [0] * rank, self.offset, 1
        for dim in reversed(order):
            strides[dim] = numel * steps[dim]
            offset += numel * margins[dim]
            numel *= max(own[dim], 1) * steps[dim] + 2 * margins[dim]
        storage = torch.full((numel + 2 * self.offset,), math.nan).to(values.dtype)
        storage.as_strided(own, strides, offset).copy_(values)
        return storage.to(device).as_strided(own, strides, offset).expand(shape)


@dataclass(frozen=True, repr=False)
class Call:
    """Arguments as a user gives them, and the gradients that are asked for."""

    input: Shape
    weight: Shape
    bias: Shape | None = None
    stride: Sizes = 1
    padding: Sizes = 0
    output_padding: Sizes = 0
    dilation: Sizes = 1
    groups: int = 1
    dtype: str = "float32"
    dtypes: dict[str, str] = field(default_factory=dict)  # of single tensors: another one
    wants: tuple[bool, bool, bool] = (True, True, True)  # the gradients of input, weight and bias
    grad_output: Shape | None = None  # None: that of the output
    by_operator: bool = False  # gradients by aten::convolution_backward, else by autograd
    layouts: dict[str, Layout] = field(default_factory=dict)
    values: str = "normal"
    seed: int = 0
    algorithm: str | None = None  # of those that the kernels have; None: as planned
    cores: int | None = None  # of the GPU to plan for; None: this one's

    def __repr__(self) -> str:
        """As Python, without what is as usual."""
        default = Call((), ())
        given = [(f.name, getattr(self, f.name)) for f in fields(self)]
        return f"Call({', '.join(f'{name}={value!r}' for name, value in given if value != getattr(default, name))})"

    @property
    def geometry(self) -> Geometry | None:
        """None where the arguments are not those of one ConvTranspose3d. The sizes may be impossible all the same."""
        lists = {name: _triple(getattr(self, name)) for name in HYPER_PARAMETERS}
        shapes_fit = len(self.input) in (4, 5) and len(self.weight) == 5 and None not in lists.values()
        if not shapes_fit or self.groups < 1 or self.input[-4] != self.weight[0] or self.weight[0] % self.groups:
            return None
        return Geometry(
            batch=self.input[0] if len(self.input) == 5 else 1,
            in_channels=self.weight[0],
            out_channels=self.weight[1] * self.groups,
            groups=self.groups,
            input=self.input[-3:],
            kernel=self.weight[2:],
            **lists,
        )

    @property
    def output(self) -> Shape | None:
        g = self.geometry
        return None if g is None else (*self.input[:-4], g.out_channels, *g.output)

    @property
    def wanted(self) -> list[str]:
        """The tensors whose gradients are computed."""
        names = ("input", "weight", "bias")
        return [name for name, wants in zip(names, self.wants) if wants and getattr(self, name) is not None]

    @property
    def arguments(self) -> dict[str, object]:
        return {name: getattr(self, name) for name in (*HYPER_PARAMETERS, "groups")}

    @property
    def case(self) -> Case:
        """Of a call that has a geometry."""
        g = self.geometry
        assert g is not None
        return Case("", self.input, self.weight, self.bias is not None, g.stride, g.padding, g.output_padding,
                    g.dilation, g.groups)  # fmt: skip

    def dtype_of(self, tensor: str) -> torch.dtype:
        return DTYPES[self.dtypes.get(tensor, self.dtype)]


def _triple(value: Sizes) -> tuple[int, int, int] | None:
    values = (value,) if isinstance(value, int) else value
    values = values * 3 if len(values) == 1 else values
    return values if len(values) == 3 else None


# --- Its tensors ---

VALUES: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "normal": lambda x: x,
    "mean": lambda x: x + 1,  # sums that grow with each term
    "wide": lambda x: x * torch.exp2((2 * x).round()),  # of different magnitudes
    "integers": lambda x: (2 * x).round().clamp(-3, 3),  # no sum of which is rounded
}


def values_of(call: Call) -> Tensors:
    """On the CPU, of the dimensions that are not expanded."""
    generator = torch.Generator().manual_seed(call.seed)
    return {
        name: VALUES[call.values](torch.randn(shape, generator=generator)).to(call.dtype_of(name))
        for name, whole in shapes_of(call).items()
        for shape in [call.layouts.get(name, Layout()).values_shape(whole)]
    }


def shapes_of(call: Call) -> dict[str, Shape]:
    shapes = {"input": call.input, "weight": call.weight, "bias": call.bias, "grad_output": grad_output_shape_of(call)}
    return {name: shape for name, shape in shapes.items() if shape is not None}


def grad_output_shape_of(call: Call) -> Shape | None:
    """None where nobody asks for a gradient, or where there can be no such tensor."""
    shape = call.output if call.grad_output is None else call.grad_output
    if not call.wanted or shape is None or min(shape, default=0) < 0:
        return None
    return shape if math.prod(max(size, 1) for size in shape) <= MOST_ELEMENTS else None


def tensors_of(call: Call, device: str) -> Tensors:
    shapes = shapes_of(call)
    return {
        name: call.layouts.get(name, Layout()).place(values, shapes[name], device)
        for name, values in values_of(call).items()
    }


# --- What is made of it ---

Convolution = Callable[..., torch.Tensor]


def run(call: Call, tensors: Tensors, convolution: Convolution = F.conv_transpose3d) -> Tensors:
    """The output and the gradients that are asked for."""
    if convolution is F.conv_transpose3d and _has_preference(call, tensors):
        return _by_algorithm(call, tensors)
    names = [name for name in ("input", "weight", "bias") if name in tensors]
    wanted = call.wanted
    by_operator = call.by_operator and convolution is F.conv_transpose3d
    leaves = {name: tensors[name].detach().requires_grad_(name in wanted and not by_operator) for name in names}
    output = convolution(leaves["input"], leaves["weight"], leaves.get("bias"), **call.arguments)
    results = {"output": output.detach()}
    if not wanted or "grad_output" not in tensors:
        return results
    if by_operator:
        gradients = _by_operator(call, tensors, wanted)
    else:
        gradients = torch.autograd.grad(output, [leaves[name] for name in wanted], tensors["grad_output"])
    return {**results, **{f"{name} gradient": gradient for name, gradient in zip(wanted, gradients)}}


def _has_preference(call: Call, tensors: Tensors) -> bool:
    """Whether the kernels compute it by the call's algorithm, or for the call's GPU.

    What is illegal is PyTorch's to refuse, and a batch of no samples PyTorch's to compute.
    """
    on_mps = tensors["input"].device.type == "mps" and torch.ops.mps_conv_transpose3d.serving() == "kernels"
    return on_mps and (call.algorithm, call.cores) != (None, None) and is_legal(call) and 0 not in call.input


def _by_algorithm(call: Call, tensors: Tensors) -> Tensors:
    g = call.geometry
    assert g is not None
    ours, preference = torch.ops.mps_conv_transpose3d, (call.algorithm, call.cores)
    batched = {
        n: t.unsqueeze(0) if len(call.input) == 4 and n in ("input", "grad_output") else t for n, t in tensors.items()
    }
    x, w, arguments = batched["input"], batched["weight"], (g.stride, g.padding, g.output_padding, g.groups, g.dilation)
    results = {"output": ours.forward(x, w, batched.get("bias"), *arguments, *preference)}
    if call.wanted and "grad_output" in tensors:
        mask = [name in call.wanted for name in ("input", "weight", "bias")]
        gradients = ours.backward(batched["grad_output"], x, w, *arguments, mask, *preference)
        found = dict(zip(("input", "weight", "bias"), gradients))
        results.update((f"{name} gradient", found[name]) for name in call.wanted)
    if len(call.input) == 4:
        results.update((n, t.squeeze(0)) for n, t in results.items() if n in ("output", "input gradient"))
    return results


def _by_operator(call: Call, tensors: Tensors, wanted: list[str]) -> list[torch.Tensor]:
    """aten::convolution_backward takes batches alone, and lists."""
    batched = [tensors[name] for name in ("grad_output", "input")]
    if len(call.input) == 4:
        batched = [tensor.unsqueeze(0) for tensor in batched]
    lists = [[v] if isinstance(v, int) else list(v) for v in (getattr(call, name) for name in HYPER_PARAMETERS)]
    stride, padding, output_padding, dilation = lists
    bias_sizes = list(call.bias) if call.bias is not None else None
    mask = [name in wanted for name in ("input", "weight", "bias")]
    gradients = torch.ops.aten.convolution_backward(
        *batched, tensors["weight"], bias_sizes, stride, padding, dilation, True, output_padding, call.groups, mask
    )
    if tensors["input"].device.type == "mps":
        assert [gradient is not None for gradient in gradients] == mask, "what nobody asked for is None"
    found = dict(zip(("input", "weight", "bias"), gradients))
    if len(call.input) == 4 and "input" in wanted:
        found["input"] = found["input"].squeeze(0)
    return [found[name] for name in wanted]


# --- Which are legal ---


def is_legal(call: Call) -> bool:
    """By nn.ConvTranspose3d's documentation, of numbers without end."""
    g = call.geometry
    return (
        g is not None
        and min(*g.stride, *g.dilation) >= 1
        and min(*g.padding, *g.output_padding) >= 0
        and all(op < max(s, d) for op, s, d in zip(g.output_padding, g.stride, g.dilation))
        and min(*g.input, *g.kernel, *g.output, g.in_channels, g.out_channels) >= 1
        and call.bias in (None, (g.out_channels,))
        and (not call.wanted or call.grad_output in (None, call.output))
        and not is_mixed(call)
    )


def is_mixed(call: Call) -> bool:
    """In its dtypes."""
    return len({call.dtype_of(name) for name in shapes_of(call)}) > 1


def elements_of(g: Geometry) -> int:
    """Of the output; of a batch of no samples, too, which has strides."""
    return max(g.batch, 1) * g.out_channels * math.prod(max(size, 0) for size in g.output)


def hyper_parameters_of(call: Call) -> list[int]:
    values = [getattr(call, name) for name in HYPER_PARAMETERS]
    return [v for value in values for v in ((value,) if isinstance(value, int) else value)]


def is_computable(call: Call) -> bool:
    """Neither does it ask for more memory than there is, nor would it take long."""
    g = call.geometry
    return g is None or not is_legal(call) or elements_of(g) <= MOST_ELEMENTS
