"""Host time of one call, plan and encoding, against the least that an operator on `mps` can do.

    python benchmarks/host_time

Both sides run in one process, in turn, on calls so small that memory does not count, and in the thread's own processor
time. On the simulator both hold the simulator's encoder and allocator, which are slower than Metal's and PyTorch's.
"""

from __future__ import annotations

import os
import statistics
import subprocess
from pathlib import Path

import torch

import mps_conv_transpose3d
from mps_conv_transpose3d import _machine

HERE = Path(__file__).resolve().parent
BUILD = HERE.parents[1] / "build" / "host_time"
ROUNDS, CALLS = 300, 20  # of calls in flight at once: allocators look through them
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


def microseconds(pass_: str, dispatches: int) -> tuple[float, float]:
    """Of one call of ours, and of the minimal operator with an output of the same size."""
    x, w, gy = (torch.rand(shape, device="mps") for shape in ((1, 16, 1, 4, 4), (16, 16, 2, 2, 2), (1, 16, 2, 8, 8)))
    result = {"forward": gy, "input_grad": x, "weight_grad": w}[pass_]
    ours, minimal = [], []
    for _ in range(ROUNDS):
        for what, seconds in ((pass_, ours), ("minimal", minimal)):
            arguments = (x, w, gy, [2, 2, 2], list(result.shape), dispatches, CALLS)
            seconds.append(torch.ops.host_time.seconds(what, *arguments))
            torch.mps.synchronize()
    # Whatever disturbs a measurement makes it longer.
    return tuple(statistics.quantiles(seconds, n=4)[0] * 1e6 for seconds in (ours, minimal))


def main() -> None:
    from rich.console import Console
    from rich.table import Table

    if (reason := mps_conv_transpose3d.unavailable_reason()) is not None:
        raise SystemExit(reason)
    torch.ops.load_library(build())
    table = Table(title="Host time of a call", title_justify="left")
    for name in ("pass", "ours", "minimal, one dispatch", "ratio", "minimal, as many dispatches", "ratio"):
        table.add_column(name, justify="left" if name == "pass" else "right")
    for pass_, dispatches in (("forward", 1), ("input_grad", 1), ("weight_grad", 1)):
        cells = []
        for count in sorted({1, dispatches}):
            ours, minimal = microseconds(pass_, count)
            cells += [f"{minimal:.2f} us", f"{ours / minimal:.2f}"]
        table.add_row(pass_, f"{ours:.2f} us", *cells)
    console = Console(highlight=False)
    console.print(table)
    console.print(f"goal: {GOAL} or less. weight_grad of many positions takes a second dispatch, and memory.")
    if _machine.is_simulated():
        console.print("The device is simulated: its encoder and allocator are in both sides.", style="yellow")


if __name__ == "__main__":
    main()
