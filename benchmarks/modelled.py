"""Our kernels on the 72 calls of 17 networks, beside the ways of others, on a model of Apple's GPUs.

    python benchmarks/modelled.py              # `make model`

Each call runs at full size on the simulated device, which counts what its kernels do; `model.py` turns the counts into
time on a chip. Peers are sequences of ideal passes (`peers.py`), and the direct kernels, really counted. In half
precision those calls run whose limit is half as long; with --calls, all that are named.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from chips import CHIPS
from counting import Counted, count, plan_of
from model import LEFT_OUT
from mps_conv_transpose3d._cases import network_cases
from peers import PEERS
from problem import OPS, Problem
from records import Record, limit, record_of, record_of_peer
from roofline import draw

ROOT = Path(__file__).resolve().parents[1]
DIRECT = "direct kernels"
GFLOP = 0.1  # calls below this are left out of the means
LARGE_GFLOP, LOST = 1, 0.9
HALVED = 0.55  # and less: the bias and what no tap reaches stay
DIRECT_ACCESSES = 2_000_000  # their threads are alike, and are counted singly
GOALS = {"forward": 0.85, "input_grad": 0.80, "weight_grad": 0.75}


def records_of(problem: Problem, chips: Sequence[str]) -> list[Record]:
    counted: dict[str, Counted] = {}  # by plan, which chips often share
    # In float32 alone: the direct kernels' loops are the same in every dtype.
    direct = count(problem, algorithm="direct", accesses=DIRECT_ACCESSES) if problem.dtype == "float32" else None
    records = []
    for chip in (CHIPS[name] for name in chips):
        plan = plan_of(problem, cores=chip.cores).text
        if plan not in counted:
            counted[plan] = count(problem, cores=chip.cores)
        records.append(record_of(problem, counted[plan], chip))
        records += [record_of(problem, direct, chip, peer=DIRECT)] if direct else []
        records += [record_of_peer(problem, peer, chip) for peer in PEERS]
    return [record for record in records if record]


def halves(problem: Problem, chips: Sequence[str]) -> bool:
    """Whether the limit in this half precision is half that in float32, on any chip."""
    full = replace(problem, dtype="float32")
    return any(limit(problem, CHIPS[name]).ms <= HALVED * limit(full, CHIPS[name]).ms for name in chips)


def count_all(problems: Sequence[Problem], chips: Sequence[str], progress: Progress) -> list[Record]:
    """In a process for each core: most of the counting is done by one thread."""
    task = progress.add_task("counting", total=len(problems))
    found: dict[Problem, list[Record]] = {}
    with ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn")) as pool:
        # The largest first, so that no core is left with one at the end.
        ordered = sorted(problems, key=lambda problem: -problem.useful_fma)
        running = {pool.submit(records_of, problem, chips): problem for problem in ordered}
        for done in as_completed(running):
            found[running[done]] = done.result()
            progress.advance(task)
    return [record for problem in problems for record in found[problem]]


def geometric_mean(values: Iterable[float]) -> float:
    logs = [math.log(value) for value in values]
    return math.exp(sum(logs) / len(logs)) if logs else math.nan


def ours(records: Sequence[Record], chip: str, dtype: str, op: str) -> list[Record]:
    return [r for r in records if not r.peer and (r.chip, r.dtype, r.op) == (chip, dtype, op) and r.gflop > GFLOP]


def worst(records: Sequence[Record], ratio: Callable[[Record], float]) -> str:
    value, name = max((ratio(r), r.id) for r in records)
    return f"{value:.2f} ({name})"


def summary(records: Sequence[Record], chips: Sequence[str], dtypes: Sequence[str]) -> Table:
    table = Table(
        "chip", "dtype", "pass", "fraction of the limit (large calls)", "goal", "worst call", "its bound",
        "FMAs issued / useful, at most", "bytes moved / compulsory, at most", "extra MB",
        title=f"Calls above {GFLOP} GFLOP (large: {LARGE_GFLOP}). Modelled, not measured.",
    )  # fmt: skip
    for chip in chips:
        for dtype in dtypes:
            for op in OPS:
                chosen = ours(records, chip, dtype, op)
                if not chosen:
                    continue
                low = min(chosen, key=lambda r: r.fraction)
                mean = geometric_mean(r.fraction for r in chosen)
                large = geometric_mean(r.fraction for r in chosen if r.gflop > LARGE_GFLOP)
                issued = worst(chosen, lambda r: r.issued_fma / r.useful_fma)
                moved = worst(chosen, lambda r: r.moved_bytes / r.compulsory_bytes)
                table.add_row(
                    chip, dtype, op, f"{mean:.2f} ({large:.2f})", f"{GOALS[op]:.2f}",
                    f"{low.id}: {low.fraction:.2f}", low.bound, issued, moved,
                    f"{max(r.extra_bytes for r in chosen) / 1e6:.1f}",
                )  # fmt: skip
    return table


def names_of_peers(records: Sequence[Record]) -> list[str]:
    return list(dict.fromkeys(r.peer for r in records if r.peer))


def ratios_to(
    records: Sequence[Record], peer: str, chip: str, dtype: str, op: str, gflop: float = GFLOP
) -> list[tuple[float, str]]:
    """Its time over ours, and the call, for all calls above so many GFLOP that it has."""
    times = {r.id: r.modelled_ms for r in records if (r.peer, r.chip, r.dtype, r.op) == (peer, chip, dtype, op)}
    of_ours = [r for r in ours(records, chip, dtype, op) if r.gflop > gflop and r.id in times]
    return [(times[r.id] / r.modelled_ms, r.id) for r in of_ours]


def peers_table(records: Sequence[Record], chips: Sequence[str], dtypes: Sequence[str]) -> Table:
    """Times of a peer over ours: above 1 we are faster."""
    names = names_of_peers(records)
    table = Table("chip", "dtype", "pass", *names, title="Modelled time / ours: mean (least). Modelled, not measured.")
    for chip in chips:
        for dtype in dtypes:
            for op in OPS:
                cells = []
                for name in names:
                    ratios = ratios_to(records, name, chip, dtype, op)
                    cells.append(
                        f"{geometric_mean(q for q, _ in ratios):.2f} ({min(ratios)[0]:.2f}, {min(ratios)[1]})"
                        if ratios
                        else "-"
                    )
                table.add_row(chip, dtype, op, *cells)
    return table


def losses(records: Sequence[Record], chips: Sequence[str], dtypes: Sequence[str]) -> Table:
    """The large calls that a peer's ideal passes would do in less than LOST of our time."""
    title = f"Calls above {LARGE_GFLOP} GFLOP on which a peer takes less than {LOST} of our time: how many (least)"
    table = Table("chip", "dtype", "pass", "peer", "calls", title=title)
    for chip in chips:
        for dtype in dtypes:
            for op in OPS:
                for name in names_of_peers(records):
                    lost = [pair for pair in ratios_to(records, name, chip, dtype, op, LARGE_GFLOP) if pair[0] < LOST]
                    if lost:
                        cell = f"{len(lost)} ({min(lost)[0]:.2f}, {min(lost)[1]})"
                        table.add_row(chip, dtype, op, name, cell)
    return table


def half_table(records: Sequence[Record], chips: Sequence[str]) -> Table:
    """float16's and bfloat16's time over float32's, on calls that memory bounds in float32 and whose limit halves."""
    table = Table(
        "chip", "pass", "float16", "bfloat16", title="Time / float32's, worst call bound by memory: at most 0.6"
    )
    found = {(r.chip, r.op, r.id, r.dtype): r for r in records if not r.peer}
    for chip in chips:
        for op in OPS:
            bound = [r for r in ours(records, chip, "float32", op) if r.bound == "memory"]
            cells = []
            for half in ("float16", "bfloat16"):
                pairs = [(r, found.get((chip, op, r.id, half))) for r in bound]
                ratios = [
                    (h.modelled_ms / r.modelled_ms, r.id) for r, h in pairs if h and h.limit_ms <= HALVED * r.limit_ms
                ]
                cells.append(f"{max(ratios)[0]:.2f} ({max(ratios)[1]})" if ratios else "-")
            table.add_row(chip, op, *cells)
    return table


def not_counted(problems: Sequence[Problem], records: Sequence[Record], chips: Sequence[str]) -> list[str]:
    found = {(r.id, r.op, r.dtype, r.chip) for r in records if not r.peer}
    wanted = [(p.case.name, p.op, p.dtype, chip) for p in problems for chip in chips]
    return [" ".join(record) for record in wanted if record not in found]


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chips", nargs="+", default=["M1", "M2 Max"], choices=list(CHIPS), metavar="CHIP")
    parser.add_argument("--dtypes", nargs="+", default=["float32", "float16"], metavar="DTYPE")
    parser.add_argument("--calls", nargs="+", metavar="ID", help="of network_shapes.json; all, where this is left out")
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "model", help="folder (%(default)s)")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(arguments)
    cases = [case for case in network_cases() if not options.calls or case.name in options.calls]
    console = Console(width=200)
    begin = time.monotonic()
    with Progress(console=console) as progress:
        problems = [Problem(case, op, dtype) for dtype in options.dtypes for case in cases for op in OPS]
        problems = [p for p in problems if p.dtype == "float32" or options.calls or halves(p, options.chips)]
        records = count_all(problems, options.chips, progress)
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "kernels.json").write_text(json.dumps([r.as_json() for r in records], indent=1))
    draw(records, [CHIPS[name] for name in options.chips], options.output / "roofline.png")
    console.print(summary(records, options.chips, options.dtypes))
    console.print(peers_table(records, options.chips, options.dtypes))
    console.print(losses(records, options.chips, options.dtypes))
    console.print(half_table(records, options.chips))
    console.print(LEFT_OUT)
    if missing := not_counted(problems, records, options.chips):
        console.print(
            f"Not in the tables, because the part that was counted is not like the rest: {', '.join(missing)}"
        )
    console.print(
        f"{len(records)} records in {time.monotonic() - begin:.0f} s: {options.output}/kernels.json, roofline.png"
    )


if __name__ == "__main__":
    main()
