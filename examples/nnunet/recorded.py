"""Runs a console script, unchanged, and writes down what ran on the simulated device meanwhile.

    python recorded.py REPORT.json SCRIPT [ARGUMENT ...]

The report counts `calls` of convolution layers, by class, and the `kernels` and the `operators` that ran.
"""

from __future__ import annotations

import json
import runpy
import sys
from collections import Counter
from pathlib import Path

import torch

import mps_simulator


def main() -> None:
    report, *sys.argv = sys.argv[1:]
    calls: Counter[str] = Counter()

    def count(module: torch.nn.Module, args: tuple, output: object) -> None:
        if isinstance(module, torch.nn.modules.conv._ConvNd) and output.device.type == "mps":
            calls[type(module).__name__] += 1

    torch.nn.modules.module.register_module_forward_hook(count)
    try:
        with mps_simulator.record() as dispatches:
            runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as end:
        # The last line of a console script; None and 0 say that it succeeded.
        if end.code:
            raise
    kernels = Counter(dispatch.kernel for dispatch in dispatches)
    operators = Counter(dispatches.operators)
    Path(report).write_text(json.dumps({"calls": calls, "kernels": kernels, "operators": operators}, indent=2))


if __name__ == "__main__":
    main()
