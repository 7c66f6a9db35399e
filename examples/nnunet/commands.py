"""nnU-Net's console commands, as a user types them, in the environment that nnU-Net asks for."""

from __future__ import annotations

import importlib.util
import json
import os
import shlex
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).parent
# The simulator can tell what ran on the device; a Mac cannot.
CAN_RECORD = importlib.util.find_spec("mps_simulator") is not None


class CommandError(Exception):
    """A command failed; the message ends with the last lines that it printed."""


@dataclass
class Step:
    """A command that has run."""

    name: str
    words: list[str]
    seconds: float
    kernels: dict[str, int] = field(default_factory=dict)
    complaints: list[str] = field(default_factory=list)


def complaints_about(report: dict[str, dict[str, int]]) -> list[str]:
    """What ran elsewhere than it should: every ConvTranspose3d on our kernels, and the other convolutions natively."""
    calls, kernels, operators = report["calls"], report["kernels"], report["operators"]
    found = []
    ours = sum(count for name, count in kernels.items() if name.startswith("conv_transpose3d_forward"))
    if not 0 < calls.get("ConvTranspose3d", 0) <= ours:
        found.append(f"{calls.get('ConvTranspose3d', 0)} calls of ConvTranspose3d, but {ours} dispatches of its kernel")
    native = operators.get("aten::convolution_overrideable", 0)
    others = sum(count for name, count in calls.items() if name != "ConvTranspose3d")
    if native != others:
        found.append(f"{native} native convolutions for {others} calls of other layers")
    return found


class NnUNet:
    """The commands on one folder, each with its output in `folder`/logs."""

    def __init__(self, folder: Path, iterations: int) -> None:
        self.folder = folder
        self.raw = folder / "raw"
        self.results = folder / "results"
        self.steps: list[Step] = []
        self.environment = {
            **os.environ,
            "nnUNet_raw": str(self.raw),
            "nnUNet_preprocessed": str(folder / "preprocessed"),
            "nnUNet_results": str(self.results),
            # The trainer with fewer iterations than 1000 x 250.
            "nnUNet_extTrainer": str((HERE / "trainer").resolve()),
            "DEMO_ITERATIONS": str(iterations),
            # As few processes as this little data needs.
            "nnUNet_def_n_proc": "1",
            "nnUNet_npp": "1",
            "nnUNet_nps": "1",
        }
        (folder / "logs").mkdir(parents=True, exist_ok=True)

    def run(self, name: str, *words: str, **environment: str) -> Step:
        log = self.folder / "logs" / f"{name.replace(' ', '_')}.log"
        report = log.with_suffix(".json")
        command = [str(Path(sys.executable).with_name(words[0])), *words[1:]]
        on_mps = words[-2:] == ("-device", "mps")
        if CAN_RECORD and on_mps:
            command = [sys.executable, str(HERE / "recorded.py"), str(report), *command]
        started = time.monotonic()
        with log.open("w") as output:
            output.write(f"$ {shlex.join(words)}\n")
            output.flush()
            code = subprocess.call(
                command,
                env={**self.environment, **environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        step = Step(name, list(words), time.monotonic() - started)
        if code:
            end = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
            raise CommandError(f"{end}\n{shlex.join(words)} ended with status {code}; all that it printed: {log}")
        if CAN_RECORD and on_mps:
            recorded = json.loads(report.read_text())
            step.kernels = recorded["kernels"]
            step.complaints = complaints_about(recorded)
        self.steps.append(step)
        return step

    def plan_and_preprocess(self, dataset: int, planner: str | None) -> Step:
        words = ["nnUNetv2_plan_and_preprocess", "-d", str(dataset), "-c", "3d_fullres", "-npfp", "1", "-np", "1"]
        return self.run("plan and preprocess", *words, *(["-pl", planner] if planner else []))

    def train(self, dataset: int, fold: int, plans: str, device: str) -> Step:
        words = ["nnUNetv2_train", str(dataset), "3d_fullres", str(fold), "-p", plans, "-tr", "nnUNetTrainerShort"]
        # No processes for augmentation: it happens in the training's own.
        return self.run(f"train fold {fold} on {device}", *words, "-device", device, nnUNet_n_proc_DA="0")

    def predict(self, dataset: int, folds: list[int], plans: str, images: Path, output: Path, device: str) -> Step:
        words = ["nnUNetv2_predict", "-i", str(images), "-o", str(output), "-d", str(dataset), "-c", "3d_fullres"]
        words += ["-p", plans, "-tr", "nnUNetTrainerShort", "-f", *map(str, folds), "--save_probabilities"]
        return self.run(f"predict on {device}", *words, "-device", device, nnUNet_n_proc_DA="0")
