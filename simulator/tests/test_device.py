"""Tensors, views, storages and dtypes on the simulated `mps` device, in programs that anyone could have written."""

from __future__ import annotations

import copy
import io
import pickle
import subprocess
import sys

import pytest
import torch
from interpreter import run_python


def test_torch_says_that_mps_is_there():
    assert torch.backends.mps.is_available() and torch.backends.mps.is_built()
    assert torch.backends.mps.is_macos_or_newer(14, 0) and not torch.backends.mps.is_macos_or_newer(99, 0)
    assert torch.backends.mps.get_name() and torch.backends.mps.get_core_count() == 8
    assert torch.mps.device_count() == 1
    assert torch.accelerator.current_accelerator().type == "mps"


def test_import_prints_nothing_and_can_be_turned_off():
    program = "import torch; print(torch.backends.mps.is_available())"
    on, off = run_python(program), run_python(program, MPS_SIMULATOR="0")
    assert (on.stdout, on.stderr) == ("True\n", "")
    assert (off.stdout, off.stderr) == ("False\n", "")


def test_a_failure_to_load_warns_and_torch_is_imported_all_the_same():
    result = run_python(
        "import sys; sys.modules['mps_simulator._C'] = None\nimport torch; print(torch.backends.mps.is_available())"
    )
    assert result.stdout == "False\n"
    assert result.stderr.count("RuntimeWarning: mps_simulator: torch has no mps device, because: ") == 1


def test_a_tensor_is_not_cpu_memory():
    result = run_python("""
import ctypes, torch
x = torch.full((4096,), 7.0, device="mps")
seen = (ctypes.c_float * 16).from_address(x.data_ptr())[:]
print("seen" if 7.0 in seen else "hidden")
""")
    assert result.returncode < 0 or result.stdout == "hidden\n", result.stdout + result.stderr


def test_copies_keep_values_dtypes_and_strides():
    for dtype in (torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.uint8, torch.bool, torch.complex64):
        x = torch.arange(24).reshape(2, 3, 4).to(dtype)
        y = x.to("mps")
        assert y.is_mps and y.dtype == dtype and torch.equal(y.cpu(), x)
        t = y.transpose(0, 2)
        assert t.stride() == x.transpose(0, 2).stride() and torch.equal(t.cpu(), x.transpose(0, 2))
        assert torch.equal(t.clone().contiguous().cpu(), x.transpose(0, 2))
    x = torch.randn(2, 4, 3, 3).to(memory_format=torch.channels_last)
    assert x.to("mps").is_contiguous(memory_format=torch.channels_last)


def test_copies_broadcast_convert_and_conjugate():
    y = torch.zeros(3, 4, device="mps")
    y.copy_(torch.arange(4, dtype=torch.float64))
    assert y.tolist() == [[0, 1, 2, 3]] * 3
    y[1] = 5
    assert y[1].sum().item() == 20
    z = torch.tensor([1 + 2j], device="mps").conj()
    assert z.is_conj() and z.cpu().item() == 1 - 2j and z.clone().item() == 1 - 2j
    with pytest.raises(RuntimeError, match="must match"):
        y.copy_(torch.zeros(5))


def test_views_share_memory():
    base = torch.zeros(4, 6, device="mps")
    base.view(24)[5] = 1
    base.unfold(1, 2, 2)[1, 0, 0] = 2
    base.diagonal()[3] = 3
    base.as_strided((2,), (6,), 1)[1] = 4
    base.reshape(2, 12).chunk(2, dim=1)[1][0, 0] = 5
    expected = torch.zeros(4, 6)
    expected[0, 5], expected[1, 0], expected[3, 3], expected[1, 1] = 1, 2, 3, 4
    expected.reshape(2, 12)[0, 6] = 5
    assert torch.equal(base.cpu(), expected)
    assert base[1:].storage_offset() == 6 and base[1:].data_ptr() == base.data_ptr() + 24
    assert base.expand(2, 4, 6).stride() == (0, 6, 1)


def test_resizing_keeps_what_was_there():
    x = torch.arange(4.0, device="mps")
    x.resize_(8)
    assert x[:4].tolist() == [0, 1, 2, 3] and x.untyped_storage().nbytes() == 32
    x.resize_(2, 2)
    assert x.tolist() == [[0, 1], [2, 3]]
    storage = x.untyped_storage()
    storage.resize_(0)
    assert storage.nbytes() == 0 and storage.data_ptr() == 0
    out = torch.empty(0, device="mps")
    torch.add(torch.ones(3, device="mps"), 1, out=out)
    assert out.tolist() == [2, 2, 2]


def test_set_moves_a_tensor_to_another_storage():
    x, y = torch.arange(6.0, device="mps"), torch.empty(0, device="mps")
    y.set_(x)
    y[0] = 9
    assert x[0].item() == 9
    y.set_(x.untyped_storage(), 2, (2, 2), (2, 1))
    assert y.tolist() == [[2, 3], [4, 5]]
    y.set_(x.untyped_storage())
    assert y.shape == (6,)
    y.set_()
    assert y.numel() == 0 and y.is_mps
    with pytest.raises(RuntimeError):
        y.set_(torch.zeros(2).untyped_storage())


def test_empty_tensors_have_no_memory():
    x = torch.empty(0, 3, device="mps")
    assert x.data_ptr() == 0 and x.untyped_storage().nbytes() == 0
    assert torch.cat([x, torch.ones(1, 3, device="mps")]).shape == (1, 3)


def test_new_memory_is_not_zero():
    # A kernel that does not write all of its output must not look right by luck.
    assert torch.empty(1000, device="mps").isnan().all().item()


@pytest.mark.parametrize(
    "make",
    [
        lambda: torch.zeros(2, dtype=torch.float64, device="mps"),
        lambda: torch.empty_strided((2,), (1,), dtype=torch.float64, device="mps"),
        lambda: torch.zeros(2, dtype=torch.float64).to("mps"),
        lambda: torch.zeros(2, device="mps").double(),
        lambda: torch.nn.Linear(2, 2).double().to("mps"),
    ],
)
def test_float64_raises_the_words_of_torch(make):
    words = (
        "Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support float64. "
        "Please use float32 instead."
    )
    with pytest.raises(TypeError) as raised:
        make()
    assert str(raised.value) == words


def test_complex128_raises():
    with pytest.raises(TypeError, match="ComplexDouble"):
        torch.zeros(2, dtype=torch.complex128, device="mps")


def test_more_than_16_dimensions_raise():
    with pytest.raises(RuntimeError, match="MPS supports tensors with dimensions <= 16, but got 17"):
        torch.empty([1] * 17, device="mps")


def test_printing_and_scalars():
    x = torch.tensor([1.5, -2.0], device="mps")
    assert "device='mps:0'" in repr(x)
    assert x[0].item() == 1.5 and float(x[1]) == -2 and bool((x > 0)[0])
    assert x.tolist() == [1.5, -2.0]


def test_deepcopy_and_pickle():
    x = torch.randn(3, 4, device="mps").t()
    for y in (copy.deepcopy(x), pickle.loads(pickle.dumps(x))):
        assert y.is_mps and y.stride() == x.stride() and torch.equal(x.cpu(), y.cpu())
        assert y.data_ptr() != x.data_ptr()


def test_save_and_load_between_devices():
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    on_mps = copy.deepcopy(model).to("mps")
    for state, location in ((model.state_dict(), "mps"), (on_mps.state_dict(), "cpu"), (on_mps.state_dict(), None)):
        file = io.BytesIO()
        torch.save(state, file)
        file.seek(0)
        loaded = torch.load(file, map_location=location)
        assert {value.device.type for value in loaded.values()} == {location or "mps"}
        for name, value in model.state_dict().items():
            assert torch.equal(loaded[name].cpu(), value)


def test_untyped_storage():
    storage = torch.UntypedStorage(8, device="mps")
    assert storage.device.type == "mps" and storage.nbytes() == 8
    assert torch.UntypedStorage(8).device.type == "cpu"
    assert torch.UntypedStorage(torch.arange(3, dtype=torch.uint8).untyped_storage().tolist()).tolist() == [0, 1, 2]
    x = torch.arange(4.0, device="mps")
    torch.mps.synchronize()
    alias = torch.mps._host_alias_storage(x.untyped_storage())
    host = torch.empty(0).set_(alias)
    assert host.tolist() == [0, 1, 2, 3]
    host[0] = 7
    assert x[0].item() == 7


def test_pinned_memory():
    x = torch.arange(4.0).pin_memory()
    assert x.is_pinned() and not torch.arange(4.0).is_pinned()
    assert x.to("mps", non_blocking=True).tolist() == [0, 1, 2, 3]


def test_seeds_are_reproducible_and_not_those_of_the_cpu():
    torch.manual_seed(3)
    first, on_cpu = torch.rand(100, device="mps"), torch.rand(100)
    torch.manual_seed(3)
    assert torch.equal(first, torch.rand(100, device="mps"))
    assert not torch.equal(first.cpu(), on_cpu)

    state = torch.mps.get_rng_state()
    again = torch.randn(5, device="mps")
    torch.mps.set_rng_state(state)
    assert torch.equal(again, torch.randn(5, device="mps"))

    generator = torch.Generator("mps").manual_seed(7)
    assert generator.initial_seed() == 7 and generator.device.type == "mps"
    a = torch.randn(5, device="mps", generator=generator)
    assert torch.equal(a, torch.randn(5, device="mps", generator=torch.Generator("mps").manual_seed(7)))
    assert generator.clone_state().initial_seed() == 7
    dropped = []
    for _ in range(2):
        torch.manual_seed(1)
        dropped.append(torch.nn.functional.dropout(torch.ones(50, device="mps")))
    assert torch.equal(*dropped)


def test_forward_mode_ad():
    import torch.autograd.forward_ad as forward_ad

    with forward_ad.dual_level():
        x = forward_ad.make_dual(torch.ones(3, device="mps"), torch.full((3,), 2.0, device="mps"))
        y = x * x + torch.ones(3, device="mps")
        assert forward_ad.unpack_dual(y).tangent.tolist() == [4, 4, 4]


def test_deterministic_mode_fills_memory():
    torch.use_deterministic_algorithms(True)
    try:
        assert torch.empty(4, device="mps").isnan().all()
        assert torch.empty(4, dtype=torch.int32, device="mps").tolist() == [torch.iinfo(torch.int32).max] * 4
    finally:
        torch.use_deterministic_algorithms(False)


def test_command_line():
    told = subprocess.run([sys.executable, "-m", "mps_simulator"], capture_output=True, text=True, check=True).stdout
    assert f"torch {torch.__version__}" in told and "mps_simulator 0.1.0" in told
    path = subprocess.run(
        [sys.executable, "-m", "mps_simulator", "toolchain"], capture_output=True, text=True, check=True
    ).stdout
    assert path.endswith("cmake/toolchain.cmake\n")


def test_python_ends_after_the_devices_thread_of_autograd():
    result = run_python("""
import atexit, os, threading, time
ended = threading.Event()
atexit.register(lambda: os.write(1, b"in time" if ended.is_set() else b"too early"))
import torch
x = torch.ones((), device="mps", requires_grad=True)
began = threading.Event()
def linger(gradient):
    began.set()
    time.sleep(0.3)
    ended.set()
y = x * 2
y.register_hook(linger)
threading.Thread(target=y.backward, daemon=True).start()
began.wait()
""")
    assert result.stdout == "in time", result.stdout + result.stderr
