"""No result depends on the order in which threads, threadgroups and unordered dispatches run: every bit is compared."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

from test_algorithms import ALGORITHMS, FORWARD_ALGORITHMS, SCALAR_ALGORITHMS

# Prints a digest of every result of every algorithm, pass and dtype. `sys.path` comes from the test.
PROGRAM = """
import hashlib
import torch
from cases import BY_NAME
from reference import DTYPES, forward_and_backward, make_tensors
from test_algorithms import ALGORITHMS, FORWARD_ALGORITHMS, SCALAR_ALGORITHMS

RUNS = {
    "tiles_33x33x33": ALGORITHMS,
    "tiles_overlapping_groups": ALGORITHMS,
    "tiles_1x512x640": ALGORITHMS,
    "depthwise_depth_4": SCALAR_ALGORITHMS,
    "depthwise_parts": SCALAR_ALGORITHMS,
}
for name, algorithms in RUNS.items():
    for dtype in DTYPES.values():
        tensors = {name: tensor.to("mps") for name, tensor in make_tensors(BY_NAME[name], dtype).items()}
        for algorithm in algorithms:
            backward = algorithm not in FORWARD_ALGORITHMS
            for what, tensor in forward_and_backward(BY_NAME[name], tensors, backward, algorithm).items():
                digest = hashlib.sha256(tensor.cpu().contiguous().view(torch.uint8).numpy().tobytes()).hexdigest()
                print(name, dtype, algorithm, what, digest)
"""


def test_bits_do_not_depend_on_the_order(
    run_python: Callable[..., subprocess.CompletedProcess[str]], simulator: None
) -> None:
    def results(**environment: str) -> list[str]:
        done = run_python(f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n{PROGRAM}", **environment)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    forward = results(MPS_SIMULATOR_ORDER="forward")
    both_ways = 3 * (len(ALGORITHMS) - len(FORWARD_ALGORITHMS)) + 2 * len(SCALAR_ALGORITHMS)
    assert len(forward) == 3 * (4 * both_ways + 3 * len(FORWARD_ALGORITHMS))
    for order in ("reverse", "random:1"):
        assert results(MPS_SIMULATOR_ORDER=order, MPS_SIMULATOR_DISPATCHES="concurrent") == forward, order
