"""Trains MONAI's UNETR on device mps and on the CPU from the same seed, and shows both side by side.

    python examples/demo [--steps N] [--size N] [--feature-size N] ...

Exit status 0 means that it worked.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import warnings
from pathlib import Path

warnings.filterwarnings("ignore", module=r"(monai|torchvision)\.")

import report  # noqa: E402
import torch  # noqa: E402
from data import make_volume  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn  # noqa: E402
from training import Run, Settings, train_and_segment  # noqa: E402
from watch import ConvTranspose3dWatcher  # noqa: E402


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="demo", description=__doc__.splitlines()[0])
    for field in dataclasses.fields(Settings):
        name = "--" + field.name.replace("_", "-")
        parser.add_argument(name, type=type(field.default), default=field.default, help="default %(default)s")
    parser.add_argument("--picture", type=Path, default=Path("build/demo/demo.png"), help="default %(default)s")
    parser.add_argument("--tolerance", type=float, default=0.02, help="of the losses, relative; default %(default)s")
    parser.add_argument("--least-dice", type=float, default=0.6, help="that counts as learnt; default %(default)s")
    return parser.parse_args()


def run_on(device: str, settings: Settings, image: torch.Tensor, console: Console) -> Run:
    """With a live bar on a terminal, and a line now and then elsewhere."""
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(f"{device:>3}", total=settings.steps)

        def on_step(phase: str, step: int, loss: float | None) -> None:
            words = f"{device:>3}  {phase}" + ("" if loss is None else f"  loss {loss:.4f}")
            progress.update(task, completed=step, description=words)
            if not console.is_terminal and (loss is None or step % max(1, settings.steps // 4) == 0):
                console.print(words + ("" if loss is None else f"  step {step}/{settings.steps}"), highlight=False)

        return train_and_segment(settings, device, image, on_step)


def main() -> int:
    arguments = parse()
    console = Console(width=None if sys.stdout.isatty() else 130)
    if not torch.backends.mps.is_available():
        console.print("It did not work: this machine has no device mps (`make setup` gives Linux a simulated one).")
        return 1
    settings = Settings(**{field.name: getattr(arguments, field.name) for field in dataclasses.fields(Settings)})
    generator = torch.Generator().manual_seed(settings.seed + 1)
    image, label = make_volume((settings.volume,) * 3, generator)

    name = getattr(torch.backends.mps, "get_name", lambda: "this Mac")()  # absent before torch 2.9
    console.print(f"UNETR on {name} (device mps), then on the CPU; torch {torch.__version__}", highlight=False)
    watcher = ConvTranspose3dWatcher()
    with watcher:
        on_mps = run_on("mps", settings, image, console)
    on_cpu = run_on("cpu", settings, image, console)

    report.show_calls(console, watcher.calls)
    report.show_losses(console, on_mps, on_cpu)
    report.show_dice(console, on_mps, on_cpu, label[0])
    report.draw(arguments.picture, image[0], label[0], on_mps, on_cpu)
    console.print(f"Picture: {arguments.picture}\n")

    complaints = report.complaints(on_mps, on_cpu, label[0], watcher.calls, arguments.tolerance, arguments.least_dice)
    if complaints:
        console.print("[bold red]It did not work:[/] " + "; ".join(complaints) + ".", soft_wrap=True)
        return 1
    difference, step = report.largest_difference(on_mps, on_cpu)
    scores = ", ".join(f"{name} {score:.3f}" for name, score in report.dice_scores(on_mps, label[0]).items())
    count = sum(seen.forward + seen.backward for seen in watcher.calls.values())
    console.print(
        f"[bold green]It worked:[/] UNETR trained and segmented on device mps. {count} passes of ConvTranspose3d over"
        f" {len(watcher.calls)} shapes ran there, the losses differ from the CPU's by {100 * difference:.2g} % at most"
        f" (step {step}), Dice {scores}.",
        soft_wrap=True,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
