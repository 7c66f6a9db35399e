"""What a person sees: tables, the picture, the verdict."""

from __future__ import annotations

from pathlib import Path

import torch
from data import CLASSES, dice
from rich.console import Console
from rich.table import Table
from training import Run
from watch import CAN_RECORD, Call, Seen


def relative_difference(a: float, b: float) -> float:
    return abs(a - b) / max(abs(b), 1e-12)


def largest_difference(on_mps: Run, on_cpu: Run) -> tuple[float, int]:
    """Of the losses: the largest relative difference, and the step, from 1, where it is."""
    differences = [relative_difference(a, b) for a, b in zip(on_mps.losses, on_cpu.losses)]
    worst = max(range(len(differences)), key=differences.__getitem__)
    return differences[worst], worst + 1


def show_losses(console: Console, on_mps: Run, on_cpu: Run) -> None:
    table = Table("step", "mps", "CPU", "difference", title="Loss", title_justify="left")
    for column in table.columns:
        column.justify = "right"
    steps = len(on_mps.losses)
    worst = largest_difference(on_mps, on_cpu)[1]
    for step in sorted({*range(0, steps, max(1, steps // 6)), steps - 1, worst - 1}):
        a, b = on_mps.losses[step], on_cpu.losses[step]
        mark = "  <- largest" if step == worst - 1 else ""
        table.add_row(str(step + 1), f"{a:.6f}", f"{b:.6f}", f"{relative_difference(a, b):.1e}{mark}")
    console.print(table)


def dice_scores(run: Run, label: torch.Tensor) -> dict[str, float]:
    return {name: dice(run.prediction, label, number) for number, name in enumerate(CLASSES) if number}


def show_dice(console: Console, on_mps: Run, on_cpu: Run, label: torch.Tensor) -> None:
    table = Table("", "mps", "CPU", title="Dice on the unseen volume", title_justify="left")
    for name, score in dice_scores(on_mps, label).items():
        table.add_row(name, f"{score:.4f}", f"{dice_scores(on_cpu, label)[name]:.4f}")
    same = (on_mps.prediction == on_cpu.prediction).double().mean().item()
    table.add_row("same voxels", f"{100 * same:.2f} %", "")
    table.add_row("training", f"{on_mps.training_seconds:.0f} s", f"{on_cpu.training_seconds:.0f} s")
    table.add_row("inference", f"{on_mps.inference_seconds:.0f} s", f"{on_cpu.inference_seconds:.0f} s")
    console.print(table)


def show_calls(console: Console, calls: dict[Call, Seen]) -> None:
    table = Table("input", "weight", "stride", "forward", "backward", "ran on", title_justify="left")
    table.title = "ConvTranspose3d on device mps"
    for call, seen in sorted(calls.items(), key=lambda item: item[0].input):
        kernels = "\n".join(f"{count:4} x {name}" for name, count in sorted(seen.kernels.items()))
        table.add_row(
            "x".join(map(str, call.input)),
            "x".join(map(str, call.weight)),
            "x".join(map(str, call.stride)),
            str(seen.forward),
            str(seen.backward),
            kernels if CAN_RECORD else "the device",
        )
    console.print(table)


def draw(path: Path, image: torch.Tensor, label: torch.Tensor, on_mps: Run, on_cpu: Run) -> None:
    """Slices through the middle of the lesion, along two axes."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt
    from matplotlib.colors import ListedColormap

    center = [round(axis.double().mean().item()) for axis in torch.nonzero(label == len(CLASSES) - 1).T]
    overlay = ListedColormap(["#00000000", "#3aa7ffb0", "#ff8c1ad0"])
    columns = {
        "image": None,
        "label": label,
        "prediction on mps": on_mps.prediction,
        "prediction on CPU": on_cpu.prediction,
    }
    figure, rows = plt.subplots(2, 4, figsize=(8, 4.3), layout="compressed")
    for row, axis in zip(rows, (0, 1)):
        for panel, (title, classes) in zip(row, columns.items()):
            panel.imshow(image.select(axis, center[axis]), cmap="gray")
            if classes is not None:
                shown = classes.select(axis, center[axis])
                panel.imshow(shown, cmap=overlay, vmin=0, vmax=len(CLASSES) - 1, interpolation="nearest")
            if axis == 0:
                panel.set_title(title, fontsize=9)
            panel.set_axis_off()
    scores = ", ".join(f"{name} {score:.3f}" for name, score in dice_scores(on_mps, label).items())
    figure.suptitle(f"UNETR, trained on device mps: Dice {scores}", fontsize=10)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def complaints(
    on_mps: Run, on_cpu: Run, label: torch.Tensor, calls: dict[Call, Seen], tolerance: float, least_dice: float
) -> list[str]:
    """Why it did not work: empty where it did."""
    found = []
    if not calls:
        found.append("no ConvTranspose3d was met on device mps")
    for call, seen in calls.items():
        foreign = [name for name in seen.kernels if not name.startswith("conv_transpose3d_")]
        if foreign or (CAN_RECORD and not seen.kernels):
            found.append(f"{call.input} did not run on our kernels but on: {', '.join(foreign) or 'nothing seen'}")
    difference, step = largest_difference(on_mps, on_cpu)
    if not difference <= tolerance:
        found.append(f"the losses differ by {100 * difference:.2g} % at step {step}, more than {100 * tolerance:g} %")
    for name, score in dice_scores(on_mps, label).items():
        if not score >= least_dice:
            found.append(f"Dice of the {name} is {score:.3f}, below {least_dice}")
        if abs(score - dice_scores(on_cpu, label)[name]) > 0.05:
            found.append(f"Dice of the {name} differs from the CPU's by more than 0.05")
    return found
