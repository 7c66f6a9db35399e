"""What serves ConvTranspose3d on `mps` without the kernels: without a bridge, on a GPU that cannot run them, and in
calls that are too large for them.

PyTorch's own operator computes what it can, so that nobody is slower with this package than without it; what it refuses
(everything before torch 2.8, half precision after it) plain PyTorch operations do. Registered at aten::_convolution and
aten::convolution_backward, or behind the bridge, which has these: so everything above (autograd, double backward, vmap,
forward-mode AD, tracing, compiling) is PyTorch's, and every other convolution goes on to PyTorch's own function.
"""

from __future__ import annotations

import contextlib
import threading
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch

from . import _arguments, _composite
from ._log import log_call

# The function that PyTorch runs at key MPS while nobody registers another.
_NATIVE = torch._C.DispatchKey.CompositeExplicitAutograd
# Since torch 2.5; None before.
_AUTOCAST = torch._C._parse_dispatch_key("AutocastMPS")


@dataclass
class _State:
    libraries: dict[str, list[torch.library.Library]] = field(default_factory=dict)  # registered as long as they live
    serves: bool = False  # what is registered stays so; this decides in every call
    composite_only: bool = False
    reason: str | None = None  # why there is no bridge; None behind one
    warned: bool = False
    native_computes: dict[torch.dtype, bool] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)


# PyTorch's dispatcher outlives a reload of this module: so must what is known of it.
_state: _State = torch.__dict__.setdefault("_mps_conv_transpose3d_fallback", _State())


def serve_behind_bridge(composite_only: bool) -> None:
    """Be what the bridge calls. `composite_only`: plain operations alone, for tests and measurements."""
    with _state.lock:
        _state.composite_only, _state.serves, _state.reason = composite_only, True, None
        if "bridge" not in _state.libraries:
            library = torch.library.Library("mps_conv_transpose3d", "IMPL", "MPS")
            library.impl("composite_convolution", convolution)
            library.impl("composite_convolution_backward", convolution_backward)
            _state.libraries["bridge"] = [library]


def serve(reason: str | None) -> None:
    """Be in the bridge's place; `reason` says why there is none."""
    with _state.lock:
        _state.reason = reason
        if "aten" not in _state.libraries:
            mps = torch.library.Library("aten", "IMPL", "MPS")
            mps.impl("_convolution", convolution)
            mps.impl("convolution_backward", convolution_backward)
            libraries = _state.libraries["aten"] = [mps]
            # Where torch has a kernel of its own (from 2.9 on, in float32) it is faster than plain operations in half.
            if _AUTOCAST is not None and not _has_autocast_kernel():
                autocast = torch.library.Library("aten", "IMPL", "AutocastMPS")
                autocast.impl("conv_transpose3d.input", conv_transpose3d_autocast, with_keyset=True)
                libraries.append(autocast)
        _state.serves = True


def stop() -> None:
    """Leave every call to PyTorch from its next on. What is registered stays: another thread may be in a call."""
    _state.serves = False


def serves() -> bool:
    return _state.serves


def _has_autocast_kernel() -> bool:
    where = "aten::conv_transpose3d.input", "AutocastMPS"
    if not torch._C._dispatch_has_kernel_for_dispatch_key(*where):
        return False
    return not torch._C._dispatch_kernel_for_dispatch_key_is_fallthrough(*where)


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
        g = _arguments.read(input, weight, bias, *arguments) if _state.serves else None
        if g is None:
            return _native_convolution(input, weight, bias, *arguments, *flags)
        if _native_serves("forward", g, input.dtype):
            # Dense copies: PyTorch's own has misread others (pytorch issues 180984 and 192212).
            dense = [None if t is None else t.contiguous() for t in (input, weight, bias)]
            output = _native_convolution(*dense, *g.arguments, *flags)
        else:
            output = _composite.forward(input, weight, bias, g)
        return _laid_out(output, _result_format(input, weight, arguments))


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
        g = _arguments.read(input, weight, None, *arguments) if _state.serves else None
        if g is None:
            grad_input, grad_weight, grad_bias = _native_backward(
                grad_output, input, weight, bias_sizes, *arguments, output_mask
            )
            return grad_input, grad_weight, grad_bias
        _arguments.check_grad_output(grad_output, input, g)
        if _native_serves("backward", g, input.dtype):
            dense = [t.contiguous() for t in (grad_output, input, weight)]
            gradients = _native_backward(*dense, [g.out_channels], *g.arguments, output_mask)
        else:
            gradients = _composite.backward(grad_output, input, weight, output_mask, g)
        memory_format = _result_format(input, weight, arguments)
        formats = (memory_format, memory_format, torch.contiguous_format)
        grad_input, grad_weight, grad_bias = (
            None if gradient is None else _laid_out(gradient, format) for gradient, format in zip(gradients, formats)
        )
        return grad_input, grad_weight, grad_bias


def conv_transpose3d_autocast(
    keys: torch._C.DispatchKeySet,
    input: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    stride: Sequence[int] = (1, 1, 1),
    padding: Sequence[int] = (0, 0, 0),
    output_padding: Sequence[int] = (0, 0, 0),
    groups: int = 1,
    dilation: Sequence[int] = (1, 1, 1),
) -> torch.Tensor:
    """aten::conv_transpose3d.input under autocast, for a torch that has no kernel there: in the autocast dtype."""
    arguments = (stride, padding, output_padding, groups, dilation)
    operator = torch.ops.aten.conv_transpose3d.input
    if not _state.serves:
        after = keys & torch._C._dispatch_keyset_full_after(_AUTOCAST)
        return operator.redispatch(after, input, weight, bias, *arguments)
    dtype = torch.get_autocast_dtype("mps")
    tensors = [
        t.to(dtype) if t is not None and t.device.type == "mps" and t.is_floating_point() else t
        for t in (input, weight, bias)
    ]
    with _plain():
        return operator(*tensors, *arguments)


@contextlib.contextmanager
def _plain() -> Iterator[None]:
    """No autocast, and nobody watching: what runs inside is one operator to the outside."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch._C.DisableTorchFunction())
        if _AUTOCAST is not None:
            stack.enter_context(torch._C._ExcludeDispatchKeyGuard(torch._C.DispatchKeySet(_AUTOCAST)))
        yield


def _native_convolution(*arguments: object) -> torch.Tensor:
    return torch.ops.aten._convolution.default._op_dk(_NATIVE, *arguments)


def _native_backward(*arguments: object) -> Sequence[torch.Tensor | None]:
    return torch.ops.aten.convolution_backward.default._op_dk(_NATIVE, *arguments)


def _native_serves(pass_: str, g: _arguments.Geometry, dtype: torch.dtype) -> bool:
    """Whether this call is PyTorch's own operator's, or plain operations'; says so where anybody wants to know."""
    reason = _reason()
    if reason is not None:
        _warn_once(reason)
    native = not _state.composite_only and native_computes(dtype)
    by = "PyTorch's own operator" if native else "plain operations"
    why = "asked for" if _state.composite_only else reason or "too large for the kernels"
    log_call(g, f"{pass_} in {dtype} by {by}", why)
    return native


def native_computes(dtype: torch.dtype) -> bool:
    """Whether PyTorch's own ConvTranspose3d computes `dtype` on this `mps` device: tried once, on one voxel."""
    if dtype not in _state.native_computes:
        arguments = ([1] * 3, [0] * 3, [1] * 3, True, [0] * 3, 1)
        voxel = torch.zeros(1, 1, 1, 1, 1, dtype=dtype, device="mps")
        try:
            _native_convolution(voxel, voxel, None, *arguments, False, False, False, False)
            _native_backward(voxel, voxel, voxel, [1], *arguments, [True] * 3)
            computes = True
        except RuntimeError as error:
            if "out of memory" in str(error):
                raise
            computes = False
        _state.native_computes[dtype] = computes
    return _state.native_computes[dtype]


def _reason() -> str | None:
    """Why the kernels do not serve any call."""
    if _state.reason is None and not _state.composite_only:
        return torch.ops.mps_conv_transpose3d.unavailable_reason()
    return _state.reason


def _warn_once(reason: str) -> None:
    if _state.warned:
        return
    _state.warned = True
    warnings.warn(
        f"mps_conv_transpose3d does without its kernels for ConvTranspose3d: {reason}. PyTorch's own operator serves "
        "what it can; plain operations, right but slow, do the rest. MPS_CONV_TRANSPOSE3D=0 in the environment "
        "switches the package off; more from: python -m mps_conv_transpose3d doctor",
        RuntimeWarning,
        stacklevel=4,
    )


def _result_format(input: torch.Tensor, weight: torch.Tensor, arguments: tuple) -> torch.memory_format:
    """The memory format of every result, by the function that FakeTensor predicts it with."""
    if input.is_contiguous() and weight.is_contiguous():
        return torch.contiguous_format
    backend = torch._C._select_conv_backend(input, weight, None, *arguments)
    return torch._C._conv_determine_backend_memory_format(input, weight, backend)


def _laid_out(result: torch.Tensor, memory_format: torch.memory_format) -> torch.Tensor:
    """With this format's strides, those of axes of size 1 too, which contiguous() leaves as they are."""
    strides = torch.empty(result.shape, device="meta", memory_format=memory_format).stride()
    if result.stride() == strides:
        return result
    return torch.empty_strided(result.shape, strides, dtype=result.dtype, device=result.device).copy_(result)
