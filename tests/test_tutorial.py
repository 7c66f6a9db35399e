"""examples/unetr_tutorial.py, run as a user runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
pytestmark = pytest.mark.slow


def run(folder: Path, *options: str, report: Path | None = None, **environment: str) -> str:
    recorder = [str(EXAMPLES / "nnunet" / "recorded.py"), str(report)] if report else []
    command = [sys.executable, *recorder, str(EXAMPLES / "unetr_tutorial.py"), "--folder", str(folder), *options]
    # The simulator's checks are for the other tests: here it is speed that counts.
    environment = {**os.environ, "MPS_SIMULATOR_CHECKS": "0", **environment}
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("precision", "ending", "environment"),
    [
        ("float16", "_half", {}),
        # Before 2.8 there is no gradient scaling on mps, which bfloat16 does not need.
        ("bfloat16", "_bfloat", {"MPS_SIMULATOR_TORCH": "2.7"}),
    ],
)
def test_mixed_precision_runs_on_our_kernels(tmp_path, simulator, precision, ending, environment):
    report = tmp_path / "report.json"
    options = "--precision", precision, "--steps", "8", "--samples", "2", "--checkpointing"
    output = run(tmp_path, *options, report=report, **environment)
    assert "It worked" in output and "saved and loaded" in output
    recorded = json.loads(report.read_text())
    ours = {name for name in recorded["kernels"] if name.startswith("conv_transpose3d_")}
    assert ours and all(name.endswith(ending) for name in ours)
    # UNETR has 10 layers of the one and 22 of the other.
    calls = recorded["calls"]
    assert 22 * calls["ConvTranspose3d"] == 10 * calls["Conv3d"] > 0
    assert recorded["operators"]["aten::convolution_overrideable"] == calls["Conv3d"]


def test_float32_trains_as_on_the_cpu(tmp_path):
    losses = {}
    for device in ("mps", "cpu"):
        run(tmp_path / device, "--device", device, "--precision", "float32", "--steps", "6", "--samples", "2")
        losses[device] = json.loads((tmp_path / device / "losses.json").read_text())
    assert losses["mps"] == pytest.approx(losses["cpu"], rel=1e-2)


def test_resume_goes_on_after_the_last_step(tmp_path):
    options = "--precision", "bfloat16", "--samples", "1", "--feature-size", "4"
    run(tmp_path, *options, "--steps", "6")
    output = run(tmp_path, *options, "--steps", "8", "--resume")
    assert "going on after step 6" in output
    assert len(json.loads((tmp_path / "losses.json").read_text())) == 8
