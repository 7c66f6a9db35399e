"""The steps of the workflow for hosted Macs, as far as they go here: the simulator plays Apple's compiler and GPU."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
RUNNER = Path("tools/mac/runner.sh")
SOURCES = ("CMakeLists.txt", "cmake", "csrc", "metal")

# `xcrun -sdk macosx metal ...` of an Xcode that knows Metal 3.0 and 3.1, once they are downloaded and chosen.
XCRUN = f"""#!{sys.executable}
import os, re, sys
from pathlib import Path

assert sys.argv[1:4] == ["-sdk", "macosx", "metal"], sys.argv
if os.environ.get("TOOLCHAINS") != "com.apple.dt.toolchain.Metal.32023.883":
    sys.exit("cannot execute tool 'metal' due to missing Metal Toolchain")
if sys.argv[4:] == ["--version"]:
    sys.exit(0)
options = dict(re.findall(r"-(std=metal|DELEMENT=|c |o )(\\S+)", " ".join(sys.argv)))
if options["std=metal"] not in ("3.0", "3.1"):
    sys.exit("invalid value in -std")
source = Path(options["c "]).read_text()
if source:
    import torch
    assert "-fno-fast-math" in sys.argv
    torch.mps.compile_shader("#define ELEMENT " + options["DELEMENT="] + "\\n" + source)
Path(options["o "]).write_text("")
"""
XCODEBUILD = f"""#!{sys.executable}
import sys
from pathlib import Path

downloaded = Path(__file__).with_name("downloaded")
if sys.argv[1:] == ["-downloadComponent", "MetalToolchain"]:
    downloaded.touch()
elif sys.argv[1:] == ["-showComponent", "MetalToolchain"] and downloaded.exists():
    print("Status: installed\\nToolchain Identifier: com.apple.dt.toolchain.Metal.32023.883")
else:
    sys.exit(1)
"""


@pytest.fixture
def kernels(tmp_path: Path):
    """`kernels()` runs the step in a copy of the sources, in tmp_path/source."""
    source, tools = tmp_path / "source", tmp_path / "tools"
    for name in SOURCES:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        source.mkdir(exist_ok=True)
        copy(ROOT / name, source / name)
    (source / RUNNER).parent.mkdir(parents=True)
    shutil.copy(ROOT / RUNNER, source / RUNNER)
    tools.mkdir()
    for name, text in (("xcrun", XCRUN), ("xcodebuild", XCODEBUILD)):
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    path = os.pathsep.join([str(tools), str(Path(sys.executable).parent), os.environ["PATH"]])

    def run() -> subprocess.CompletedProcess[str]:
        command = [source / RUNNER, "kernels"]
        return subprocess.run(command, env={**os.environ, "PATH": path}, capture_output=True, text=True)

    return run


def test_kernels_are_taken_in_each_version(kernels, simulator):
    result = kernels()
    assert result.returncode == 0, result.stderr
    told = [line for line in result.stdout.splitlines() if line.startswith("Metal ")]
    assert told == [
        "Metal 3.0: 12 texts accepted so far, 0 refused",
        "Metal 3.1: 30 texts accepted so far, 0 refused",
        *(f"Metal {version}: not known here" for version in ("3.2", "4.0", "4.1")),
    ]


def test_a_kernel_that_is_refused_fails_the_step(kernels, simulator, tmp_path):
    path = tmp_path / "source" / "metal" / "direct.metal"
    path.write_text(f'{path.read_text()}\nstatic_assert(sizeof(ELEMENT) == 4, "broken on purpose");\n')
    result = kernels()
    assert result.returncode == 1
    assert "broken on purpose" in result.stderr
    refused = re.findall("Metal (.*): .* refused, for (.*)", result.stdout)
    assert refused == [("3.0", "half"), ("3.1", "half"), ("3.1", "bfloat")]


def smoke(**environment: str) -> tuple[int, list[str], str]:
    """The exit code, the verdicts, and all that was said."""
    command = [sys.executable, ROOT / "tools" / "mac" / "smoke.py"]
    result = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True)
    return result.returncode, re.findall("^(ok|no) ", result.stdout, re.MULTILINE), result.stdout


def test_the_package_passes_on_the_gpu_of_a_virtual_machine(simulator):
    code, verdicts, said = smoke(MPS_SIMULATOR_GPU_FAMILY="5")
    assert (code, verdicts) == (0, ["ok"] * 9), said
    assert "Apple Paravirtual device" in said


def test_a_package_that_does_not_come_in_fails(simulator):
    """And without a device, what takes one is left out, by name."""
    code, verdicts, said = smoke(MPS_CONV_TRANSPOSE3D="0", MPS_SIMULATOR="0")
    assert (code, verdicts[:2]) == (1, ["no", "no"]), said
    assert len(verdicts) == 7
    assert said.endswith("left out, for want of a device: computing, invalid calls: PyTorch finds no device mps\n")


def test_workflows_are_in_order():
    linter = shutil.which("jactionlint", path=Path(sys.executable).parent)
    assert linter, "make setup installs it"
    result = subprocess.run([linter, "--shellcheck=", "--color=never"], cwd=ROOT, capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (0, ""), result.stdout + result.stderr


def test_workflows_run_steps_that_exist():
    script = (ROOT / RUNNER).read_text()
    steps = re.findall(r"^(\w+)\(\) \{", script, re.MULTILINE)
    workflows = [path.read_text() for path in (ROOT / ".github" / "workflows").glob("*.yml")]
    ran = {step for text in workflows for step in re.findall(rf"{RUNNER} (\w+)", text)}
    assert ran == {"machine", "kernels", "package", "refusals", "wheel", "doctor"} == ran & set(steps)


def test_the_wheel_is_used_beside_each_minor_version():
    sys.path.insert(0, str(ROOT / "tools" / "mac"))
    import wheels

    text = (ROOT / ".github" / "workflows" / "macos.yml").read_text()
    releases = re.findall(rf"{RUNNER} wheel ((?:[\d.]+ ?)+)\n", text)
    assert releases[0].split() == [last for *_, last in wheels.RELEASES]


def test_nothing_is_published_that_was_not_tested():
    yaml = pytest.importorskip("yaml")
    workflows = ROOT / ".github" / "workflows"
    release, macos = (yaml.safe_load((workflows / name).read_text())["jobs"] for name in ("release.yml", "macos.yml"))
    assert set(release) == {"macos", "publish"} and release["publish"]["needs"] == "macos"
    assert macos["compile"]["needs"] == "wheel" and "continue-on-error" not in macos["compile"]
    assert {name for name, job in macos.items() if job.get("continue-on-error")} == {"device"}
    assert all("upload" not in str(step) or "twine" in str(step) for step in release["publish"]["steps"])
    digest = "needs.macos.outputs.sha256"
    checked = [i for i, step in enumerate(release["publish"]["steps"]) if digest in str(step)]
    published = [i for i, step in enumerate(release["publish"]["steps"]) if "twine upload" in str(step)]
    assert checked and published and checked[0] < published[0]
