"""Which bridge of a package is loaded: the one that was built with this torch's headers, or none."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import bridge_of

from mps_conv_transpose3d import _loading

RunPython = Callable[..., "subprocess.CompletedProcess[str]"]

BUILD = _loading.Build(
    [],
    [
        _loading.Binary("torch_2_13.so", "1" * 64, {"2.13.0": "aaaa"}),
        _loading.Binary("torch_2_14.so", "2" * 64, {"2.14.0": "bbbb", "2.14.1": "cccc"}),
    ],
)


@pytest.mark.parametrize(
    ("release", "commit", "file"),
    [("2.13.0", "aaaa", "torch_2_13.so"), ("2.14.0", "bbbb", "torch_2_14.so"), ("2.14.1", "cccc", "torch_2_14.so")],
)
def test_the_bridge_of_this_torch_is_chosen(release, commit, file):
    assert _loading.choose(BUILD, release, commit).file == file


@pytest.mark.parametrize(
    ("release", "commit"),
    [
        ("2.3.1", "aaaa"),  # older
        ("2.15.0", "aaaa"),  # newer
        ("2.14.2", "cccc"),  # a patch release that came later
        ("2.13.0a0+git0123abc", "aaaa"),  # built from sources
        ("2.13.0.post1", "aaaa"),  # repackaged
        ("2.13.0+cpu", "aaaa"),
        ("2.16.0.dev20270101", "aaaa"),  # nightly
        ("2.1", "aaaa"),
    ],
)
def test_another_torch_has_no_bridge(release, commit):
    with pytest.raises(RuntimeError) as error:
        _loading.choose(BUILD, release, commit)
    assert str(error.value) == f"built for torch 2.13.0, 2.14.0, 2.14.1, but this is torch {release}"


@pytest.mark.parametrize("commit", ["bbbb", "Unknown", None])
def test_a_release_that_somebody_built_himself_has_no_bridge(commit):
    with pytest.raises(RuntimeError, match=f"this torch 2.13.0 is a build of its own .of {commit}."):
        _loading.choose(BUILD, "2.13.0", commit)


def test_a_build_here_is_a_package_with_one_bridge():
    (bridge,) = _loading.read_build().bridges
    assert bridge.torch == {torch.__version__: torch.version.git_version}
    assert bridge.file == "torch_" + "_".join(torch.__version__.split(".")[:2]) + ".so"


def test_one_libtorch_and_torchs_own(tmp_path):
    own, other, link = tmp_path / "own", tmp_path / "other", tmp_path / "link"
    own.write_bytes(b"")
    other.write_bytes(b"")
    link.symlink_to(own)
    _loading.check_libtorch([own], own)
    _loading.check_libtorch([link], own)
    for images in ([], [other], [own, other], [other, own]):
        with pytest.raises(RuntimeError, match="the libtorch that is loaded"):
            _loading.check_libtorch(images, own)
    with pytest.raises(RuntimeError, match="the libtorch that is loaded"):
        _loading.check_libtorch([other], tmp_path / "absent")


# --- a package for Macs, in a Python whose torch says that it is another ---

# What a Mach-O file is to Linux: no library at all.
MACH_O = b"\xcf\xfa\xed\xfe\x0c\x00\x00\x01" + b"\0" * 4096
USE = """
layer, x = torch.nn.ConvTranspose3d(2, 3, 3, stride=2).half(), torch.randn(1, 2, 3, 3, 3).half()
expected = layer(x)
for _ in range(2):
    y = layer.to("mps")(x.to("mps"))
y.sum().backward()
assert torch.allclose(y.cpu().float(), expected.float(), atol=0.01)
"""
PROGRAM = """
import torch
torch.__version__, torch.version.git_version = {release!r}, {commit!r}
load, loaded = torch.ops.load_library, []
torch.ops.load_library = lambda path: loaded.append(path) or load(path)
from mps_simulator._autoload import load as device
device()
device_libraries = len(loaded)
import mps_conv_transpose3d as m
assert m.__file__.startswith({place!r}) and m.is_enabled()
{use}
print([path.rpartition("/")[2] for path in loaded[device_libraries:]])
print(m.unavailable_reason())
"""


def mac_package(package: Path) -> None:
    """As `make wheel-mac` fills it."""
    bridge_of(package).unlink()
    bridges = []
    for name, releases in (("torch_2_13.so", {"2.13.0": "aaaa"}), ("torch_2_15.so", {"2.15.0": "bbbb"})):
        (package / "_bridge" / name).write_bytes(MACH_O)
        bridges.append({"file": name, "sha256": hashlib.sha256(MACH_O).hexdigest(), "torch": releases})
    for module in package.glob("_plan.*"):
        module.unlink()
    (package / "build.json").write_text(json.dumps({"missing": [], "bridges": bridges}))


def loaded(run_python: RunPython, package: Path, release: str, commit: str, use: str = USE) -> tuple[list[str], str]:
    """What was printed, and the warnings."""
    program = PROGRAM.format(release=release, commit=commit, place=str(package), use=use)
    environment = {"TORCH_DEVICE_BACKEND_AUTOLOAD": "0", "PYTHONWARNINGS": "always"}
    result = run_python(program, PYTHONPATH=str(package.parent), **environment)
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines(), result.stderr


@pytest.mark.parametrize(
    ("release", "commit", "tried", "why"),
    [
        ("2.13.0", "aaaa", ["torch_2_13.so"], "invalid ELF header"),
        ("2.15.0", "bbbb", ["torch_2_15.so"], "invalid ELF header"),
        ("2.15.0", "cccc", [], "a build of its own (of cccc)"),
        ("2.15.1", "cccc", [], "built for torch 2.13.0, 2.15.0, but this is torch 2.15.1"),
        ("2.16.0.dev20270101", "cccc", [], "this is torch 2.16.0.dev20270101"),
        ("2.13.0a0+git0123abc", "aaaa", [], "this is torch 2.13.0a0+git0123abc"),
    ],
)
def test_a_package_for_macs(run_python, simulator, package, release, commit, tried, why):
    """No bridge but this torch's is tried; without it one warning, and everything works."""
    mac_package(package)
    printed, warnings = loaded(run_python, package, release, commit)
    assert printed[0] == str(tried)
    assert why in printed[1] and "pip install" in printed[1]
    assert warnings.count("Warning") == 1 and why in warnings


def test_a_package_with_a_bridge_that_this_machine_can_load(run_python, simulator, package):
    """And `explain` needs no other part of it."""
    library = bridge_of(package).read_bytes()
    mac_package(package)
    (package / "_bridge" / "torch_2_15.so").write_bytes(library)
    record = json.loads((package / "build.json").read_text())
    record["bridges"][1]["sha256"] = hashlib.sha256(library).hexdigest()
    (package / "build.json").write_text(json.dumps(record))
    arguments = ["explain", "--input", "1,2,2,2,2", "--weight", "2,3,2,2,2"]
    explain = f"from mps_conv_transpose3d._cli import main\nassert main({arguments}) == 0"
    printed, warnings = loaded(run_python, package, "2.15.0", "bbbb", USE + explain)
    assert printed[-2:] == ["['torch_2_15.so']", "None"]
    assert any(line.startswith("forward: conv_transpose3d_forward_") for line in printed)
    assert warnings == ""
    printed, _ = loaded(run_python, package, "2.13.0", "aaaa", explain)
    assert any("there is no planner without a bridge" in line for line in printed)
