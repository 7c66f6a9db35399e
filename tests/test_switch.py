"""On and off, loaded or not, with and without a device: and nobody who does not ask is ever told anything."""

import shutil
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from conftest import bridge_of
from torch import nn

import mps_conv_transpose3d
from cases import Case
from reference import assert_all_accurate, forward_and_backward, make_tensors, map_tensors

CASE = Case("k2_s2", (1, 2, 2, 2, 2), (2, 3, 2, 2, 2), stride=(2, 2, 2))
HALF_REFUSED = "ConvTranspose 3D with BF16 or FP16 types is not supported on MPS"
TRY_HALF = """
import torch
layer = torch.nn.ConvTranspose3d(2, 3, 2, stride=2, device="mps", dtype=torch.float16)
x = torch.ones(1, 2, 2, 2, 2, device="mps", dtype=torch.float16)
try:
    print(tuple(layer(x).shape))
except RuntimeError as error:
    print(str(error).splitlines()[0])
"""


def on_device(dtype: torch.dtype) -> dict[str, torch.Tensor]:
    return map_tensors(lambda t: t.to("mps"), make_tensors(CASE, dtype))


def call(dtype: torch.dtype) -> torch.Tensor:
    t = on_device(dtype)
    return F.conv_transpose3d(t["input"], t["weight"], t["bias"], **CASE.arguments)


def test_switches():
    assert mps_conv_transpose3d.is_enabled()
    mps_conv_transpose3d.disable()
    assert not mps_conv_transpose3d.is_enabled()
    mps_conv_transpose3d.disable()  # off already: nothing to do
    assert not mps_conv_transpose3d.is_enabled()
    mps_conv_transpose3d.enable()
    mps_conv_transpose3d.enable()
    assert mps_conv_transpose3d.is_enabled()
    mps_conv_transpose3d.disable()  # one is enough, however often it was switched on
    assert not mps_conv_transpose3d.is_enabled()


@pytest.mark.parametrize("before", [True, False])
def test_context_manager_gives_back_what_was(before):
    (mps_conv_transpose3d.enable if before else mps_conv_transpose3d.disable)()
    with mps_conv_transpose3d.enabled():
        assert mps_conv_transpose3d.is_enabled()
    assert mps_conv_transpose3d.is_enabled() == before
    with pytest.raises(ZeroDivisionError), mps_conv_transpose3d.enabled():
        raise ZeroDivisionError
    assert mps_conv_transpose3d.is_enabled() == before


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16], ids=str)
def test_disabled_refuses_half_as_pytorch_does(half):
    mps_conv_transpose3d.disable()
    with pytest.raises(RuntimeError, match=HALF_REFUSED):
        call(half)
    mps_conv_transpose3d.enable()
    assert call(half).dtype == half


def test_disabled_is_native_for_float32(record):
    mps_conv_transpose3d.disable()
    tensors = make_tensors(CASE, torch.float32)
    with record() as recording:
        actual = forward_and_backward(CASE, on_device(torch.float32))
    assert not recording.ours
    assert len(recording.native_convolutions) == 2  # forward and backward
    exact = forward_and_backward(CASE, map_tensors(torch.Tensor.double, tensors))
    assert_all_accurate(actual, exact, forward_and_backward(CASE, tensors))


def test_disabled_autocast_is_native():
    """PyTorch computes in float32 there from 2.9."""
    mps_conv_transpose3d.disable()
    layer = nn.ConvTranspose3d(2, 3, 2).to("mps")
    with torch.autocast("mps", torch.float16):
        assert layer(torch.ones(1, 2, 2, 2, 2).to("mps")).dtype == torch.float32
        mps_conv_transpose3d.enable()
        assert layer(torch.ones(1, 2, 2, 2, 2).to("mps")).dtype == torch.float16


def test_forward_with_us_and_backward_without():
    """Autograd's graph is PyTorch's own: a switch between forward and backward harms nothing."""
    tensors = make_tensors(CASE, torch.float32)
    t = on_device(torch.float32)
    leaves = {name: t[name].requires_grad_() for name in ("input", "weight", "bias")}
    output = F.conv_transpose3d(*leaves.values(), **CASE.arguments)
    mps_conv_transpose3d.disable()
    output.backward(t["grad_output"])
    actual = {"output": output, **{f"{name} gradient": leaf.grad for name, leaf in leaves.items()}}
    exact = forward_and_backward(CASE, map_tensors(torch.Tensor.double, tensors))
    assert_all_accurate(actual, exact, forward_and_backward(CASE, tensors))


def test_complex_is_still_computed():
    """PyTorch makes three real convolutions of it, forward and backward."""
    torch.manual_seed(0)
    tensors = [
        torch.randn(shape, dtype=torch.complex64) for shape in ((1, 2, 3, 3, 3), (2, 3, 2, 2, 2), (3,), (1, 3, 6, 6, 6))
    ]

    def on(device: str) -> list[torch.Tensor]:
        *leaves, grad_output = [tensor.to(device) for tensor in tensors]
        leaves = [leaf.detach().requires_grad_() for leaf in leaves]
        output = F.conv_transpose3d(*leaves, stride=2)
        return [output, *torch.autograd.grad(output, leaves, grad_output)]

    for actual, expected in zip(on("mps"), on("cpu")):
        assert actual.dtype == torch.complex64
        assert torch.allclose(actual.cpu(), expected, atol=1e-4)


def test_conv3d_goes_to_native(dtype, record):
    layer, x = nn.Conv3d(2, 3, 2).to(dtype), torch.randn(1, 2, 3, 3, 3).to(dtype)
    expected = layer(x)
    with record() as recording:
        actual = layer.to("mps")(x.to("mps"))
    assert not recording.ours and recording.native_convolutions
    assert torch.allclose(actual.cpu(), expected, atol=0.05)


@pytest.mark.parametrize("dimensions", [1, 2])
def test_other_transposed_convolutions_go_to_native(dimensions):
    module = (nn.ConvTranspose1d, nn.ConvTranspose2d)[dimensions - 1](2, 3, 3, stride=2)
    x = torch.randn(1, 2, *[4] * dimensions)
    expected = module(x)
    assert torch.allclose(module.to("mps")(x.to("mps")).cpu(), expected, atol=1e-5)


@pytest.mark.parametrize(
    "program", ["import torch", "import mps_conv_transpose3d", "import torch, mps_conv_transpose3d"]
)
def test_import_prints_nothing(run_python, program):
    result = run_python(program, PYTHONWARNINGS="always")
    assert result.returncode == 0, result.stderr
    assert (result.stdout, result.stderr) == ("", "")


def test_switching_prints_nothing(run_python):
    program = "import mps_conv_transpose3d as m\nfor _ in range(3): m.disable(); m.enable()\n" + TRY_HALF
    result = run_python(program, PYTHONWARNINGS="always")
    assert (result.stdout, result.stderr) == ("(1, 3, 4, 4, 4)\n", "")


def test_import_torch_is_enough(run_python):
    assert run_python(TRY_HALF).stdout == "(1, 3, 4, 4, 4)\n"


def test_environment_variable_turns_autoload_off(run_python):
    assert run_python(TRY_HALF, MPS_CONV_TRANSPOSE3D="0").stdout == HALF_REFUSED + "\n"


def test_enable_works_even_then(run_python):
    program = "import mps_conv_transpose3d as m; print(m.is_enabled()); m.enable(); print(m.is_enabled())\n" + TRY_HALF
    assert run_python(program, MPS_CONV_TRANSPOSE3D="0").stdout == "False\nTrue\n(1, 3, 4, 4, 4)\n"


def test_no_mps_device_means_inert_and_silent(run_python, simulator):
    """On a server, or an Intel Mac."""
    program = """
import torch, mps_conv_transpose3d as m
assert not torch.backends.mps.is_available()
m.enable(); m.disable()
with m.enabled(): pass
m.enable()
print(torch.nn.ConvTranspose3d(2, 3, 2)(torch.ones(1, 2, 2, 2, 2)).shape[1])
"""
    result = run_python(program, MPS_SIMULATOR="0", PYTHONWARNINGS="always")
    assert (result.stdout, result.stderr) == ("3\n", "")


@pytest.mark.parametrize("name", ["float32", "float16", "bfloat16"])
def test_old_torch_is_native_when_disabled(run_python, simulator, name):
    program = TRY_HALF.replace("torch.float16", f"torch.{name}")
    result = run_python(program, MPS_SIMULATOR_TORCH="2.7", MPS_CONV_TRANSPOSE3D="0")
    assert "ConvTranspose 3D is not supported on MPS" in result.stdout, result.stderr


@pytest.mark.parametrize("name", ["float32", "float16", "bfloat16"])
def test_enabled_runs_where_native_refuses_every_dtype(run_python, simulator, name):
    result = run_python(TRY_HALF.replace("torch.float16", f"torch.{name}"), MPS_SIMULATOR_TORCH="2.7")
    assert result.stdout == "(1, 3, 4, 4, 4)\n", result.stderr


def test_broken_bridge_warns_once_and_everything_works(run_python, tmp_path):
    """A bridge that cannot be loaded, as after an update of torch: plain PyTorch operations take its place."""
    package = Path(mps_conv_transpose3d.__file__).parent
    broken = tmp_path / package.name
    shutil.copytree(package, broken)
    libraries = [*broken.rglob("*.so"), *broken.rglob("*.dylib")]
    assert libraries
    for library in libraries:
        library.write_bytes(b"no library")
    program = f"""
import torch
x, w = torch.ones(1, 2, 2, 2, 2), torch.ones(2, 3, 2, 2, 2)
assert torch.equal((x.to("mps") + 1).cpu(), x + 1)
for dtype in (torch.float32, torch.float16):
    y = torch.nn.functional.conv_transpose3d(x.to("mps", dtype), w.to("mps", dtype), stride=2)
    assert y.dtype == dtype and torch.equal(y.cpu().float(), torch.full((1, 3, 4, 4, 4), 2.0))
import mps_conv_transpose3d
assert mps_conv_transpose3d.__file__.startswith({str(tmp_path)!r})
"""
    result = run_python(program, PYTHONPATH=str(tmp_path), PYTHONWARNINGS="always")
    assert (result.returncode, result.stdout) == (0, ""), result.stderr
    assert result.stderr.count("RuntimeWarning: mps_conv_transpose3d") == 1, result.stderr
    assert str(broken) in result.stderr, "the cause is not named"


def test_import_of_a_broken_bridge_is_silent(run_python, tmp_path):
    """Whoever does not use the operation is not told about it."""
    shutil.copytree(Path(mps_conv_transpose3d.__file__).parent, tmp_path / "mps_conv_transpose3d")
    bridge_of(tmp_path / "mps_conv_transpose3d").write_bytes(b"no library")
    result = run_python("import torch; torch.ones(1, device='mps') + 1", PYTHONPATH=str(tmp_path))
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


# Whatever PyTorch answers: results and strides of forward and backward, or the error; module and function, with and
# without autocast.
ANSWERS = """
import torch
import torch.nn.functional as F

def answer(what, call):
    try:
        print(what, *((t.dtype, t.stride(), t.float().cpu().flatten().tolist()) for t in call()))
    except Exception as error:
        print(what, type(error).__name__, str(error).splitlines()[0])

def call(function, x, leaves):
    output = function(x)
    return [output, *torch.autograd.grad(output.float().square().sum(), [x, *leaves])]

for name in ("float32", "float16", "bfloat16"):
    torch.manual_seed(0)
    dtype = getattr(torch, name)
    layer = torch.nn.ConvTranspose3d(4, 6, 3, stride=2, groups=2).to(dtype).to("mps")
    x = torch.randn(2, 4, 2, 2, 3).to(dtype).to("mps")
    for format in (torch.contiguous_format, torch.channels_last_3d):
        leaf = x.contiguous(memory_format=format).requires_grad_()
        for cast in (None, torch.float16, torch.bfloat16):
            with torch.autocast("mps", cast, enabled=cast is not None):
                what = f"{name} {format} under {cast}"
                answer(f"module {what}", lambda: call(layer, leaf, list(layer.parameters())))
                function = lambda x: F.conv_transpose3d(x, layer.weight, groups=2)
                answer(f"function {what}", lambda: call(function, leaf, [layer.weight]))
                with torch.inference_mode():
                    answer(f"inference {what}", lambda: [layer(x)])
    answer("output_padding", lambda: [F.conv_transpose3d(x, layer.weight, output_padding=1, groups=2)])
    answer("channels", lambda: [F.conv_transpose3d(x[:, :2], layer.weight, groups=2)])
"""


def answers(run_python, program: str, **environment: str) -> str:
    result = run_python(program, **environment)
    assert result.returncode == 0, result.stderr
    return result.stdout


def off(program: str) -> str:
    return "import mps_conv_transpose3d as m\nassert m.is_enabled(); m.disable()\n" + program


def test_off_is_what_pytorch_does_alone(run_python):
    alone = answers(run_python, ANSWERS, MPS_CONV_TRANSPOSE3D="0")
    assert answers(run_python, off(ANSWERS)) == alone
    assert answers(run_python, ANSWERS) != alone


@pytest.mark.parametrize("played", ["2.5", "2.7", "2.8"])
def test_off_is_what_an_older_pytorch_does_alone(run_python, simulator, played):
    """Before 2.9 PyTorch has no autocast of its own for the operation, and goes on to that of aten::convolution."""
    alone = answers(run_python, ANSWERS, MPS_CONV_TRANSPOSE3D="0", MPS_SIMULATOR_TORCH=played)
    assert answers(run_python, off(ANSWERS), MPS_SIMULATOR_TORCH=played) == alone


def test_off_without_a_bridge(run_python, package):
    bridge_of(package).write_bytes(b"no library")
    environment = {"PYTHONPATH": str(package.parent)}
    alone = answers(run_python, ANSWERS, MPS_CONV_TRANSPOSE3D="0", **environment)
    assert answers(run_python, off(ANSWERS), **environment) == alone


SWITCH_UNDER_CALLS = """
import threading
import torch
import mps_conv_transpose3d as m

REFUSED = "ConvTranspose 3D with BF16 or FP16 types is not supported on MPS"
torch.manual_seed(0)
layer = torch.nn.ConvTranspose3d(2, 3, 2, stride=2).half().to("mps")
x = torch.randn(1, 2, 2, 2, 2).half().to("mps")
expected = layer(x).cpu()
done, failures, computed, refused = threading.Event(), [], [], []

def work():
    while not done.is_set():
        try:
            output = layer(x)
            output.sum().backward()
            assert torch.equal(output.cpu(), expected)
            computed.append(1)
        except RuntimeError as error:
            (refused if REFUSED in str(error) else failures).append(error)
        except BaseException as error:
            failures.append(error)

threads = [threading.Thread(target=work) for _ in range(4)]
for thread in threads:
    thread.start()
for _ in range(200):
    with m.enabled(False):
        m.enable()
        m.disable()
    m.enable()
while not (computed and refused):
    m.disable(), m.enable()
done.set()
for thread in threads:
    thread.join()
assert not failures, failures[0]
print("switched")
"""


@pytest.mark.parametrize("damage", [False, True], ids=["kernels", "no bridge"])
def test_switching_while_threads_compute(run_python, package, damage):
    if damage:
        bridge_of(package).write_bytes(b"no library")
    result = run_python(SWITCH_UNDER_CALLS, PYTHONPATH=str(package.parent))
    assert (result.returncode, result.stdout) == (0, "switched\n"), result.stderr


def test_off_registers_nothing(run_python):
    program = """
import torch, mps_conv_transpose3d as m
m.disable()
print(torch._C._dispatch_has_kernel_for_dispatch_key("aten::_convolution", "MPS"))
"""
    assert run_python(program, MPS_CONV_TRANSPOSE3D="0").stdout == "False\n"
