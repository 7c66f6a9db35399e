"""Makes calls of ConvTranspose3d at random until the time is over: each is held against the CPU (tests/call_check.py).

    python tools/fuzz.py --minutes 30 --backend composite --checks 0 --seed 7 --processes 2

The same seed makes the same calls. What fails is made as small as hypothesis can, and printed as Python. Calls are made
in processes of their own, so that one that ends its process, or never returns, is found and made smaller, too.
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
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hypothesis.errors import Flaky
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from calls import Call  # noqa: E402
from random_calls import for_calls_of  # noqa: E402

if TYPE_CHECKING:
    from mps_conv_transpose3d._switch import Backend

MEMORY = 12 << 30  # of a process
MOST_FAILURES = 5


# --- What was seen ---


@dataclass
class Statistics:
    calls: Counter = field(default_factory=Counter)  # legal, refused, or lost with a process that somebody killed
    results: Counter = field(default_factory=Counter)  # by (pass, algorithm, dtype)
    refusals: Counter = field(default_factory=Counter)
    of_cpu: Counter = field(default_factory=Counter)  # by log2 of the error over the CPU's
    beyond_cpu: Counter = field(default_factory=Counter)  # by pass and algorithm
    worst: dict[tuple[str, str], tuple[float, str]] = field(default_factory=dict)
    worst_root: dict[tuple[str, str], tuple[float, str]] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def observe(self, call: Call, result: Any) -> None:
        with self.lock:
            if result is None:
                self.calls["lost"] += 1
            elif isinstance(result, list):
                self._compared(call, result)
            else:
                self.calls["refused"] += 1
                self.refusals[result.words.split(",")[0][:70]] += 1

    def _compared(self, call: Call, observations: list) -> None:
        self.calls["legal"] += 1
        for seen in observations:
            key = (seen.what, seen.algorithm)
            self.results[(*key, seen.dtype)] += 1
            if seen.of_cpu > 0:
                self.of_cpu[min(max(round(math.log2(min(seen.of_cpu, 1e9))), -6), 6)] += 1
            self.beyond_cpu[key] += seen.beyond_cpu
            self.worst[key] = max(self.worst.get(key, (0, "")), (seen.of_allowed, repr(call)))
            self.worst_root[key] = max(self.worst_root.get(key, (0, "")), (seen.root_factor, repr(call)))


@dataclass(frozen=True)
class Failure:
    seed: int
    words: str
    call: Call


# --- A process that makes calls ---


class Wrong(Exception):
    """Of a call that was made."""


class Ended(Exception):
    """The process, in a call."""


class Hung(Exception):
    """The process, in a call."""


class Maker:
    """Makes calls in a process of its own, one at a time, and starts another process where one is lost.

    `check` is a function of a module, which the process imports. (A forked process could not use the device.)
    """

    def __init__(self, check: Callable[[Call], object], seconds: float) -> None:
        self.check, self.seconds = check, seconds
        self._folder = tempfile.TemporaryDirectory()
        self._said = Path(self._folder.name, "stderr")  # of the last process
        self._process: multiprocessing.process.BaseProcess | None = None
        self._connection: Connection | None = None

    def make(self, call: Call) -> object:
        """What `check` returns; None where somebody killed the process. Raises Wrong, Ended or Hung."""
        connection = self._connection or self._start()
        connection.send(call)
        try:
            if not connection.poll(self.seconds):
                self.end()
                raise Hung(f"the call did not return within {self.seconds} s")
            is_right, result = connection.recv()
        except (EOFError, ConnectionResetError):
            code = self.end()
            if code == -signal.SIGKILL:  # no fault of a call ends its process so
                return None
            said = self._said.read_text(errors="replace").strip()
            raise Ended(f"the process ended with {code}\n{said}") from None
        if not is_right:
            raise Wrong(result)
        return result

    def _start(self) -> Connection:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_make_calls, args=(self.check, theirs, self._said), daemon=True)
        self._process.start()
        theirs.close()
        return self._connection

    def end(self) -> int | None:
        """Returns what the process has ended with, if it had."""
        process, connection = self._process, self._connection
        self._process = self._connection = None
        if process is None or connection is None:
            return None
        connection.close()
        process.join(1)
        process.kill()
        process.join()
        return process.exitcode


def _make_calls(check: Callable[[Call], object], connection: Connection, said: Path) -> None:
    """Until the other side closes the connection."""
    os.dup2(os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND), sys.stderr.fileno())
    faulthandler.enable()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    while True:
        call = connection.recv()
        try:
            answer = True, check(call)
        except Exception as error:
            answer = False, f"{type(error).__name__}: {error}"
        connection.send(answer)


def check_kernels(call: Call) -> object:
    return _check(call, "kernels")


def check_composite(call: Call) -> object:
    return _check(call, "composite")


def _check(call: Call, backend: Backend) -> object:
    import torch

    from call_check import check
    from mps_conv_transpose3d import _switch

    torch.set_num_threads(1)
    _switch.serve(backend)
    return check(call, backend)


CHECKS = {"kernels": check_kernels, "composite": check_composite}


# --- Those that think of them ---


class Fuzz:
    """Threads that draw calls, each with a process that makes them."""

    def __init__(self, arguments: argparse.Namespace, console: Console) -> None:
        self.backend, self.patience, self.console = arguments.backend, arguments.patience, console
        self.statistics = Statistics()
        self.failures: dict[str, Failure] = {}  # by the call
        self.started = time.monotonic()
        self.seconds = 60 * arguments.minutes
        first, count = arguments.seed * 10_000_000, arguments.processes
        self.threads = [
            threading.Thread(target=self._draw, args=(itertools.count(first + i, count),), daemon=True)
            for i in range(count)
        ]

    def run(self) -> None:
        """The last seeds' calls are made to their end."""
        for thread in self.threads:
            thread.start()
        while any(thread.is_alive() for thread in self.threads):
            told = time.monotonic() + 60
            for thread in self.threads:
                thread.join(max(told - time.monotonic(), 0))
            self.console.print(f"fuzz: {(time.monotonic() - self.started) / 60:.1f} min: {self._so_far()}")

    def _so_far(self) -> str:
        calls = self.statistics.calls
        lost = f", {calls['lost']} lost with a process that somebody killed" if calls["lost"] else ""
        return f"{sum(calls.values())} calls, {calls['legal']} legal, {len(self.failures)} failed{lost}"

    def _draw(self, seeds: Iterator[int]) -> None:
        maker = Maker(CHECKS[self.backend], self.patience)
        for seed in seeds:
            if time.monotonic() > self.started + self.seconds or len(self.failures) >= MOST_FAILURES:
                break
            failure = smallest_failure(seed, maker, self.statistics.observe)
            if failure is not None:
                self._fail(failure)
        maker.end()

    def _fail(self, failure: Failure) -> None:
        if repr(failure.call) in self.failures:
            return
        self.failures[repr(failure.call)] = failure
        self.console.print(
            f"\nfuzz: seed {failure.seed}: {failure.words}\n\n"
            "    import sys\n    sys.path.insert(0, 'tests')\n"
            "    from calls import Call, Layout\n    from call_check import check\n"
            "    from mps_conv_transpose3d import _switch\n\n"
            f"    _switch.serve({self.backend!r})\n    check({failure.call}, {self.backend!r})\n",
            markup=False,
            soft_wrap=True,
        )


def smallest_failure(seed: int, maker: Maker, observe: Callable[[Call, object], None]) -> Failure | None:
    """The last that hypothesis comes down to."""
    failure, patience = None, maker.seconds

    def make(call: Call) -> None:
        nonlocal failure
        try:
            observe(call, maker.make(call))
        except (Wrong, Ended, Hung) as error:
            failure = Failure(seed, str(error), call)
            if isinstance(error, Hung):
                maker.seconds = patience / 10  # smaller ones are quicker
            raise

    try:
        for_calls_of(seed, make)
    except (Wrong, Ended, Hung):
        pass
    except Flaky:
        failure = failure and replace(failure, words=f"{failure.words}\n(not each time)")
    finally:
        maker.seconds = patience
    return failure


def report(statistics: Statistics, console: Console) -> None:
    table = Table("result", "algorithm", "float32", "float16", "bfloat16", "beyond the CPU", "of what is allowed", "a")
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
    parser.add_argument(
        "--patience",
        type=float,
        default=600,
        metavar="SECONDS",
        help="a call that takes longer hangs: the first ones compile kernels, so give more where much else runs",
    )
    arguments = parser.parse_args()
    os.environ["MPS_SIMULATOR_CHECKS"] = arguments.checks
    os.environ.setdefault("MPS_SIMULATOR_MAX_THREADS", "32")  # tests/conftest.py says why
    os.environ["PYTHONWARNINGS"] = "ignore"
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 150)
    fuzz = Fuzz(arguments, console)
    fuzz.run()
    report(fuzz.statistics, console)
    return bool(fuzz.failures)


if __name__ == "__main__":
    sys.exit(main())
