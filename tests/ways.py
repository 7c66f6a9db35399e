"""The one list of ways in which programs call ConvTranspose3d: what tests/test_ways.py runs, and docs/calling.md lists.

A way computes from a layer, an input and the gradient of its output, all on one device, the output and what gradients
it gives. Where it is only another road to the same values (`same_as_plain`), they are held against the plain call.
"""

from __future__ import annotations

import copy
import io
import os
import pickle
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

Tensors = dict[str, torch.Tensor]
Call = Callable[[nn.ConvTranspose3d, torch.Tensor], torch.Tensor]
Compute = Callable[[nn.ConvTranspose3d, torch.Tensor, torch.Tensor], Tensors]

HALVES = (torch.float16, torch.bfloat16)
ALL = (torch.float32, *HALVES)


@dataclass(frozen=True)
class Way:
    """`since`: the first PyTorch from 2.4 on in which programs can call so on mps."""

    group: str
    name: str
    compute: Compute
    since: str = "2.4"
    dtypes: tuple[torch.dtype, ...] = ALL
    same_as_plain: bool = True
    ours: bool = True  # our kernels run; else PyTorch's own operator
    ordinary: bool = False  # ordinary convolutions are part of the formula, and PyTorch's own
    note: str = ""

    def __str__(self) -> str:
        return f"{self.group}: {self.name}"


def arguments(layer: nn.ConvTranspose3d) -> dict[str, object]:
    """The keyword arguments of torch.conv_transpose3d."""
    names = ("stride", "padding", "output_padding", "groups", "dilation")
    return {name: getattr(layer, name) for name in names}


def differentiate(call: Call, layer: nn.ConvTranspose3d, x: torch.Tensor, grad_output: torch.Tensor) -> Tensors:
    x = x.detach().requires_grad_()
    output = call(layer, x)
    output.backward(grad_output)
    gradients = {"weight": layer.weight.grad, "bias": layer.bias.grad, "input": x.grad}
    return {"output": output.detach(), **gradients}


def plain(layer: nn.ConvTranspose3d, x: torch.Tensor, grad_output: torch.Tensor) -> Tensors:
    return differentiate(lambda layer, x: layer(x), layer, x, grad_output)


def both(call: Call) -> Compute:
    """Forward and backward."""
    return lambda layer, x, grad_output: differentiate(call, layer, x, grad_output)


def forward(call: Call) -> Compute:
    return lambda layer, x, grad_output: {"output": call(layer, x)}


# Functions and modules


def lazy(layer: nn.ConvTranspose3d, x: torch.Tensor) -> torch.Tensor:
    made = nn.LazyConvTranspose3d(layer.out_channels, layer.kernel_size, **arguments(layer)).to(x)
    made(x)
    made.load_state_dict(layer.state_dict())
    y = made(x)
    made.weight.register_hook(lambda gradient: setattr(layer.weight, "grad", gradient))
    made.bias.register_hook(lambda gradient: setattr(layer.bias, "grad", gradient))
    return y


def functional_by_position(layer: nn.ConvTranspose3d, x: torch.Tensor) -> torch.Tensor:
    a = arguments(layer)
    return F.conv_transpose3d(
        x, layer.weight, layer.bias, a["stride"], a["padding"], a["output_padding"], a["groups"], a["dilation"]
    )


def functional_by_keyword(layer: nn.ConvTranspose3d, x: torch.Tensor) -> torch.Tensor:
    return F.conv_transpose3d(input=x, weight=layer.weight, bias=layer.bias, **arguments(layer))


def torch_function(layer: nn.ConvTranspose3d, x: torch.Tensor) -> torch.Tensor:
    return torch.conv_transpose3d(x, layer.weight, layer.bias, **arguments(layer))


def torch_convolution(layer: nn.ConvTranspose3d, x: torch.Tensor) -> torch.Tensor:
    a = arguments(layer)
    return torch.convolution(
        x,
        layer.weight,
        layer.bias,
        a["stride"],
        a["padding"],
        a["dilation"],
        transposed=True,
        output_padding=a["output_padding"],
        groups=a["groups"],
    )


def with_output_size(layer: nn.ConvTranspose3d, x: torch.Tensor) -> torch.Tensor:
    size = [int(n) for n in layer(x).shape[2:]]
    without = copy.copy(layer)  # the same parameters, and another output_padding to be overruled
    without.output_padding = (0, 0, 0)
    return without(x, output_size=size)


def unbatched(layer: nn.ConvTranspose3d, x: torch.Tensor) -> torch.Tensor:
    return torch.stack([layer(sample) for sample in x])


# Memory formats


def laid_out(change: Callable[[torch.Tensor], torch.Tensor]) -> Compute:
    """Input and weight in another layout; gradients come back to the plain ones."""
    return both(
        lambda layer, x: torch.conv_transpose3d(change(x), change(layer.weight), layer.bias, **arguments(layer))
    )


def channels_last(t: torch.Tensor) -> torch.Tensor:
    return t.contiguous(memory_format=torch.channels_last_3d)


def transposed(t: torch.Tensor) -> torch.Tensor:
    return t.transpose(2, 4).contiguous().transpose(2, 4)


def sliced(t: torch.Tensor) -> torch.Tensor:
    """A view with gaps between channels and rows, at an offset into its storage."""
    wide = F.pad(t, (1, 2, 0, 1, 0, 0, 2, 1))
    return wide[:, 2:-1, :, :-1, 1:-2]


def expanded(layer: nn.ConvTranspose3d, x: torch.Tensor, grad_output: torch.Tensor) -> Tensors:
    x = x.detach()[:1].requires_grad_()
    output = layer(x.expand(2, -1, -1, -1, -1))
    output.backward(grad_output)
    return {"output": output.detach(), "weight": layer.weight.grad, "input": x.grad}


# Modes


def under(mode: Callable[[], object]) -> Compute:
    def call(layer: nn.ConvTranspose3d, x: torch.Tensor) -> torch.Tensor:
        with mode():
            return layer(x)

    return forward(call)


def autocast(half: torch.dtype) -> Compute:
    """A float32 layer. The half dtype's rounding is in the result, so it is compared with a layer of that dtype."""

    def call(layer: nn.ConvTranspose3d, x: torch.Tensor) -> torch.Tensor:
        wide = layer.float()
        with torch.autocast(x.device.type, half) if x.device.type == "mps" else nullcontext():
            y = wide(x.float())
        assert y.dtype == half or x.device.type != "mps"
        return y.to(half)

    return forward(call)


def deterministic(layer: nn.ConvTranspose3d, x: torch.Tensor, grad_output: torch.Tensor) -> Tensors:
    torch.use_deterministic_algorithms(True)
    try:
        return plain(layer, x, grad_output)
    finally:
        torch.use_deterministic_algorithms(False)


def frozen(*names: str) -> Compute:
    def compute(layer: nn.ConvTranspose3d, x: torch.Tensor, grad_output: torch.Tensor) -> Tensors:
        x = x.detach().requires_grad_("input" not in names)
        layer.weight.requires_grad_("weight" not in names)
        layer.bias.requires_grad_("bias" not in names)
        output = layer(x)
        output.backward(grad_output)
        gradients = {"weight": layer.weight.grad, "bias": layer.bias.grad, "input": x.grad}
        assert all((gradient is None) == (name in names) for name, gradient in gradients.items())
        return {"output": output.detach(), **{name: g for name, g in gradients.items() if g is not None}}

    return compute


# Graphs


def through_file(module: torch.jit.ScriptModule, device: torch.device) -> torch.jit.ScriptModule:
    file = io.BytesIO()
    torch.jit.save(module, file)
    file.seek(0)
    return torch.jit.load(file, map_location=device)


def scripted(layer: nn.ConvTranspose3d, x: torch.Tensor) -> torch.Tensor:
    return torch.jit.script(layer)(x)


def scripted_and_loaded(layer: nn.ConvTranspose3d, x: torch.Tensor) -> torch.Tensor:
    return through_file(torch.jit.script(layer), x.device)(x)


def traced(layer: nn.ConvTranspose3d, x: torch.Tensor) -> torch.Tensor:
    return torch.jit.trace(layer, x.detach())(x)


def traced_on_the_cpu(layer: nn.ConvTranspose3d, x: torch.Tensor) -> torch.Tensor:
    on_cpu = copy.deepcopy(layer).cpu()
    return through_file(torch.jit.trace(on_cpu, x.detach().cpu()), x.device)(x)


WITHOUT_THE_PACKAGE = """
import sys, torch
model, x = torch.jit.load(sys.argv[1] + "/model.pt"), torch.load(sys.argv[1] + "/x.pt")
assert x.is_mps and "mps_conv_transpose3d" not in sys.modules
torch.save(model(x).cpu(), sys.argv[1] + "/y.pt")
"""


def traced_and_loaded_without_the_package(layer: nn.ConvTranspose3d, x: torch.Tensor) -> torch.Tensor:
    """Computed by PyTorch's own operator, which has float32 alone."""
    with tempfile.TemporaryDirectory() as folder:
        torch.jit.save(torch.jit.trace(layer, x), Path(folder, "model.pt"))
        torch.save(x, Path(folder, "x.pt"))
        command = [sys.executable, "-c", WITHOUT_THE_PACKAGE, folder]
        environment = {**os.environ, "MPS_CONV_TRANSPOSE3D": "0"}
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stderr
        return torch.load(Path(folder, "y.pt")).to(x.device)


def compiled(**options: object) -> Compute:
    def call(layer: nn.ConvTranspose3d, x: torch.Tensor) -> torch.Tensor:
        torch.compiler.reset()
        return torch.compile(layer, fullgraph=True, **options)(x)

    return both(call)


def exported(layer: nn.ConvTranspose3d, x: torch.Tensor) -> torch.Tensor:
    return torch.export.export(layer, (x.detach(),)).module()(x)


def exported_and_loaded(layer: nn.ConvTranspose3d, x: torch.Tensor) -> torch.Tensor:
    file = io.BytesIO()
    torch.export.save(torch.export.export(layer, (x.detach(),)), file)
    file.seek(0)
    return torch.export.load(file).module()(x)


# torch.func and higher derivatives


def functional(layer: nn.ConvTranspose3d) -> tuple[dict[str, torch.Tensor], Callable[..., torch.Tensor]]:
    parameters = {name: parameter.detach() for name, parameter in layer.named_parameters()}
    return parameters, lambda parameters, x: torch.func.functional_call(layer, parameters, (x,))


def vmap(layer: nn.ConvTranspose3d, x: torch.Tensor) -> torch.Tensor:
    return torch.func.vmap(layer)(x)


def func_grad(layer: nn.ConvTranspose3d, x: torch.Tensor, grad_output: torch.Tensor) -> Tensors:
    parameters, call = functional(layer)
    gradients = torch.func.grad(lambda p, x: (call(p, x) * grad_output).sum(), argnums=(0, 1))(parameters, x)
    return {"weight": gradients[0]["weight"], "bias": gradients[0]["bias"], "input": gradients[1]}


def per_sample_gradients(layer: nn.ConvTranspose3d, x: torch.Tensor, grad_output: torch.Tensor) -> Tensors:
    parameters, call = functional(layer)
    one = torch.func.grad(lambda p, x, g: (call(p, x) * g).sum())
    return dict(torch.func.vmap(one, in_dims=(None, 0, 0))(parameters, x, grad_output))


def per_sample_by_loop(layer: nn.ConvTranspose3d, x: torch.Tensor, grad_output: torch.Tensor) -> Tensors:
    each = [plain(copy.deepcopy(layer), a[None], g[None]) for a, g in zip(x, grad_output)]
    return {name: torch.stack([gradients[name] for gradients in each]) for name in ("weight", "bias")}


def jvp(layer: nn.ConvTranspose3d, x: torch.Tensor, grad_output: torch.Tensor) -> Tensors:
    parameters, call = functional(layer)
    output, tangent = torch.func.jvp(call, (parameters, x), (parameters, x))
    return {"output": output, "tangent": tangent}


def forward_mode(layer: nn.ConvTranspose3d, x: torch.Tensor, grad_output: torch.Tensor) -> Tensors:
    import torch.autograd.forward_ad as fwAD

    with fwAD.dual_level():
        output, tangent = fwAD.unpack_dual(layer(fwAD.make_dual(x, x)))
        return {"output": output.detach().clone(), "tangent": tangent.detach().clone()}


def double_backward(layer: nn.ConvTranspose3d, x: torch.Tensor, grad_output: torch.Tensor) -> Tensors:
    x, grad_output = x.detach().requires_grad_(), grad_output.detach().requires_grad_()
    inputs = (x, layer.weight, layer.bias)
    first = torch.autograd.grad(layer(x), inputs, grad_output, create_graph=True)
    second = torch.autograd.grad(first, (x, layer.weight, grad_output), [g.detach() for g in first])
    return dict(zip(("input", "weight", "grad_output"), second))


# In programs


def in_threads(layer: nn.ConvTranspose3d, x: torch.Tensor) -> torch.Tensor:
    results: list[torch.Tensor | None] = [None] * len(x)

    def work(i: int) -> None:
        results[i] = layer(x[i])

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(x))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return torch.stack(results)


def on_two_streams(layer: nn.ConvTranspose3d, x: torch.Tensor) -> torch.Tensor:
    if x.device.type != "mps":
        return layer(x)
    torch.mps.synchronize()
    halves = []
    for half in x.chunk(2):
        with torch.Stream(device=x.device) as stream:
            halves.append(layer(half))
        stream.synchronize()
    return torch.cat(halves)


def checkpointed(reentrant: bool) -> Compute:
    return both(lambda layer, x: checkpoint(layer, x, use_reentrant=reentrant))


def with_hooks(layer: nn.ConvTranspose3d, x: torch.Tensor) -> torch.Tensor:
    """Hooks that change nothing, of every kind; each must have been called."""
    called = set()
    handles = [
        layer.register_forward_pre_hook(lambda *_: called.add("forward pre")),
        layer.register_forward_hook(lambda *_: called.add("forward")),
        layer.register_full_backward_pre_hook(lambda *_: called.add("backward pre")),
    ]
    y = layer(x)
    for handle in handles[:2]:
        handle.remove()
    y.register_hook(lambda gradient: called.add("tensor"))
    layer.weight.register_post_accumulate_grad_hook(lambda _: called.add("accumulated"))
    x.register_hook(lambda _: check())

    def check() -> None:
        assert called == {"forward pre", "forward", "backward pre", "tensor"} | (called & {"accumulated"}), called

    return y


def copied(duplicate: Callable[[nn.Module], nn.Module]) -> Compute:
    """Through a copy of the layer, whose gradients are then its own."""

    def compute(layer: nn.ConvTranspose3d, x: torch.Tensor, grad_output: torch.Tensor) -> Tensors:
        return plain(duplicate(layer), x, grad_output)

    return compute


def through_state_dict(layer: nn.Module) -> nn.Module:
    file = io.BytesIO()
    torch.save(layer.state_dict(), file)
    file.seek(0)
    made = copy.deepcopy(layer)
    for parameter in made.parameters():
        nn.init.zeros_(parameter)
    made.load_state_dict(torch.load(file, weights_only=True))
    return made


def parametrized(parametrization: Callable[[nn.Module], nn.Module]) -> Compute:
    def compute(layer: nn.ConvTranspose3d, x: torch.Tensor, grad_output: torch.Tensor) -> Tensors:
        torch.manual_seed(0)  # spectral_norm draws its first vectors
        layer = parametrization(copy.deepcopy(layer).cpu()).to(x.device).eval()
        x = x.detach().requires_grad_()
        output = layer(x)
        output.backward(grad_output)
        gradients = {name: parameter.grad for name, parameter in layer.named_parameters()}
        return {"output": output.detach(), "input": x.grad, **gradients}

    return compute


MODULES, LAYOUTS, MODES = "Modules and functions", "Memory formats", "Modes"
GRAPHS, DERIVATIVES, PROGRAMS = "Graphs", "torch.func and derivatives", "In programs"
FLOAT = (torch.float32,)

WAYS = [
    Way(MODULES, "nn.ConvTranspose3d", plain),
    Way(MODULES, "nn.LazyConvTranspose3d", both(lazy)),
    Way(MODULES, "F.conv_transpose3d, by position", both(functional_by_position)),
    Way(MODULES, "F.conv_transpose3d, by keyword", both(functional_by_keyword)),
    Way(MODULES, "torch.conv_transpose3d", both(torch_function)),
    Way(MODULES, "torch.convolution", both(torch_convolution)),
    Way(MODULES, "output_size=", both(with_output_size)),
    Way(MODULES, "unbatched input", both(unbatched)),
    Way(LAYOUTS, "channels_last_3d", laid_out(channels_last)),
    Way(LAYOUTS, "transposed views", laid_out(transposed)),
    Way(LAYOUTS, "slices at an offset", laid_out(sliced)),
    Way(LAYOUTS, "expanded input", expanded, same_as_plain=False),
    Way(MODES, "torch.no_grad", under(torch.no_grad)),
    Way(MODES, "torch.inference_mode", under(torch.inference_mode)),
    Way(MODES, "torch.autocast, float16", autocast(torch.float16), since="2.5", dtypes=(torch.float16,)),
    Way(MODES, "torch.autocast, bfloat16", autocast(torch.bfloat16), since="2.6", dtypes=(torch.bfloat16,)),
    Way(MODES, "torch.use_deterministic_algorithms", deterministic, note="nothing to do: all sums have one order"),
    Way(MODES, "frozen weight and bias", frozen("weight", "bias")),
    Way(MODES, "frozen input", frozen("input")),
    Way(GRAPHS, "torch.jit.script", both(scripted)),
    Way(GRAPHS, "torch.jit.script, saved and loaded", forward(scripted_and_loaded)),
    Way(GRAPHS, "torch.jit.trace", both(traced)),
    Way(GRAPHS, "torch.jit.trace on the CPU, loaded onto mps", forward(traced_on_the_cpu)),
    Way(
        GRAPHS,
        "torch.jit.trace, loaded where this package is not",
        forward(traced_and_loaded_without_the_package),
        since="2.8",
        dtypes=FLOAT,
        ours=False,
        note="the graph holds PyTorch's operators alone, and PyTorch's own kernel runs",
    ),
    Way(GRAPHS, 'torch.compile, "aot_eager"', compiled(backend="aot_eager")),
    Way(GRAPHS, 'torch.compile, "aot_eager", dynamic', compiled(backend="aot_eager", dynamic=True)),
    Way(GRAPHS, 'torch.compile, "inductor"', compiled(), since="2.8"),
    Way(GRAPHS, "torch.export", both(exported)),
    Way(GRAPHS, "torch.export, saved and loaded", forward(exported_and_loaded)),
    Way(DERIVATIVES, "torch.func.vmap", both(vmap)),
    Way(DERIVATIVES, "torch.func.grad", func_grad),
    Way(DERIVATIVES, "torch.func.vmap of grad", per_sample_gradients, same_as_plain=False),
    Way(DERIVATIVES, "torch.func.jvp", jvp, same_as_plain=False),
    Way(DERIVATIVES, "forward-mode AD", forward_mode, same_as_plain=False),
    Way(DERIVATIVES, "double backward, create_graph", double_backward, same_as_plain=False, ordinary=True),
    Way(PROGRAMS, "threads", both(in_threads)),
    Way(PROGRAMS, "two streams", forward(on_two_streams), since="2.15"),
    Way(PROGRAMS, "gradient checkpointing, reentrant", checkpointed(True)),
    Way(PROGRAMS, "gradient checkpointing, not reentrant", checkpointed(False)),
    Way(PROGRAMS, "hooks", both(with_hooks)),
    Way(PROGRAMS, "copy.deepcopy", copied(copy.deepcopy)),
    Way(PROGRAMS, "pickle", copied(lambda layer: pickle.loads(pickle.dumps(layer)))),
    Way(PROGRAMS, "torch.save and load of a state_dict", copied(through_state_dict)),
    Way(PROGRAMS, "weight_norm", parametrized(nn.utils.parametrizations.weight_norm), same_as_plain=False),
    Way(
        PROGRAMS,
        "spectral_norm",
        parametrized(nn.utils.parametrizations.spectral_norm),
        since="2.11",
        note="`mps` lacked `vdot` before; with `PYTORCH_ENABLE_MPS_FALLBACK=1` from 2.4",
        same_as_plain=False,
    ),
]
