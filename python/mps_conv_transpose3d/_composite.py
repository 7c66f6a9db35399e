"""ConvTranspose3d on `mps` from plain PyTorch operations: what serves where the compiled operators cannot be loaded.

Registered where they would be: at aten::_convolution, aten::convolution_backward and, under autocast,
aten::conv_transpose3d.input. So everything above (autograd, double backward, vmap, forward-mode AD, tracing, compiling)
is PyTorch's, and every other convolution goes on to PyTorch's own function.
"""

from __future__ import annotations

import contextlib
import threading
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch

from . import _arguments, _formulas

# The function that PyTorch runs at key MPS while nobody registers another.
_NATIVE = torch._C.DispatchKey.CompositeExplicitAutograd
# Since torch 2.5; None before.
_AUTOCAST = torch._C._parse_dispatch_key("AutocastMPS")


@dataclass
class _State:
    libraries: list[torch.library.Library] = field(default_factory=list)  # destroying them undoes the registration
    warning: str | None = None
    warned: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)


# PyTorch's dispatcher outlives a reload of this module: so must what is known of it.
_state: _State = torch.__dict__.setdefault("_mps_conv_transpose3d_composite", _State())


def enable(warning: str | None = None) -> None:
    """Put the composite into PyTorch's dispatcher. `warning` is given when it is first used, once in a process."""
    with _state.lock:
        _state.warning = warning
        if _state.libraries:
            return
        mps = torch.library.Library("aten", "IMPL", "MPS")
        mps.impl("_convolution", convolution)
        mps.impl("convolution_backward", convolution_backward)
        _state.libraries.append(mps)
        if _AUTOCAST is not None:
            autocast = torch.library.Library("aten", "IMPL", "AutocastMPS")
            # torch has a kernel of its own there from 2.9 and would warn that it is overridden.
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                autocast.impl("conv_transpose3d.input", conv_transpose3d_autocast)
            _state.libraries.append(autocast)


def disable() -> None:
    """Give PyTorch's dispatcher back as it was."""
    with _state.lock:
        while _state.libraries:
            _state.libraries.pop()._destroy()


def is_enabled() -> bool:
    """Whether the composite is in PyTorch's dispatcher."""
    return bool(_state.libraries)


def convolution(
    input: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
    *flags: bool,
) -> torch.Tensor:
    """aten::_convolution. For a ConvTranspose3d: input [N, C, D, H, W], weight [C, O / groups, kD, kH, kW], bias [O].

    Float32, float16 or bfloat16, summed in float32. Raises RuntimeError in the words of PyTorch's CPU operator.
    """
    arguments = (stride, padding, dilation, transposed, output_padding, groups)
    with _plain():
        g = _arguments.read(input, weight, bias, *arguments)
        if g is None:
            return torch.ops.aten._convolution.default._op_dk(_NATIVE, input, weight, bias, *arguments, *flags)
        _warn_once()
        if g.batch == 0:
            output = input.new_empty((0, g.out_channels, *g.output))
        else:
            output = _formulas.forward(_grouped(input, 1, g), _grouped(weight, 0, g), g).flatten(1, 2)
            if bias is not None:
                output += bias.float().view(-1, 1, 1, 1)
        return output.to(input.dtype).contiguous(memory_format=_result_format(input, weight, arguments))


def convolution_backward(
    grad_output: torch.Tensor,
    input: torch.Tensor,
    weight: torch.Tensor,
    bias_sizes: Sequence[int] | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
    output_mask: Sequence[bool],
) -> tuple[torch.Tensor | None, torch.Tensor | None, torch.Tensor | None]:
    """aten::convolution_backward: the gradients of input, weight and bias, each None unless `output_mask` asks for it.

    Raises RuntimeError if grad_output has not the shape, dtype and device of the output.
    """
    arguments = (stride, padding, dilation, transposed, output_padding, groups)
    with _plain():
        g = _arguments.read(input, weight, None, *arguments)
        if g is None:
            return torch.ops.aten.convolution_backward.default._op_dk(
                _NATIVE, grad_output, input, weight, bias_sizes, *arguments, output_mask
            )
        _arguments.check_grad_output(grad_output, input, g)
        _warn_once()
        if g.batch == 0:
            shapes = (input.shape, weight.shape, (g.out_channels,))
            grads = [weight.new_zeros(shape) if asked else None for shape, asked in zip(shapes, output_mask)]
        else:
            gy = _grouped(grad_output, 1, g)
            grads = [
                _formulas.input_grad(gy, _grouped(weight, 0, g), g).flatten(1, 2) if output_mask[0] else None,
                _formulas.weight_grad(gy, _grouped(input, 1, g), g).flatten(0, 1) if output_mask[1] else None,
                gy.sum((0, 3, 4, 5)).flatten() if output_mask[2] else None,
            ]
        memory_format = _result_format(input, weight, arguments)
        formats = (memory_format, memory_format, torch.contiguous_format)
        grad_input, grad_weight, grad_bias = (
            None if grad is None else grad.to(input.dtype).contiguous(memory_format=format)
            for grad, format in zip(grads, formats)
        )
        return grad_input, grad_weight, grad_bias


def conv_transpose3d_autocast(
    input: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    stride: Sequence[int] = (1, 1, 1),
    padding: Sequence[int] = (0, 0, 0),
    output_padding: Sequence[int] = (0, 0, 0),
    groups: int = 1,
    dilation: Sequence[int] = (1, 1, 1),
) -> torch.Tensor:
    """aten::conv_transpose3d.input under autocast: in the autocast dtype, where torch 2.9 and later force float32."""
    dtype = torch.get_autocast_dtype("mps")
    tensors = [
        t.to(dtype) if t is not None and t.device.type == "mps" and t.is_floating_point() else t
        for t in (input, weight, bias)
    ]
    with _plain():
        return torch.ops.aten.conv_transpose3d.input(*tensors, stride, padding, output_padding, groups, dilation)


@contextlib.contextmanager
def _plain() -> Iterator[None]:
    """No autocast, and nobody watching: what runs inside is one operator to the outside."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch._C.DisableTorchFunction())
        if _AUTOCAST is not None:
            stack.enter_context(torch._C._ExcludeDispatchKeyGuard(torch._C.DispatchKeySet(_AUTOCAST)))
        yield


def _warn_once() -> None:
    if _state.warning is not None and not _state.warned:
        _state.warned = True
        warnings.warn(_state.warning, RuntimeWarning, stacklevel=3)


def _grouped(tensor: torch.Tensor, channels: int, g: _arguments.Geometry) -> torch.Tensor:
    """In float32, with its axis of input or output channels split by groups."""
    return tensor.float().unflatten(channels, (g.groups, tensor.size(channels) // g.groups))


def _result_format(input: torch.Tensor, weight: torch.Tensor, arguments: tuple) -> torch.memory_format:
    """The memory format of every result, by the function that FakeTensor predicts it with."""
    if input.is_contiguous() and weight.is_contiguous():
        return torch.contiguous_format
    backend = torch._C._select_conv_backend(input, weight, None, *arguments)
    return torch._C._conv_determine_backend_memory_format(input, weight, backend)
