"""How the package comes in: with `import torch` or by itself, whole or broken, in workers, twice; and what it costs.

Each test is a Python of its own. The broken packages are copies: the installed one stays as it is.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import bridge_of

USE = """
import torch
torch.manual_seed(0)
layer, x = torch.nn.ConvTranspose3d(2, 3, 3, stride=2).half(), torch.randn(1, 2, 3, 3, 3).half()
expected = layer(x)
y = layer.to("mps")(x.to("mps"))
y.sum().backward()
assert torch.allclose(y.cpu().float(), expected.float(), atol=0.01)
assert layer.weight.grad.isfinite().all()
"""
REINSTALL = "pip install --force-reinstall"


def corrupt(package: Path) -> None:
    bridge_of(package).write_bytes(b"no library")


def cut_short(package: Path) -> None:
    """As a full disk leaves it: whoever maps such a library dies of SIGBUS."""
    library = bridge_of(package)
    library.write_bytes(library.read_bytes()[:40_000])


def replace_by_another_library(package: Path) -> None:
    shutil.copy(next(package.glob("_plan.*")), bridge_of(package))


def lose_the_build_record(package: Path) -> None:
    (package / "build.json").unlink()


def fill_the_build_record_with_garbage(package: Path) -> None:
    (package / "build.json").write_bytes(b"\xff{")


def mistype_the_build_record(package: Path) -> None:
    (package / "build.json").write_text(json.dumps({"missing": "METAL", "bridges": {"torch": 2.13}}))


def build_for_another_torch(package: Path) -> None:
    build = json.loads((package / "build.json").read_text())
    build["bridges"][0]["torch"] = {"1.13.1": "0"}
    (package / "build.json").write_text(json.dumps(build))


def build_for_another_commit(package: Path) -> None:
    build = json.loads((package / "build.json").read_text())
    build["bridges"][0]["torch"] = dict.fromkeys(build["bridges"][0]["torch"], "0")
    (package / "build.json").write_text(json.dumps(build))


def lose_the_bridge(package: Path) -> None:
    bridge_of(package).unlink()


def fail_to_build(package: Path) -> None:
    shutil.rmtree(package / "_bridge")
    (package / "build.json").write_text(json.dumps({"missing": ["a build without errors (cmake)"], "bridges": []}))


DAMAGED = [corrupt, cut_short, replace_by_another_library]
UNRECORDED = [lose_the_build_record, fill_the_build_record_with_garbage, mistype_the_build_record]
FAULTS = [
    *(*DAMAGED, *UNRECORDED),
    *(build_for_another_torch, build_for_another_commit, lose_the_bridge, fail_to_build),
]


@pytest.mark.parametrize("fault", FAULTS)
def test_broken_build_warns_at_first_use_and_works(run_python, package, fault):
    fault(package)
    program = f"""
import torch, sys
print("imported", file=sys.stderr)
{USE}
layer(x.to("mps"))
import mps_conv_transpose3d as m
assert m.__file__.startswith({str(package)!r}) and m.is_enabled()
print(m.unavailable_reason())
"""
    result = run_python(program, PYTHONPATH=str(package.parent), PYTHONWARNINGS="always")
    assert result.returncode == 0, result.stderr
    before, _, after = result.stderr.partition("imported\n")
    assert before == ""
    assert after.count("Warning") == 1
    assert REINSTALL in after and "doctor" in after and "MPS_CONV_TRANSPOSE3D=0" in after
    assert REINSTALL in result.stdout
    assert fault not in DAMAGED or str(package / "_bridge" / "torch_") in after
    assert fault not in UNRECORDED or str(package / "build.json") in after


@pytest.mark.parametrize("fault", FAULTS)
def test_broken_build_is_silent_where_it_is_not_used(run_python, package, fault):
    fault(package)
    program = """
import torch, mps_conv_transpose3d as m
print(torch.nn.ConvTranspose3d(2, 3, 2)(torch.ones(1, 2, 2, 2, 2)).shape[1])
m.disable()
assert not m.is_enabled()
m.enable()
"""
    for environment in ({}, {"MPS_CONV_TRANSPOSE3D": "0"}):
        result = run_python(program, PYTHONPATH=str(package.parent), PYTHONWARNINGS="always", **environment)
        assert (result.stdout, result.stderr) == ("3\n", "")


@pytest.mark.parametrize("missing", [["METAL", "FOUNDATION"], ["Torch", "METAL", "FOUNDATION"]], ids=str)
def test_no_metal_means_inert(run_python, simulator, package, missing):
    """A server: nothing is registered."""
    shutil.rmtree(package / "_bridge")
    (package / "build.json").write_text(json.dumps({"missing": missing, "bridges": []}))
    program = """
import torch, mps_conv_transpose3d as m
m.enable()
print(m.is_enabled(), torch._C._dispatch_has_kernel_for_dispatch_key("aten::_convolution", "MPS"))
print(m.unavailable_reason())
"""
    environment = {"PYTHONPATH": str(package.parent), "PYTHONWARNINGS": "always", "MPS_SIMULATOR": "0"}
    result = run_python(program, **environment)
    assert result.stdout.startswith("False False\nnot built for want of ")
    assert result.stderr == ""


@pytest.mark.parametrize("filters", ["default", "always", "error", "error::RuntimeWarning"])
@pytest.mark.parametrize("name", ["_switch.py", "_loading.py"])
def test_broken_package_does_not_break_torch(run_python, package, name, filters):
    (package / name).write_text("raise RuntimeError('broken on purpose')")
    environment = {"PYTHONPATH": str(package.parent), "PYTHONWARNINGS": filters}
    result = run_python("import torch; print(torch.ones(2).sum().item())", **environment)
    assert result.stdout == "2.0\n", result.stderr
    assert "broken on purpose" in result.stderr


@pytest.mark.parametrize("fault", FAULTS)
def test_broken_build_is_no_error_under_any_filter(run_python, package, fault):
    fault(package)
    program = "import torch, mps_conv_transpose3d as m; print(m.is_enabled(), m.unavailable_reason())"
    result = run_python(program, PYTHONPATH=str(package.parent), PYTHONWARNINGS="error")
    assert result.stdout.startswith("True "), result.stderr
    assert result.stderr == ""


def test_without_autoload_the_import_does_it(run_python, simulator):
    """TORCH_DEVICE_BACKEND_AUTOLOAD=0, and torch 2.4, which has no entry points."""
    program = f"""
import torch
from mps_simulator._autoload import load
load()  # the device, which comes by an entry point too
import sys
assert "mps_conv_transpose3d" not in sys.modules
import mps_conv_transpose3d
assert mps_conv_transpose3d.is_enabled()
{USE}
"""
    result = run_python(program, TORCH_DEVICE_BACKEND_AUTOLOAD="0", PYTHONWARNINGS="always")
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_workers(tmp_path, method):
    """Data loaders start them by the dozen: each imports torch, none says anything."""
    program = f"""
import torch

class Data(torch.utils.data.Dataset):
    def __len__(self):
        return 4
    def __getitem__(self, i):
        import mps_conv_transpose3d
        assert mps_conv_transpose3d.is_enabled()
        return torch.nn.functional.conv_transpose3d(torch.ones(1, 1, 2, 2, 2), torch.ones(1, 1, 2, 2, 2), stride=2)

if __name__ == "__main__":
    {USE.strip().replace(chr(10), chr(10) + "    ")}
    loader = torch.utils.data.DataLoader(Data(), num_workers=1, multiprocessing_context={method!r})
    print(sum(layer.weight.new_tensor(batch.sum().item()).item() for batch in loader))
"""
    script = tmp_path / "program.py"
    script.write_text(program)
    command = [sys.executable, "-W", "always", script]  # a file: workers import it again
    result = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert result.stdout == "256.0\n", result.stderr
    assert "mps_conv_transpose3d" not in result.stderr


@pytest.mark.parametrize("fault", [None, corrupt])
def test_reload(run_python, package, fault):
    """A notebook's autoreload, or a test runner that drops modules: no second registration, and off is off."""
    if fault is not None:
        fault(package)
    program = f"""
import warnings
import torch, importlib, sys
import mps_conv_transpose3d as m
assert m.is_enabled()
importlib.reload(m)
assert m.is_enabled()
for name in [n for n in sys.modules if n.startswith("mps_conv_transpose3d")]:
    del sys.modules[name]
import mps_conv_transpose3d as again
assert again is not m and again.is_enabled()
{USE}
again.disable()
assert not again.is_enabled() and not m.is_enabled()
again.enable()
{USE}
"""
    result = run_python(program, PYTHONPATH=str(package.parent))
    assert result.returncode == 0, result.stderr
    assert result.stderr.count("Warning") == (fault is not None)


@pytest.mark.parametrize("fault", [None, corrupt])
def test_cost_at_import(run_python, package, fault):
    """50 ms at most: of the processor's time, and the best of three, for the machine may be busy."""
    if fault is not None:
        fault(package)
    program = """
import importlib.metadata, time, torch
for entry in importlib.metadata.entry_points().select(group="torch.backends"):
    if entry.name == "mps_conv_transpose3d":
        ours = entry
    else:
        entry.load()()  # what others cost is not ours
start = time.process_time()
ours.load()()
print(time.process_time() - start)
import mps_conv_transpose3d
assert mps_conv_transpose3d.is_enabled()
"""
    environment = {"PYTHONPATH": str(package.parent), "TORCH_DEVICE_BACKEND_AUTOLOAD": "0"}
    results = [run_python(program, **environment) for _ in range(3)]
    assert min(float(result.stdout) for result in results) < 0.05, results[0].stderr
