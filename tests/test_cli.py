"""`python -m mps_conv_transpose3d doctor | bench | explain`."""

from __future__ import annotations

import getpass
import importlib
import json
import math
import platform
import shutil
import socket
from pathlib import Path

import pytest
import torch
from conftest import bridge_of

import mps_conv_transpose3d
from cases import BY_NAME, DTYPES
from mps_conv_transpose3d import _accuracy, _bench, _cli, _doctor, _machine, _operators, _planner, _switch

RUN = "import sys; from mps_conv_transpose3d._cli import main; sys.exit(main({}))"
TINY = ["--input", "1,2,2,2,2", "--weight", "2,3,2,2,2", "--stride", "2", "--seconds", "0.001"]


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "250")


def run(*arguments: str) -> int:
    try:
        return _cli.main(arguments)
    except SystemExit as ending:
        return int(ending.code or 0)


@pytest.fixture
def one_case(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests of what the doctor makes of a finding."""
    monkeypatch.setattr(_doctor, "CASES", _doctor.CASES[-1:])
    monkeypatch.setattr(_doctor, "BY_EVERY_ALGORITHM", [])


# --- doctor ---


def test_doctor_is_content(capsys):
    assert run("doctor") == 0
    output = capsys.readouterr().out
    assert output.splitlines()[-1] == "ready"
    assert torch.__version__ in output
    assert "our kernels" in output
    for dtype in DTYPES:
        assert f"{dtype}" in output
    assert "Against the CPU" in output


@pytest.mark.parametrize("network", ["nnunet", "unetr"])
def test_doctor_on_a_network(network, capsys, one_case):
    assert run("doctor", "--network", network, "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["verdict"] == "ready"
    assert report["serving"] == "kernels"
    assert report["network"]["missing_operators"] == []
    assert report["network"]["training_bytes"] > report["network"]["inference_bytes"] > 1e9
    assert [check["served_by"] for check in report["checks"]] == ["kernels"] * 3


def test_doctor_runs_every_kernel(record):
    """All that any case is computed by, on any GPU."""
    with record() as recording:
        report = _doctor.examine()
    for check in report.checks:
        assert set(check.worst) == set(_accuracy.RESULTS)
        assert all(worst <= 1 for worst in check.worst.values())
    cases = [case for case in BY_NAME.values() if case.input[0] > 0]
    plans = [_planner.plans(case, dtype, cores) for case in cases for dtype in DTYPES for cores in (1, 8, 38, 80)]
    planned = {dispatch.kernel for found in plans for plan in found.values() for dispatch in plan.dispatches}
    assert set(recording.kernels) >= planned


def test_doctor_names_a_wrong_result(monkeypatch, capsys, one_case):
    right = _accuracy.run

    def wrong(case, tensors):
        results = right(case, tensors)
        if tensors["input"].device.type == "mps" and tensors["input"].dtype == torch.float16:
            results["weight gradient"] += 1
        return results

    monkeypatch.setattr(_accuracy, "run", wrong)
    assert run("doctor") == 1
    assert "not ready because float16 fails (dilation, groups, no bias: weight gradient" in capsys.readouterr().out


def test_doctor_does_not_take_nan_for_right(monkeypatch, capsys, one_case):
    right = _accuracy.run

    def wrong(case, tensors):
        results = right(case, tensors)
        if tensors["input"].device.type == "mps":
            results["output"].flatten()[-1] = math.nan
        return results

    monkeypatch.setattr(_accuracy, "run", wrong)
    assert run("doctor", "--json") == 1
    assert "float32 fails" in json.loads(capsys.readouterr().out)["verdict"]


def test_doctor_names_missing_operators(monkeypatch, capsys, one_case):
    facts = {**_doctor.networks()["unetr"], "operators": ["add.Tensor", "_adaptive_avg_pool3d"]}
    monkeypatch.setattr(_doctor, "networks", lambda: {"unetr": facts})
    monkeypatch.delenv("PYTORCH_ENABLE_MPS_FALLBACK", raising=False)
    assert run("doctor", "--network", "unetr") == 3
    output = capsys.readouterr().out
    assert output.splitlines()[-1] == "ready with PYTORCH_ENABLE_MPS_FALLBACK=1"
    assert "_adaptive_avg_pool3d" in output
    monkeypatch.setenv("PYTORCH_ENABLE_MPS_FALLBACK", "1")
    assert run("doctor", "--network", "unetr") == 0


def test_doctor_compares_memory(monkeypatch, capsys, one_case):
    monkeypatch.setattr(_machine, "usable_memory", lambda: 5_000_000_000)
    assert run("doctor", "--network", "nnunet") == 1
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("not ready because a training step needs 9.5 GB, more than the 8.5 GB")
    assert run("doctor", "--network", "unetr") == 0
    monkeypatch.setattr(_machine, "usable_memory", lambda: 2_500_000_000)
    assert run("doctor", "--network", "unetr") == 0
    assert "take a smaller batch or patch" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("system", "macos", "version", "warned"),
    [
        ("Darwin", "26.2", "2.14.0", True),
        ("Darwin", "26.2.1", "2.15.0+cpu", True),
        ("Darwin", "26.2", "2.13.1", False),
        ("Darwin", "26.3", "2.15.0", False),
        ("Darwin", "15.2", "2.15.0", False),
        ("Linux", "", "2.15.0", False),
    ],
)
def test_doctor_warns_of_pytorchs_wrong_conv3d(monkeypatch, one_case, system, macos, version, warned):
    report = _doctor.examine()
    monkeypatch.setattr(platform, "system", lambda: system)
    monkeypatch.setattr(platform, "mac_ver", lambda: (macos, ("", "", ""), "arm64"))
    monkeypatch.setattr(torch, "__version__", version)
    assert any("197114" in advice for advice in _doctor._advice(report)) == warned


def test_doctors_json_names_no_folder(run_python, package):
    """A hospital sends it."""
    bridge_of(package).write_bytes(b"no library")
    result = run_python(RUN.format(["doctor", "--json"]), PYTHONPATH=str(package.parent))
    report = json.loads(result.stdout)
    assert f"{bridge_of(package).name}: not the file that was installed" in report["bridge_error"]
    for word in (str(package.parent), str(Path.home()), getpass.getuser() + "/", socket.gethostname()):
        assert word not in result.stdout.replace("\\/", "/")


def test_doctor_without_a_device(run_python, simulator):
    result = run_python(RUN.format(["doctor", "--network", "nnunet"]), MPS_SIMULATOR="0")
    assert result.returncode == 1, result.stderr
    assert result.stdout.splitlines()[-1].startswith("not ready because this PyTorch has no mps device")
    assert "9.5 GB" in result.stdout


def test_doctor_when_switched_off(run_python):
    result = run_python(RUN.format(["doctor"]), MPS_CONV_TRANSPOSE3D="0")
    assert "unset it" in result.stdout
    assert "ConvTranspose 3D with BF16 or FP16 types is not supported on MPS" in result.stdout
    assert result.returncode == 0  # float32 is all that PyTorch promises


def test_doctor_where_pytorch_lacks_the_operation(run_python, simulator):
    result = run_python(RUN.format(["doctor"]), MPS_CONV_TRANSPOSE3D="0", MPS_SIMULATOR_TORCH="2.7")
    assert result.returncode == 1
    assert "not ready because float32 fails" in result.stdout


def test_doctor_with_a_broken_bridge(run_python, tmp_path):
    package = Path(mps_conv_transpose3d.__file__).parent
    shutil.copytree(package, tmp_path / package.name)
    bridge_of(tmp_path / package.name).write_bytes(b"no library")
    result = run_python(RUN.format(["doctor"]), PYTHONPATH=str(tmp_path), PYTHONWARNINGS="always")
    assert result.returncode == 0, result.stderr
    assert "plain PyTorch operations" in result.stdout
    assert "pip install --force-reinstall" in result.stdout
    assert "Warning" not in result.stderr


# --- operators ---


def test_operators_on_mps_are_those_torchgen_finds():
    """The line reader against PyTorch's own reader of the same list."""
    pytest.importorskip("yaml")
    from torchgen.gen import parse_native_yaml
    from torchgen.model import DispatchKey

    path = _operators.native_functions()
    parsed = parse_native_yaml(str(path), str(path.with_name("tags.yaml")))
    by_name = {function.func.name: function for function in parsed.native_functions}
    mps = parsed.backend_indices[DispatchKey.MPS]

    def is_missing(function) -> bool:
        owner = by_name[function.structured_delegate] if function.structured_delegate else function
        return not function.has_composite_kernel and not mps.has_kernel(owner)

    names = [str(function.func.name) for function in parsed.native_functions]
    expected = [str(function.func.name) for function in parsed.native_functions if is_missing(function)]
    assert len(expected) > 100
    assert _operators.missing_on_mps(names, path) == sorted(expected)


# --- bench ---


def test_bench_measures_all_paths(capsys, tmp_path):
    numbers, picture = tmp_path / "numbers.json", tmp_path / "picture.png"
    before = _switch.serving()
    assert run("bench", *TINY, "--dtype", "float32", "float16", "--json", str(numbers), "--png", str(picture)) == 0
    assert _switch.serving() == before
    output = capsys.readouterr().out
    assert "1x2x2x2x2 to 3, k2 s2" in output
    assert "PyTorch, float16: ConvTranspose 3D with BF16 or FP16 types is not supported on MPS" in output
    results = json.loads(numbers.read_text())
    measured = {(m["path"], m["dtype"], m["operation"]) for m in results["measurements"] if m["median"]}
    everything = {(p, d, o) for p in _bench.PATHS for d in ("float32", "float16") for o in _bench.PASSES}
    assert everything - measured == {("native", "float16", o) for o in _bench.PASSES}
    assert results["machine"]["device"] == _machine.device_name()
    assert all(m["extra_bytes"] is not None for m in results["measurements"] if m["path"] == "kernels")
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_bench_takes_each_path(record):
    """What is timed is what it is called."""
    ran = {}
    for path in ("kernels", "composite", "native"):
        with record() as recording:
            _bench.run([BY_NAME["groups"]], ["float32"], [path], seconds=0.001)
        ran[path] = (bool(recording.ours), bool(recording.native_convolutions))
    assert ran == {"kernels": (True, False), "composite": (False, False), "native": (False, True)}


def test_bench_says_that_a_simulation_is_one(simulator, capsys):
    run("bench", *TINY, "--path", "cpu")
    assert "The device is simulated: these times tell nothing about a Mac" in capsys.readouterr().out


def test_bench_times_nothing_wrong(monkeypatch, capsys):
    right = _accuracy.run

    def wrong(case, tensors):
        results = right(case, tensors)
        if tensors["input"].device.type == "mps":
            results["output"] += 0.01
        return results

    monkeypatch.setattr(_accuracy, "run", wrong)
    assert run("bench", *TINY, "--path", "kernels") == 1
    assert "wrong output: off by 0.01" in capsys.readouterr().out


def test_bench_on_a_networks_calls(capsys):
    assert run("bench", "--network", "unetr 96", "--voxels", "1", "--path", "cpu", "--seconds", "0") == 0
    assert "1x768x1x1x1 to 384, k2 s2" in capsys.readouterr().out


def test_bench_lists_networks(capsys):
    assert run("bench", "--list") == 0
    assert "nnU-Net PlainConvUNet 3d_fullres 128^3 b2" in capsys.readouterr().out


def test_bench_without_a_device(run_python, simulator):
    result = run_python(RUN.format(["bench", *TINY]), MPS_SIMULATOR="0")
    assert result.returncode == 1
    assert "no mps device" in result.stderr


# --- explain ---


def test_explain_needs_no_device(run_python, simulator):
    arguments = ["explain", "--input", "2,64,64,64,64", "--weight", "64,32,2,2,2", "--stride", "2"]
    result = run_python(RUN.format(arguments), MPS_SIMULATOR="0")
    assert result.returncode == 0, result.stderr
    assert "to [2, 32, 128, 128, 128]" in result.stdout
    assert "17.2 GFLOP" in result.stdout
    for name in ("forward", "input_grad", "weight_grad"):
        assert f"\n{name.replace('_', ' ')}: conv_transpose3d_{name}" in result.stdout
    assert "\nbias grad: summed by the kernels of the weight gradient" in result.stdout


def test_explain_for_another_gpu(capsys):
    arguments = ["explain", "--input", "1,64,8,8,8", "--weight", "64,64,2,2,2", "--stride", "2"]
    texts = {}
    for cores in (8, 38):
        assert run(*arguments, "--cores", str(cores)) == 0
        texts[cores] = capsys.readouterr().out
    assert "On a GPU of 38 cores:" in texts[38]
    plans = [text.split("forward:")[1] for text in texts.values()]
    assert plans[0] != plans[1]


def test_explain_a_bias_gradient_of_its_own(capsys):
    assert run("explain", "--input", "1,8,4,4,4", "--weight", "8,8,3,3,3", "--stride", "2") == 0
    assert "\nbias grad: conv_transpose3d_bias_grad_direct_float" in capsys.readouterr().out


def test_explain_leaves_to_pytorch_what_is_too_large(capsys):
    assert run("explain", "--input", "1,1,2048,2048,2048", "--weight", "1,1,1,1,1") == 0
    assert "Left to PyTorch's own operator" in capsys.readouterr().out


# --- mistakes ---


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["explain", "--input", "1,2,x", "--weight", "2,3,2,2,2"], "numbers separated by commas"),
        (
            ["explain", "--input", "1,2,2,2,2", "--weight", "2,3,2,2,2", "--stride", "2,2"],
            "neither one number nor three",
        ),
        (
            ["explain", "--input", "1,5,2,2,2", "--weight", "2,3,2,2,2"],
            "to have 2 channels, but got 5 channels instead",
        ),
        (
            ["explain", "--input", "1,2,2,2,2", "--weight", "2,3,2,2,2", "--output-padding", "1"],
            "output padding must be",
        ),
        (["explain", "--input", "1,2", "--weight", "2,3,2,2,2"], "xpected"),
        (["bench", "--input", "1,2,2,2,2"], "--input and --weight go together"),
        (["bench", "--network", "AlexNet"], "no network is called AlexNet; --list"),
        (["bench", *TINY, "--voxels", "0"], "not a positive number"),
        (["bench", *TINY, "--json", "/nowhere/at/all.json"], "there is no folder /nowhere/at"),
        (["doctor", "--network", "alexnet"], "invalid choice"),
        ([], "required"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_mistakes(arguments, words, capsys):
    assert run(*arguments) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("module", "arguments"),
    [("rich", ["doctor"]), ("rich", ["bench", *TINY]), ("matplotlib", ["bench", *TINY, "--png", "x.png"])],
    ids=["doctor", "bench", "picture"],
)
def test_what_is_not_installed_is_named(run_python, module, arguments):
    program = f"import sys; sys.modules[{module!r}] = None\n" + RUN.format(arguments)
    result = run_python(program)
    assert result.returncode == 2
    assert f"needs {module}: pip install 'mps-conv-transpose3d[cli]'" in result.stderr
    assert "Traceback" not in result.stderr


def test_json_and_explain_need_neither(run_python):
    block = "import sys; sys.modules['rich'] = sys.modules['matplotlib'] = None\n"
    # Switched off, for here it is not about the kernels, and compiling them anew takes long.
    assert run_python(block + RUN.format(["doctor", "--json"]), MPS_CONV_TRANSPOSE3D="0").returncode == 0
    explain = ["explain", "--input", "1,2,2,2,2", "--weight", "2,3,2,2,2"]
    assert run_python(block + RUN.format(explain)).returncode == 0


@pytest.mark.parametrize("command", [[], ["doctor"], ["bench"], ["explain"]], ids=lambda c: " ".join(c) or "all")
def test_help(run_python, command):
    run_module = "runpy.run_module('mps_conv_transpose3d', run_name='__main__')"
    result = run_python(f"import runpy, sys; sys.argv = ['m', *{command}, '--help']; {run_module}")
    assert result.returncode == 0
    assert "usage: python -m mps_conv_transpose3d" in result.stdout


# --- what the doctor knows of networks ---


@pytest.mark.slow
@pytest.mark.parametrize(("name", "kind"), [("nnunet", "NnUNet"), ("unetr", "Unetr")])
def test_listed_operators_are_those_that_are_called(name, kind, monkeypatch):
    """networks.json is made by tools/networks.py: it is made anew when the programs or torch change."""
    pytest.importorskip("nnunetv2" if name == "nnunet" else "monai")
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "tools"))
    networks = importlib.import_module("networks")
    assert _doctor.networks()[name]["operators"] == networks.operators(getattr(networks, kind))
