"""Host time of one call, plan and encoding, against the least that an operator on `mps` can do.

    python benchmarks/host_time

Both sides run in one process, in turn, on calls so small that memory does not count, and in the thread's own processor
time. On the simulator both hold the simulator's encoder and allocator, which are slower than Metal's and PyTorch's; set
MPS_SIMULATOR_CHECKS=0 there, for its checks keep books of what is allocated.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

import mps_conv_transpose3d
from mps_conv_transpose3d import _machine, _planner
from mps_conv_transpose3d._cases import Case

HERE = Path(__file__).resolve().parent
BUILD = HERE.parents[1] / "build" / "host_time"
CALLS = 20  # in flight at once: allocators look through them
ROWS = (("forward", 4), ("input_grad", 4), ("weight_grad", 4), ("weight_grad", 32))
GOAL = 1.5


def build() -> Path:
    """The extension of CMakeLists.txt, built by the compilers that the bridge is built by."""
    environment = dict(os.environ)
    try:
        import mps_simulator
    except ImportError:
        pass
    else:
        toolchain = Path(mps_simulator.__file__).parent / "cmake" / "toolchain.cmake"
        environment.setdefault("CMAKE_TOOLCHAIN_FILE", str(toolchain))
    configure = ["cmake", "-S", HERE, "-B", BUILD, "-G", "Ninja"]
    configure.append(f"-DCMAKE_PREFIX_PATH={torch.utils.cmake_prefix_path}")
    for command in (configure, ["cmake", "--build", BUILD]):
        subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return BUILD / "host_time.so"


def case_of(edge: int) -> Case:
    """`edge`: of its positions, along two axes."""
    return Case("host_time", (1, 16, 1, edge, edge), (16, 16, 2, 2, 2), bias=False, stride=(2, 2, 2))


def dispatches_of(pass_: str, case: Case) -> int:
    """As the plan for this GPU says."""
    return len(_planner.plans(case)[pass_].dispatches)


def microseconds(pass_: str, case: Case, dispatches: int, rounds: int) -> tuple[float, float]:
    """Of one call of ours, and of the minimal operator with an output of the same size."""
    x, w, gy = (torch.rand(shape, device="mps") for shape in (case.input, case.weight, case.output))
    result = {"forward": gy, "input_grad": x, "weight_grad": w}[pass_]
    ours, minimal = [], []
    for _ in range(rounds):
        for what, seconds in ((pass_, ours), ("minimal", minimal)):
            arguments = (x, w, gy, case.stride, list(result.shape), dispatches, CALLS)
            seconds.append(torch.ops.host_time.seconds(what, *arguments))
            torch.mps.synchronize()
    # Whatever disturbs a measurement makes it longer.
    return tuple(statistics.quantiles(seconds, n=4)[0] * 1e6 for seconds in (ours, minimal))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=300, help=f"of {CALLS} calls of each side (%(default)s)")
    rounds = parser.parse_args(arguments).rounds
    if (reason := mps_conv_transpose3d.unavailable_reason()) is not None:
        raise SystemExit(reason)
    torch.ops.load_library(build())
    table = Table(title="Host time of a call", title_justify="left")
    for name in (
        "pass",
        "dispatches",
        "ours",
        "minimal, one dispatch",
        "ratio",
        "minimal, as many dispatches",
        "ratio",
    ):
        table.add_column(name, justify="left" if name == "pass" else "right")
    for pass_, edge in ROWS:
        case = case_of(edge)
        dispatches = dispatches_of(pass_, case)
        cells = []
        for count in sorted({1, dispatches}):
            ours, minimal = microseconds(pass_, case, count, rounds)
            cells += [f"{minimal:.2f} us", f"{ours / minimal:.2f}"]
        table.add_row(f"{pass_}, {edge**2} positions", str(dispatches), f"{ours:.2f} us", *cells)
    console = Console(width=120, highlight=False)
    console.print(table)
    console.print(f"goal: {GOAL} times one dispatch, or less. A sum over many positions takes a second, and memory.")
    if _machine.is_simulated():
        console.print("The device is simulated: its encoder and allocator are in both sides.", style="yellow")


if __name__ == "__main__":
    main()
