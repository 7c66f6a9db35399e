"""The demo runs, and does not claim success where there is none."""

import os
import subprocess
import sys
from pathlib import Path

DEMO = Path(__file__).resolve().parents[1] / "examples" / "demo"
SMALL = ["--steps", "2", "--volume", "32", "--feature-size", "4", "--hidden-size", "16"]


def run(picture: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, DEMO, *SMALL, "--picture", picture, *arguments]
    return subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=600)


def test_demo_works(tmp_path):
    picture = tmp_path / "pictures" / "demo.png"
    result = run(picture, "--least-dice", "0")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "It worked: UNETR trained and segmented on device mps." in result.stdout
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert result.stderr == ""


def test_demo_says_that_nothing_was_learnt(tmp_path):
    result = run(tmp_path / "demo.png", "--least-dice", "1.1")
    assert result.returncode == 1
    assert "It did not work: Dice of the organ is" in result.stdout


def test_demo_says_when_other_kernels_ran(tmp_path, simulator):
    result = run(tmp_path / "demo.png", "--least-dice", "0", MPS_CONV_TRANSPOSE3D="0")
    assert result.returncode == 1
    assert "did not run on our kernels but on: aten::convolution" in result.stdout
