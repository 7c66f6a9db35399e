"""A picture of the records: useful work against intensity, under each chip's roof."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np

from chips import Chip
from model import limit_of
from problem import OPS
from records import Record

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.ticker import NullFormatter

MARKERS = dict(zip(OPS, "os^"))


def intensity(record: Record) -> float:
    """Useful floating-point operations per compulsory byte."""
    return 2 * record.useful_fma / record.compulsory_bytes


def draw_axes(axes: plt.Axes, records: Sequence[Record], chip: Chip, dtype: str) -> None:
    span = np.geomspace(min(map(intensity, records)) / 1.5, 1.5 * max(map(intensity, records)), 200)
    roof = [2e-9 * 1e9 / limit_of(1e9, 2e9 / x, chip).ms for x in span]
    axes.plot(span, roof, color="black", label="limit")
    for op, marker in MARKERS.items():
        ours = [r for r in records if r.op == op and not r.peer]
        speeds = [2e-9 * r.useful_fma / r.modelled_ms for r in ours]
        axes.scatter(list(map(intensity, ours)), speeds, marker=marker, s=18, alpha=0.7, label=op.replace("_", " "))
    axes.set(xscale="log", yscale="log", title=f"{chip.name}, {dtype}", xlabel="useful FLOP per compulsory byte")
    axes.xaxis.set_minor_formatter(NullFormatter())  # of a short axis their labels run into each other
    axes.grid(True, which="both", alpha=0.2)


def draw(records: Sequence[Record], chips: Sequence[Chip], path: Path) -> None:
    """One axis for each chip and dtype. Modelled, not measured."""
    dtypes = list(dict.fromkeys(record.dtype for record in records))
    figure, grid = plt.subplots(
        len(dtypes), len(chips), figsize=(6 * len(chips), 4.2 * len(dtypes)), squeeze=False, layout="constrained"
    )
    for row, dtype in zip(grid, dtypes):
        for axes, chip in zip(row, chips):
            chosen = [r for r in records if r.chip == chip.name and r.dtype == dtype]
            draw_axes(axes, chosen, chip, dtype)
        row[0].set_ylabel("useful TFLOP/s")
    grid[0][0].legend(loc="lower right")
    figure.suptitle("ConvTranspose3d of 17 networks: modelled, not measured")
    figure.savefig(path, dpi=110)
    plt.close(figure)
