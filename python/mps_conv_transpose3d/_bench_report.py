"""Measurements as a table and as a picture."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from ._bench import PASSES, Measurement, Results
from ._cases import Case

NAMES = {"kernels": "ours", "composite": "composite", "native": "PyTorch", "cpu": "CPU"}
SIMULATED = "The device is simulated: these times tell nothing about a Mac."


def print_table(results: Results) -> None:
    """Medians with quartiles, and the memory that a pass adds. Needs rich."""
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 200  # a file has no edge
    machine = results.machine
    console.print(
        f"{machine['device'] or 'no mps device'}, {machine['system']}, torch {machine['torch']}, "
        f"mps_conv_transpose3d {machine['mps_conv_transpose3d']}",
        markup=False,
    )
    if machine["simulated"]:
        console.print(SIMULATED, style="bold yellow")
    paths = list(dict.fromkeys(m.path for m in results.measurements))
    table = Table(title="Milliseconds (quartiles), and MB added on the device", title_justify="left")
    for name in ("call", "dtype", "pass"):
        table.add_column(name, no_wrap=True)
    for path in paths:
        table.add_column(NAMES[path], justify="right", no_wrap=True)
    titles = {str(case): _title(case) for case in results.cases}
    for (case, dtype, operation), row in _rows(results).items():
        cells = [_cell(row.get(path)) for path in paths]
        table.add_row(titles[case], dtype, operation, *cells)
    console.print(table, markup=False)
    for problem in sorted({f"{NAMES[m.path]}, {m.dtype}: {m.problem}" for m in results.measurements if m.problem}):
        console.print(f"* {problem}", markup=False)


def write_png(results: Results, path: Path) -> None:
    """Bars on a logarithmic axis, one panel a pass and dtype. Needs matplotlib. Raises OSError."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    paths = list(dict.fromkeys(m.path for m in results.measurements))
    dtypes = list(dict.fromkeys(m.dtype for m in results.measurements))
    cases = [str(case) for case in results.cases]
    size = (max(6.0, 0.5 * len(cases) * len(paths) / 2 + 2), 2.6 * len(dtypes) * len(PASSES))
    figure, panels = pyplot.subplots(len(dtypes) * len(PASSES), 1, figsize=size, squeeze=False, sharex=True)
    rows = _rows(results)
    for number, (dtype, operation) in enumerate((d, p) for d in dtypes for p in PASSES):
        panel = panels[number][0]
        for index, name in enumerate(paths):
            row = [rows.get((case, dtype, operation), {}).get(name) for case in cases]
            heights = [1e3 * m.median if m is not None and m.median is not None else math.nan for m in row]
            places = [place + (index - (len(paths) - 1) / 2) * 0.8 / len(paths) for place in range(len(cases))]
            panel.bar(places, heights, 0.8 / len(paths), label=NAMES[name])
        panel.set_yscale("log")
        panel.set_ylabel("ms")
        panel.set_title(f"{operation}, {dtype}", loc="left", fontsize="medium")
    panels[0][0].legend(ncols=len(paths), fontsize="small")
    titles = [_title(case) for case in results.cases]
    panels[-1][0].set_xticks(range(len(titles)), titles, rotation=60, ha="right", fontsize="small")
    title = f"ConvTranspose3d on {results.machine['device']}, torch {results.machine['torch']}"
    figure.suptitle(f"{title}\n{SIMULATED}" if results.machine["simulated"] else title)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def _title(case: Case) -> str:
    """ "2x64x64x64x64 to 32, k2 s2" """
    arguments = {"k": case.kernel, "s": case.stride, "p": case.padding, "op": case.output_padding, "d": case.dilation}
    default = {"p": 0, "op": 0, "d": 1}
    words = [
        name + (str(value[0]) if len(set(value)) == 1 else "x".join(map(str, value)))
        for name, value in arguments.items()
        if set(value) != {default.get(name)}
    ]
    if case.groups != 1:
        words.append(f"g{case.groups}")
    return f"{'x'.join(map(str, case.input))} to {case.out_channels}, {' '.join(words)}"


def _rows(results: Results) -> dict[tuple[str, str, str], dict[str, Measurement]]:
    """By case, dtype and pass: one measurement a path."""
    rows: dict[tuple[str, str, str], dict[str, Measurement]] = {}
    for m in results.measurements:
        rows.setdefault((m.case, m.dtype, m.operation), {})[m.path] = m
    return rows


def _cell(measurement: Measurement | None) -> Any:
    if measurement is None or measurement.median is None:
        return "-"
    text = f"{1e3 * measurement.median:.3g}"
    if measurement.spread is not None:
        low, high = measurement.spread
        text += f" ({1e3 * low:.3g}-{1e3 * high:.3g})"
    if measurement.extra_bytes is not None:
        text += f"\n{measurement.extra_bytes / 1e6:.3g} MB"
    return text
