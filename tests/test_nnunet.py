"""nnU-Net's own commands on device mps: those of docs/nnunet-on-a-mac.md, and as `make demo-nnunet` runs them."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mps_conv_transpose3d import _cli
from nnunet_short import ITERATIONS, VALIDATIONS

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "nnunet-on-a-mac.md"
sys.path.append(str(ROOT / "examples" / "nnunet"))

needs_nnunet = pytest.mark.skipif(importlib.util.find_spec("nnunetv2") is None, reason="tools/setup/setup.sh nnunetv2")


def run_demo(folder: Path, *options: str, **environment: str) -> str:
    command = [sys.executable, str(ROOT / "examples" / "nnunet"), "--folder", str(folder), *options]
    # The simulator's checks are for the other tests: here it is speed that counts.
    environment = {**os.environ, "MPS_SIMULATOR_CHECKS": "0", **environment}
    done = subprocess.run(command, capture_output=True, text=True, timeout=1500, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (folder / "demo-nnunet.png").stat().st_size > 10_000
    return done.stdout


def recorded(report: Path) -> dict[str, dict[str, int]]:
    return json.loads(report.read_text())


def ran(report: Path, *operations: str) -> None:
    """Kernels of these operations ("forward", "weight_grad" and so on) ran, and no others of ours."""
    names = [name.removeprefix("conv_transpose3d_") for name in recorded(report)["kernels"]]
    assert {operation for operation in operations for name in names if name.startswith(operation)} == set(operations)
    assert all(name.startswith(operations) for name in names)


@pytest.mark.slow
@needs_nnunet
def test_residual_encoder_and_an_ensemble_of_folds(tmp_path, simulator):
    assert "It worked" in run_demo(tmp_path, "--plans", "resenc", "--folds", "0", "1", "--iterations", "3")
    for fold in (0, 1):
        ran(tmp_path / "logs" / f"train_fold_{fold}_on_mps.json", "forward", "input_grad", "weight_grad")
    prediction = tmp_path / "logs" / "predict_on_mps.json"
    ran(prediction, "forward")
    # Three layers, eight mirrorings, two networks.
    assert recorded(prediction)["calls"]["ConvTranspose3d"] == 3 * 8 * 2


# --- docs/nnunet-on-a-mac.md ---


def commands_of_page() -> dict[int, str]:
    """By the number of their step."""
    steps = re.findall(r"^\*\*(\d+)\. .*?^```bash\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    return {int(number): commands for number, commands in steps}


def test_the_page_has_ten_steps():
    assert list(commands_of_page()) == list(range(1, 11))


def test_the_page_installs_what_there_is():
    """Step 3's wheel is tests/test_documents.py's matter."""
    words = shlex.split(commands_of_page()[2])
    assert words[:2] == ["pip", "install"]
    assert all(importlib.metadata.version(name) for name in words[2:])


def test_the_page_asks_the_doctor():
    words = shlex.split(commands_of_page()[4])
    assert words[:4] == ["python", "-m", "mps_conv_transpose3d", "doctor"]
    _cli._parser().parse_args(words[3:])  # ends the process where it cannot


def make_task(folder: Path, size: int = 32) -> None:
    """A dataset in the form of the Medical Segmentation Decathlon: five cases to train on, and one to predict."""
    from dataset import make_case, save

    generator = np.random.default_rng(0)
    names = [f"case_{number:03}.nii.gz" for number in range(6)]
    for name in names:
        image, labels = make_case(size, generator)
        save(image, folder / ("imagesTs" if name == names[-1] else "imagesTr") / name)
        if name != names[-1]:
            save(labels, folder / "labelsTr" / name)
    description = {
        "name": "Hippocampus",
        "tensorImageSize": "3D",
        "modality": {"0": "MRI"},
        "labels": {"0": "background", "1": "Anterior", "2": "Posterior"},
        "numTraining": 5,
        "numTest": 1,
        "training": [{"image": f"./imagesTr/{name}", "label": f"./labelsTr/{name}"} for name in names[:-1]],
        "test": [f"./imagesTs/{names[-1]}"],
    }
    (folder / "dataset.json").write_text(json.dumps(description))


def stand_in(command: str, folder: Path) -> None:
    """Puts a script of this name into `folder`, which runs the command with short epochs and a report on mps."""
    real = Path(sys.executable).with_name(command)
    lines = [
        "#!/bin/bash",
        "export nnUNet_n_proc_DA=0",  # no processes for augmentation: it happens in the training's own
        f'for report in {{1..9}}; do [ -e "$HOME/{command}-$report.json" ] || break; done',
        f'exec "{sys.executable}" "{ROOT}/tests/nnunet_short.py" "$HOME/{command}-$report.json" "{real}" "$@"',
    ]
    folder.mkdir(exist_ok=True)
    (folder / command).write_text("\n".join(lines) + "\n")
    (folder / command).chmod(0o755)


@pytest.mark.slow
@needs_nnunet
def test_the_page_with_what_torch_2_7_had(tmp_path, simulator):
    """Steps 5 to 10, as bash runs them, and the last once more on the CPU."""
    make_task(tmp_path / "Downloads" / "Task04_Hippocampus")
    stand_ins = tmp_path / "stand_ins"
    for command in ("nnUNetv2_train", "nnUNetv2_predict"):
        stand_in(command, stand_ins)
    steps = commands_of_page()
    on_cpu = steps[10].replace("-device mps", "-device cpu").replace("~/nnunet/predictions", "~/on-cpu")
    environment = {
        **os.environ,
        "HOME": str(tmp_path),
        "XDG_CACHE_HOME": os.environ.get("XDG_CACHE_HOME", str(Path.home() / ".cache")),  # the simulator's kernels
        "PATH": os.pathsep.join([str(stand_ins), str(Path(sys.executable).parent), os.environ["PATH"]]),
        "MPS_SIMULATOR_TORCH": "2.7",
        "MPS_SIMULATOR_CHECKS": "0",
        # As few processes as this little data needs.
        **dict.fromkeys(("nnUNet_def_n_proc", "nnUNet_npp", "nnUNet_nps"), "1"),
    }
    script = "\n".join([*(steps[number] for number in range(5, 11)), on_cpu])
    done = subprocess.run(
        ["bash", "-euc", script], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=1500
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]

    from commands import complaints_about
    from dataset import load

    first, whole, prediction = (
        tmp_path / name for name in ("nnUNetv2_train-1.json", "nnUNetv2_train-2.json", "nnUNetv2_predict-1.json")
    )
    for report in (first, whole, prediction):
        assert complaints_about(recorded(report)) == []
    ran(first, "forward", "input_grad", "weight_grad")
    ran(whole, "forward", "input_grad", "weight_grad")
    ran(prediction, "forward")
    # Three layers; steps of training, of validation, and then the eight mirrorings of a whole case.
    assert recorded(whole)["calls"]["ConvTranspose3d"] == 3 * (ITERATIONS + VALIDATIONS + 8)
    (segmentation,) = (tmp_path / "nnunet" / "predictions").glob("*.nii.gz")
    on_mps, on_cpu = load(segmentation), load(tmp_path / "on-cpu" / segmentation.name)
    assert (on_mps == on_cpu).mean() > 0.999
    assert len(np.unique(on_mps)) > 1, "the network says the same everywhere, so that nothing was compared"
