"""Makes calls of ConvTranspose3d at random until the time is over: each is held against the CPU (tests/call_check.py).

    python tools/fuzz.py --minutes 30 --backend composite --checks 0 --seed 7 --processes 2

The same seed makes the same calls. What fails is made as small as hypothesis can, and printed as Python. Calls run in
processes of their own, so that one that ends its process, or never returns, is found and printed too.
"""

from __future__ import annotations

import argparse
import faulthandler
import itertools
import math
import multiprocessing
import os
import resource
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[1]
SECONDS_OF_A_CALL = 300  # one that takes longer hangs; kernels are compiled in the first ones
MEMORY = 12 << 30  # of a process
MOST_FAILURES = 5


@dataclass
class Statistics:
    calls: Counter = field(default_factory=Counter)  # legal or refused
    results: Counter = field(default_factory=Counter)  # by (pass, method, dtype)
    refusals: Counter = field(default_factory=Counter)
    of_cpu: Counter = field(default_factory=Counter)  # by log2 of the error over the CPU's
    beyond_cpu: Counter = field(default_factory=Counter)  # by pass and method
    worst: dict[tuple[str, str], tuple[float, float, str]] = field(default_factory=dict)
    worst_root: dict[tuple[str, str], tuple[float, str]] = field(default_factory=dict)

    def add(self, other: Statistics) -> None:
        for name in ("calls", "results", "refusals", "of_cpu", "beyond_cpu"):
            getattr(self, name).update(getattr(other, name))
        for name in ("worst", "worst_root"):
            mine = getattr(self, name)
            for key, value in getattr(other, name).items():
                mine[key] = max(mine.get(key, value), value)

    def observe(self, call: object, result: object) -> None:
        if not isinstance(result, list):
            self.calls["refused"] += 1
            self.refusals[result.words.split(",")[0][:70]] += 1
            return
        self.calls["legal"] += 1
        for seen in result:
            key = (seen.what, seen.method)
            self.results[(*key, seen.dtype)] += 1
            if seen.of_cpu == seen.of_cpu and seen.of_cpu > 0:
                self.of_cpu[min(max(round(math.log2(min(seen.of_cpu, 1e9))), -6), 6)] += 1
            self.beyond_cpu[key] += seen.beyond_cpu
            self.worst[key] = max(self.worst.get(key, (0, "")), (seen.of_allowed, repr(call)))
            self.worst_root[key] = max(self.worst_root.get(key, (0, "")), (seen.of_root, repr(call)))


# --- A process that makes calls ---


def work(seeds: Iterator[int], backend: str, to_parent: Connection) -> None:
    """Sends ("call", seed, Call) before each call, ("failure", seed, words, Call) and ("statistics", Statistics)."""
    faulthandler.enable()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    sys.path.insert(0, str(ROOT / "tests"))
    import torch

    from call_check import check
    from mps_conv_transpose3d import _switch
    from random_calls import for_calls_of

    torch.set_num_threads(1)
    _switch.serve(backend)

    def make_calls_of(seed: int) -> Statistics:
        statistics, last = Statistics(), None

        def make(call: object) -> None:
            nonlocal last
            last = call
            to_parent.send(("call", seed, repr(call)))
            statistics.observe(call, check(call, backend))

        try:
            for_calls_of(seed, make)
        except Exception as error:
            to_parent.send(("failure", seed, f"{type(error).__name__}: {error}", repr(last)))
        return statistics

    for seed in seeds:
        to_parent.send(("statistics", make_calls_of(seed)))


# --- The one that watches them ---


@dataclass
class Worker:
    process: multiprocessing.process.BaseProcess
    from_child: Connection
    step: int
    seed: int = 0
    call: str = "before the first call"
    since: float = field(default_factory=time.monotonic)

    @classmethod
    def start(cls, first: int, step: int, backend: str) -> Worker:
        context = multiprocessing.get_context("spawn")
        from_child, to_parent = context.Pipe(duplex=False)
        process = context.Process(target=work, args=(itertools.count(first, step), backend, to_parent), daemon=True)
        process.start()
        to_parent.close()
        return cls(process, from_child, step, first)

    def end(self) -> None:
        self.process.kill()
        self.process.join()


@dataclass(frozen=True)
class Failure:
    seed: int
    words: str
    call: str


class Fuzz:
    def __init__(self, arguments: argparse.Namespace, console: Console) -> None:
        self.backend, self.console = arguments.backend, console
        self.statistics = Statistics()
        self.failures: dict[str, Failure] = {}  # by the call
        count = arguments.processes
        self.workers = [Worker.start(arguments.seed * 10_000_000 + i, count, self.backend) for i in range(count)]

    def run(self, seconds: float) -> None:
        started = told = time.monotonic()
        while (now := time.monotonic()) < started + seconds and len(self.failures) < MOST_FAILURES:
            for connection in wait([worker.from_child for worker in self.workers], timeout=1):
                self._hear(next(worker for worker in self.workers if worker.from_child is connection))
            for worker in self.workers:
                if now - worker.since > SECONDS_OF_A_CALL:
                    self._replace(worker)
                    words = f"the call did not return within {SECONDS_OF_A_CALL} s"
                    self._fail(Failure(worker.seed, words, worker.call))
            if now - told > 60:
                told = now
                self.console.print(f"fuzz: {(now - started) / 60:.0f} min: {self._so_far()}")
        for worker in self.workers:
            worker.end()
        self.console.print(f"fuzz: {self._so_far()} in {time.monotonic() - started:.0f} s")

    def _so_far(self) -> str:
        calls = self.statistics.calls
        return f"{calls.total()} calls, {calls['legal']} legal, {len(self.failures)} failed"

    def _hear(self, worker: Worker) -> None:
        try:
            kind, *message = worker.from_child.recv()
        except EOFError:
            worker.process.join()
            self._replace(worker)
            code = worker.process.exitcode
            if code == -signal.SIGKILL:  # no fault ends a process so
                self.console.print(f"fuzz: somebody killed the process that was at {worker.call}", markup=False)
            else:
                self._fail(Failure(worker.seed, f"the process ended with {code}", worker.call))
            return
        worker.since = time.monotonic()
        if kind == "call":
            worker.seed, worker.call = message
        elif kind == "failure":
            self._fail(Failure(*message))
        else:
            self.statistics.add(*message)

    def _replace(self, worker: Worker) -> None:
        worker.end()
        self.workers.remove(worker)
        self.workers.append(Worker.start(worker.seed + worker.step, worker.step, self.backend))

    def _fail(self, failure: Failure) -> None:
        if failure.call in self.failures:
            return
        self.failures[failure.call] = failure
        self.console.print(
            f"\nfuzz: seed {failure.seed}: {failure.words}\n\n"
            "    import sys\n    sys.path.insert(0, 'tests')\n"
            "    from calls import Call, Layout\n    from call_check import check\n"
            "    from mps_conv_transpose3d import _switch\n\n"
            f"    _switch.serve({self.backend!r})\n    check({failure.call}, {self.backend!r})\n",
            markup=False,
            soft_wrap=True,
        )


def report(statistics: Statistics, console: Console) -> None:
    table = Table("result", "method", "float32", "float16", "bfloat16", "beyond the CPU", "of what is allowed", "a")
    for key in sorted(statistics.worst):
        counts = [statistics.results[(*key, dtype)] for dtype in ("float32", "float16", "bfloat16")]
        table.add_row(
            *key,
            *map(str, counts),
            str(statistics.beyond_cpu[key]),
            f"{statistics.worst[key][0]:.3f}",
            f"{statistics.worst_root[key][0]:.2f}",
        )
    console.print(table)
    console.print(
        "beyond the CPU: more than twice its error and one unit in the last place of the largest value;\n"
        "of what is allowed: the worst error over its bound (tests/error_bound.py);\n"
        "a: the worst error over sqrt(K) * 2**-24 * (sum of |products|), less the rounding to the dtype"
    )
    table = Table("error / the CPU's", "results")
    for power, count in sorted(statistics.of_cpu.items()):
        table.add_row({-6: "2^-6 or less", 6: "2^6 or more"}.get(power, f"2^{power}"), str(count))
    console.print(table)
    table = Table("refused", "calls")
    for words, count in statistics.refusals.most_common(25):
        table.add_row(words, str(count))
    console.print(table)
    if statistics.worst_root:
        key, (a, call) = max(statistics.worst_root.items(), key=lambda item: item[1])
        console.print(f"the largest a, {a:.2f}, of {' by '.join(key)}: {call}", markup=False, soft_wrap=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--backend", choices=["kernels", "composite"], default="kernels")
    parser.add_argument("--checks", choices=["0", "1"], default="1", help="MPS_SIMULATOR_CHECKS, default %(default)s")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args()
    os.environ["MPS_SIMULATOR_CHECKS"] = arguments.checks
    os.environ.setdefault("MPS_SIMULATOR_MAX_THREADS", "32")  # tests/conftest.py says why
    os.environ["PYTHONWARNINGS"] = "ignore"
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 150)
    fuzz = Fuzz(arguments, console)
    fuzz.run(60 * arguments.minutes)
    report(fuzz.statistics, console)
    return bool(fuzz.failures)


if __name__ == "__main__":
    sys.exit(main())
