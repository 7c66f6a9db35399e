"""The model against kernels that others have measured: `make calibrate`. Modelled, not measured."""

from __future__ import annotations

import time

from rich.console import Console
from rich.table import Table

from chips import CHIPS
from model import CYCLES, LEFT_OUT, fraction, limit_of, time_of
from reference_kernels import Reference, references

CHIPS_SHOWN = ("M1", "M2 Max")


def counters_table() -> Table:
    table = Table(title="Counters, for each useful multiply-add (operations as issued by whole simdgroups)")
    for column in (
        "kernel",
        "FMA",
        "other ops",
        "their cycles",
        "device B",
        "threadgroup B",
        "lines B",
        "from memory B",
    ):
        table.add_column(column, justify="left" if column == "kernel" else "right")
    for column in ("threads", "barriers", "words", "counted"):
        table.add_column(column, justify="right")
    return table


def add_counters(table: Table, reference: Reference) -> None:
    per = reference.useful_fma
    for dispatch in reference.dispatches:
        c = dispatch.counters
        modelled = time_of(c, CHIPS["M1"])
        others = {name: n for name, n in c.issued.items() if name not in ("fma", "matrix_fma")}
        table.add_row(
            f"{reference.name} ({dispatch.kernel})",
            f"{(c.issued['fma'] + c.issued['matrix_fma']) / per:.3f}",
            f"{sum(others.values()) / per:.3f}",
            f"{sum(CYCLES[name] * n for name, n in others.items()) / per:.3f}",
            f"{c.device_bytes / per:.3f}",
            f"{c.threadgroup_bytes / per:.3f}",
            f"{c.lines * 128 / per:.3f}",
            f"{modelled.moved_bytes / per:.4f}",
            f"{c.threadgroups} x {c.threads_per_threadgroup}",
            f"{c.barriers / c.threadgroups:.0f}",
            f"{32 + c.matrix_bytes // 4}",
            f"{c.counted / c.threadgroups:.1%}",
        )


def bounds_table(chip: str) -> Table:
    table = Table(title=f"Modelled, not measured: {chip}, milliseconds")
    for column in (
        "kernel",
        "arithmetic",
        "on core",
        "lines",
        "memory",
        "resident",
        "waves",
        "latency",
        "time",
        "limit",
    ):
        table.add_column(column, justify="left" if column == "kernel" else "right")
    table.add_column("fraction", justify="right")
    table.add_column("expected")
    table.add_column("measured by others")
    return table


def add_bounds(table: Table, chip: str, reference: Reference) -> float:
    times = [time_of(dispatch.counters, CHIPS[chip]) for dispatch in reference.dispatches]
    limit = limit_of(reference.useful_fma, reference.compulsory_bytes, CHIPS[chip])
    share = fraction(times, limit)
    for name, t in zip([reference.name] + [""] * len(times), times):
        style = {bound: "[bold]" if bound == t.bound else "" for bound in t.bounds}
        last = t is times[-1]
        table.add_row(
            name,
            *(f"{style[bound]}{ms:.3f}" for bound, ms in t.bounds.items()),
            str(t.resident),
            f"{t.waves:.1f}",
            f"{t.latency:.2f}",
            f"{t.ms:.3f}",
            f"{limit.ms:.3f}" if last else "",
            f"[{'green' if reference.low <= share <= reference.high else 'red'}]{share:.3f}" if last else "",
            f"{reference.low:.2f}-{reference.high:.2f}" if last else "",
            reference.measured if last else "",
        )
    return share


def main() -> None:
    console = Console(width=None if Console().is_terminal else 200)
    started = time.time()
    counters, bounds = counters_table(), {chip: bounds_table(chip) for chip in CHIPS_SHOWN}
    with console.status("counting ...") as status:
        for reference in references():
            add_counters(counters, reference)
            for chip, table in bounds.items():
                add_bounds(table, chip, reference)
            status.update(f"counted: {reference.name}, {time.time() - started:.0f} s")
    console.print(counters)
    for table in bounds.values():
        console.print(table)
    console.print(LEFT_OUT)
    console.print(f"{time.time() - started:.0f} s")


if __name__ == "__main__":
    main()
