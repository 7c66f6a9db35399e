"""What a person sees: the time of each step, what ran, how the predictions compare, the picture."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from commands import Step
from dataset import LABELS
from rich.console import Console
from rich.table import Table


@dataclass
class Prediction:
    """Class numbers [D, H, W], and the probability of each class, [classes, D, H, W]."""

    classes: np.ndarray
    probabilities: np.ndarray


def dice(a: np.ndarray, b: np.ndarray, number: int) -> float:
    """Overlap of one class: 1 is perfect, 0 is none; 1 where neither has it."""
    p, q = a == number, b == number
    total = p.sum() + q.sum()
    return 2 * float((p & q).sum()) / float(total) if total else 1.0


def show_steps(console: Console, steps: list[Step]) -> None:
    table = Table(
        "step", "seconds", "kernels that ran ConvTranspose3d", title="nnU-Net's commands", title_justify="left"
    )
    for step in steps:
        kernels = "\n".join(f"{count:5} x {name}" for name, count in sorted(step.kernels.items()))
        table.add_row(step.name, f"{step.seconds:.0f}", kernels or "-")
    console.print(table)


def show_comparison(console: Console, on_mps: Prediction, on_cpu: Prediction, truth: np.ndarray) -> None:
    table = Table("", "mps and CPU", "mps and truth", "CPU and truth", title="Prediction: Dice", title_justify="left")
    for name, number in LABELS.items():
        pairs = (on_mps.classes, on_cpu.classes), (on_mps.classes, truth), (on_cpu.classes, truth)
        table.add_row(name, *(f"{dice(a, b, number):.4f}" for a, b in pairs))
    console.print(table)


def agreement(on_mps: Prediction, on_cpu: Prediction) -> tuple[float, float, float]:
    """The share of voxels of the same class; how far probabilities differ, in all voxels but 0.1 %, and at most."""
    same = float((on_mps.classes == on_cpu.classes).mean())
    differences = np.abs(on_mps.probabilities - on_cpu.probabilities).max(0)
    return same, float(np.quantile(differences, 0.999)), float(differences.max())


def draw(path: Path, image: np.ndarray, truth: np.ndarray, on_mps: Prediction, on_cpu: Prediction, title: str) -> None:
    """The slice with most of the lesion."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt
    from matplotlib.colors import ListedColormap

    depth = int((truth == max(LABELS.values())).sum(axis=(1, 2)).argmax())
    overlay = ListedColormap(["#00000000", "#3aa7ffb0", "#ff8c1ad0"])
    panels = {"image": None, "truth": truth, "predicted on mps": on_mps.classes, "predicted on CPU": on_cpu.classes}
    figure, axes = plt.subplots(1, len(panels), figsize=(8, 2.5), layout="compressed")
    for axis, (name, classes) in zip(axes, panels.items()):
        axis.imshow(image[depth], cmap="gray")
        if classes is not None:
            axis.imshow(classes[depth], cmap=overlay, vmin=0, vmax=len(LABELS) - 1, interpolation="nearest")
        axis.set_title(name, fontsize=9)
        axis.set_axis_off()
    figure.suptitle(title, fontsize=10)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def passes(steps: list[Step]) -> int:
    """How many dispatches of our kernels the steps made."""
    total: Counter[str] = Counter()
    for step in steps:
        total.update(step.kernels)
    return sum(count for name, count in total.items() if name.startswith("conv_transpose3d_"))
