"""Is the plan's choice the best? Every algorithm that can compute a call, timed: on the model, or on a Mac's own GPU.

    python benchmarks/choose.py ct14 ct30              # of network_shapes.json; all, where none is named
    python benchmarks/choose.py ct14 --ops weight_grad --chips M1 "M3 Max"

Where the device is simulated the times are the model's (`model.py`), for each chip; on a Mac they are measured there,
and `--chips` is without meaning. Choices more than 5 % slower than the best are marked, and counted at the end.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterator, Sequence

import torch
from rich.console import Console
from rich.table import Table

import mps_conv_transpose3d
from chips import CHIPS, Chip
from counting import count, plan_of, run, tensors_of
from model import time_of
from mps_conv_transpose3d import _machine
from mps_conv_transpose3d._cases import network_cases
from problem import OPS, Problem

TOLERANCE = 1.05
ACCESSES = 3_000_000  # as many choices are compared, less exactly than in modelled.py
ROUNDS, CALLS = 5, 10


def algorithms_of(problem: Problem, cores: int) -> Iterator[tuple[str, bool]]:
    """Those that can compute it, and whether it is the plan's choice."""
    chosen = plan_of(problem, cores=cores).algorithm
    for name in torch.ops.mps_conv_transpose3d.algorithms():
        if plan_of(problem, name, cores).algorithm == name:
            yield name, name == chosen


def modelled(problem: Problem, algorithm: str, chip: Chip) -> float:
    counted = count(problem, algorithm, chip.cores, ACCESSES)
    return sum(time_of(dispatch.counters, chip).ms for dispatch in counted.dispatches)


def measured(problem: Problem, algorithm: str) -> float:
    """Milliseconds of a call, the least of several rounds."""
    tensors = tensors_of(problem)
    seconds = []
    for _ in range(ROUNDS + 1):  # the first compiles
        torch.mps.synchronize()
        begin = time.perf_counter()
        for _ in range(CALLS):
            run(problem, tensors, algorithm)
        torch.mps.synchronize()
        seconds.append((time.perf_counter() - begin) / CALLS)
    return 1e3 * min(seconds[1:])


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("calls", nargs="*", metavar="ID")
    parser.add_argument("--ops", nargs="+", default=OPS, choices=OPS, metavar="OP", help=", ".join(OPS))
    parser.add_argument("--chips", nargs="+", default=["M1", "M2 Max"], choices=list(CHIPS), metavar="CHIP")
    parser.add_argument("--dtype", default="float32")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(arguments)
    mps_conv_transpose3d.enable()
    simulated = _machine.is_simulated()
    table = Table(
        "call", "pass", "GPU", "chosen", "ms", "other algorithms: ms", title="Modelled" if simulated else "Measured"
    )
    ratios = []
    for case in network_cases():
        for op in options.ops if not options.calls or case.name in options.calls else ():
            problem = Problem(case, op, options.dtype)
            for chip in [CHIPS[name] for name in options.chips] if simulated else [None]:
                cores = chip.cores if chip else _machine.gpu_cores()
                times, choice = {}, ""
                for algorithm, chosen in algorithms_of(problem, cores):
                    times[algorithm] = modelled(problem, algorithm, chip) if chip else measured(problem, algorithm)
                    choice = algorithm if chosen else choice
                best = min(times.values())
                ratios.append(times[choice] / best)
                others = sorted((ms, algorithm) for algorithm, ms in times.items() if algorithm != choice)
                table.add_row(
                    case.name, op, chip.name if chip else _machine.device_name(), choice,
                    f"{times[choice]:.3f}" + (f" ({ratios[-1]:.2f} of the best)" if ratios[-1] > TOLERANCE else ""),
                    ", ".join(f"{algorithm} {ms:.3f}" for ms, algorithm in others),
                )  # fmt: skip
    console = Console(width=200)
    console.print(table)
    slow = sum(ratio > TOLERANCE for ratio in ratios)
    console.print(
        f"{slow} of {len(ratios)} choices are more than {TOLERANCE - 1:.0%} slower than the best; all together"
        f" {statistics.geometric_mean(ratios):.3f} of the best."
    )


if __name__ == "__main__":
    main()
