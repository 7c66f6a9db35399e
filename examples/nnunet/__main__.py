"""Runs nnU-Net's own commands on device mps (plan and preprocess, train, predict) and compares with the CPU.

    python examples/nnunet [--plans plain|resenc] [--folds 0 1 2] [--iterations N] ...

Exit status 0 means that it worked.
"""

from __future__ import annotations

import argparse
import shlex
import shutil
import sys
from pathlib import Path

import dataset
import numpy as np
import report
import torch
from commands import CommandError, NnUNet
from rich.console import Console

# The planner that makes the plans, and their name.
PLANS = {"plain": (None, "nnUNetPlans"), "resenc": ("nnUNetPlannerResEncM", "nnUNetResEncUNetMPlans")}


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="demo-nnunet", description=__doc__.splitlines()[0])
    parser.add_argument("--plans", choices=PLANS, default="plain", help="the network; default %(default)s")
    parser.add_argument("--folds", type=int, nargs="+", default=[0], help="trained, and predicted as one ensemble")
    parser.add_argument("--iterations", type=int, default=30, help="of training, for each fold; default %(default)s")
    parser.add_argument("--size", type=int, default=32, help="voxels a side of each image; default %(default)s")
    parser.add_argument("--device", default="mps", help="what to hold against the CPU; default %(default)s")
    parser.add_argument("--folder", type=Path, default=Path("build/demo-nnunet"), help="default %(default)s")
    parser.add_argument("--least-agreement", type=float, default=0.999, help="share of voxels; default %(default)s")
    # The networks agree to 1e-6, but nnU-Net sums logits in float16, weighted by a Gaussian that at a corner is
    # float16's smallest number, 2^-24. Where a sum falls on the other side of a rounding, a voxel's logit differs by a
    # unit in the last place: 0.004 between 4 and 8, but a whole 1 at a corner, and a probability by tanh(1/4) = 0.245.
    # Few voxels do: 4 of 32768 in each of two runs. `python examples/nnunet/precision.py` tells the two apart.
    parser.add_argument("--tolerance", type=float, default=1e-3, help="of 99.9 %% of the probabilities; %(default)s")
    parser.add_argument("--worst", type=float, default=0.25, help="difference of a probability; default %(default)s")
    return parser.parse_args()


def read_prediction(folder: Path, case: str) -> report.Prediction:
    # nnU-Net's arrays are [..., Z, Y, X]; NIfTI's are [X, Y, Z].
    probabilities = np.load(folder / f"{case}.npz")["probabilities"].transpose(0, 3, 2, 1)
    return report.Prediction(dataset.load(folder / f"{case}.nii.gz"), probabilities)


def run(arguments: argparse.Namespace, console: Console) -> list[str]:
    """Runs all steps and shows them; returns why it did not work, which is nothing where it did."""
    folder = arguments.folder.resolve()
    shutil.rmtree(folder, ignore_errors=True)
    nnunet = NnUNet(folder, arguments.iterations)
    dataset.make_dataset(nnunet.raw, arguments.size)
    planner, plans = PLANS[arguments.plans]
    images, outputs = nnunet.raw / dataset.NAME / "imagesTs", folder / "predictions"

    def tell(step) -> None:
        console.print(f"{step.seconds:4.0f} s  {shlex.join(step.words)}", soft_wrap=True, highlight=False)

    tell(nnunet.plan_and_preprocess(dataset.NUMBER, planner))
    for fold in arguments.folds:
        tell(nnunet.train(dataset.NUMBER, fold, plans, arguments.device))
    for device in (arguments.device, "cpu"):
        output = outputs / device
        tell(nnunet.predict(dataset.NUMBER, arguments.folds, plans, images, output, device))

    case = next(images.glob("*.nii.gz")).name.removesuffix("_0000.nii.gz")
    truth = dataset.load(nnunet.raw / dataset.NAME / "labelsTs" / f"{case}.nii.gz")
    on_mps, on_cpu = (read_prediction(outputs / device, case) for device in (arguments.device, "cpu"))
    report.show_steps(console, nnunet.steps)
    report.show_comparison(console, on_mps, on_cpu, truth)
    same, difference, worst = report.agreement(on_mps, on_cpu)
    picture = folder / "demo-nnunet.png"
    title = f"nnU-Net ({arguments.plans} plans) trained on device {arguments.device}"
    report.draw(picture, dataset.load(images / f"{case}_0000.nii.gz"), truth, on_mps, on_cpu, title)
    console.print(f"Picture: {picture}", soft_wrap=True)
    console.print(
        f"{100 * same:.3f} % of the voxels agree with the CPU's prediction from the same checkpoint;"
        f" probabilities differ by {difference:.1e} at most in 99.9 % of them, by {worst:.1e} in all.",
        soft_wrap=True,
    )
    ours = report.passes(nnunet.steps)
    if ours:
        console.print(f"{ours} dispatches of the kernels of mps-conv-transpose3d.")

    complaints = [f"{step.name}: {complaint}" for step in nnunet.steps for complaint in step.complaints]
    if not same >= arguments.least_agreement:
        complaints.append(f"only {100 * same:.3f} % of the voxels agree")
    if not difference <= arguments.tolerance:
        complaints.append(f"many probabilities differ by {difference:.2g}, more than {arguments.tolerance:g}")
    if not worst <= arguments.worst:
        complaints.append(f"a probability differs by {worst:.2g}, more than {arguments.worst:g}")
    if on_cpu.probabilities.std() < 0.01:
        complaints.append("the trained network says the same everywhere, so that nothing was compared")
    return complaints


def main() -> int:
    arguments = parse()
    console = Console(width=None if sys.stdout.isatty() else 130)
    if arguments.device == "mps" and not torch.backends.mps.is_available():
        console.print("It did not work: this machine has no device mps (`make setup` gives Linux a simulated one).")
        return 1
    console.print(f"nnU-Net, {arguments.plans} plans, on device {arguments.device}; torch {torch.__version__}")
    try:
        complaints = run(arguments, console)
    except CommandError as error:
        complaints = [str(error)]
    if complaints:
        console.print("[bold red]It did not work:[/] ", end="")
        console.print("; ".join(complaints), soft_wrap=True, markup=False, highlight=False)
        return 1
    console.print("[bold green]It worked:[/] nnU-Net planned, trained and predicted with its own commands.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
