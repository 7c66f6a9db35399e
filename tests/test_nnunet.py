"""nnU-Net's own console commands on device mps, as `make demo-nnunet` runs them."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("nnunetv2") is None, reason="tools/setup/setup.sh nnunetv2"),
]


def run_demo(folder: Path, *options: str, **environment: str) -> str:
    command = [sys.executable, str(ROOT / "examples" / "nnunet"), "--folder", str(folder), *options]
    # The simulator's checks are for the other tests: here it is speed that counts.
    environment = {**os.environ, "MPS_SIMULATOR_CHECKS": "0", **environment}
    done = subprocess.run(command, capture_output=True, text=True, timeout=1500, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (folder / "demo-nnunet.png").stat().st_size > 10_000
    return done.stdout


def recorded(folder: Path, step: str) -> dict[str, dict[str, int]]:
    return json.loads((folder / "logs" / f"{step}.json").read_text())


def ran(folder: Path, step: str, *operations: str) -> None:
    """Kernels of these operations ("forward", "weight_grad" and so on) ran, and no others of ours."""
    names = [name.removeprefix("conv_transpose3d_") for name in recorded(folder, step)["kernels"]]
    assert {operation for operation in operations for name in names if name.startswith(operation)} == set(operations)
    assert all(name.startswith(operations) for name in names)


def test_plan_train_and_predict_with_what_torch_2_7_had(tmp_path, simulator):
    assert "It worked" in run_demo(tmp_path, "--iterations", "5", MPS_SIMULATOR_TORCH="2.7")
    ran(tmp_path, "train_fold_0_on_mps", "forward", "input_grad", "weight_grad")
    ran(tmp_path, "predict_on_mps", "forward")
    # Three layers; five steps of training, one of validation, and then the eight mirrorings of a whole case.
    assert recorded(tmp_path, "train_fold_0_on_mps")["calls"]["ConvTranspose3d"] == 3 * (5 + 1 + 8)


def test_residual_encoder_and_an_ensemble_of_folds(tmp_path, simulator):
    assert "It worked" in run_demo(tmp_path, "--plans", "resenc", "--folds", "0", "1", "--iterations", "3")
    for fold in (0, 1):
        ran(tmp_path, f"train_fold_{fold}_on_mps", "forward", "input_grad", "weight_grad")
    ran(tmp_path, "predict_on_mps", "forward")
    # Three layers, eight mirrorings, two networks.
    assert recorded(tmp_path, "predict_on_mps")["calls"]["ConvTranspose3d"] == 3 * 8 * 2
