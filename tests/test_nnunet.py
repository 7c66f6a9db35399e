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
    done = subprocess.run(command, capture_output=True, text=True, timeout=1500, env={**os.environ, **environment})
    assert done.returncode == 0, done.stdout + done.stderr
    assert (folder / "demo-nnunet.png").stat().st_size > 10_000
    return done.stdout


def recorded(folder: Path, step: str) -> dict[str, dict[str, int]]:
    return json.loads((folder / "logs" / f"{step}.json").read_text())


def operations(report: dict[str, dict[str, int]]) -> set[str]:
    """Of our kernels: "forward", "input_grad" and so on."""
    ours = [name for name in report["kernels"] if name.startswith("conv_transpose3d_")]
    return {name.removeprefix("conv_transpose3d_").rpartition("_")[0] for name in ours}


def test_plan_train_and_predict_run_on_our_kernels(tmp_path, simulator):
    output = run_demo(tmp_path, "--iterations", "5")
    assert "It worked" in output
    training = recorded(tmp_path, "train_fold_0_on_mps")
    assert operations(training) >= {"forward", "input_grad", "weight_grad", "bias_grad"}
    assert operations(recorded(tmp_path, "predict_on_mps")) == {"forward"}
    # Three layers; five steps of training, one of validation, and then the eight mirrorings of a whole case.
    assert training["calls"]["ConvTranspose3d"] == 3 * (5 + 1 + 8)


def test_residual_encoder_and_an_ensemble_of_folds_with_what_torch_2_7_had(tmp_path, simulator):
    options = "--plans", "resenc", "--folds", "0", "1", "--iterations", "3"
    assert "It worked" in run_demo(tmp_path, *options, MPS_SIMULATOR_TORCH="2.7")
    for fold in (0, 1):
        assert operations(recorded(tmp_path, f"train_fold_{fold}_on_mps")) >= {"forward", "input_grad", "weight_grad"}
    prediction = recorded(tmp_path, "predict_on_mps")
    assert operations(prediction) == {"forward"}
    # Three layers, eight mirrorings, two networks.
    assert prediction["calls"]["ConvTranspose3d"] == 3 * 8 * 2
