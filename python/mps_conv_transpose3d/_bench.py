"""Measures ConvTranspose3d: our kernels, the composite, PyTorch's own operator and the CPU, side by side."""

from __future__ import annotations

import contextlib
import gc
import json
import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from . import _accuracy, _machine, _switch
from ._cases import Case

# What may compute it. "native" is PyTorch's own operator on mps, which exists from torch 2.8 and for float32 alone.
PATHS = ("kernels", "composite", "native", "cpu")
PASSES = ("forward", "backward")

# Sums of millions in another order than the CPU's: more is allowed than for small cases.
SLACK = 8.0
# A check takes float64 copies of everything on the CPU: 64 million numbers of output are 0.5 GB.
CHECKED_OUTPUTS = 1 << 26

WARM_UPS = 3
LEAST_REPEATS = 5
MOST_REPEATS = 100


@dataclass
class Measurement:
    """One pass of one case on one path. Times in seconds; bytes are those the pass added on the device."""

    case: str
    dtype: str
    path: str
    operation: str
    seconds: list[float] = field(default_factory=list)
    extra_bytes: int | None = None
    problem: str | None = None  # refused, or wrong: then there are no times

    @property
    def median(self) -> float | None:
        return statistics.median(self.seconds) if self.seconds else None

    @property
    def spread(self) -> tuple[float, float] | None:
        """The quartiles."""
        if len(self.seconds) < 2:
            return None
        low, _, high = statistics.quantiles(self.seconds, n=4, method="inclusive")
        return low, high


@dataclass
class Results:
    """All that was measured, and on what."""

    machine: dict[str, Any]
    cases: list[Case]
    measurements: list[Measurement] = field(default_factory=list)

    def write_json(self, path: Path) -> None:
        """Raises OSError."""
        measurements = [{**asdict(m), "median": m.median, "spread": m.spread} for m in self.measurements]
        cases = [asdict(case) for case in self.cases]
        content = {"machine": self.machine, "cases": cases, "measurements": measurements}
        path.write_text(json.dumps(content, indent=1) + "\n")


def available_paths() -> list[str]:
    """Those of PATHS that this machine has."""
    if not _machine.has_mps():
        return ["cpu"]
    return [path for path in PATHS if path != "kernels" or _switch.unavailable_reason() is None]


def run(
    cases: Sequence[Case],
    dtypes: Sequence[str],
    paths: Sequence[str],
    seconds: float = 0.5,
    on_step: Callable[[str], None] = lambda what: None,
) -> Results:
    """Check, then time, each case in each dtype on each path, `seconds` for each pass. `on_step` hears what is next."""
    results = Results(_machine.describe(), list(cases))
    for case in cases:
        for dtype in dtypes:
            for path in paths:
                on_step(f"{case} {dtype} {path}")
                results.measurements += _measure(case, dtype, path, seconds)
    return results


def steps(cases: Sequence[Case], dtypes: Sequence[str], paths: Sequence[str]) -> int:
    """How often `run` calls `on_step`."""
    return len(cases) * len(dtypes) * len(paths)


def limited(case: Case, voxels: int) -> Case:
    """The same call with at most `voxels` along each axis of the input."""
    spatial = tuple(min(size, voxels) for size in case.input[-3:])
    return replace(case, input=(*case.input[:-3], *spatial))


def _measure(case: Case, dtype: str, path: str, seconds: float) -> list[Measurement]:
    measurements = [Measurement(str(case), dtype, path, operation) for operation in PASSES]
    device = "cpu" if path == "cpu" else "mps"
    with _served_by(path):
        try:
            _check(case, getattr(torch, dtype), device)
            tensors = {
                name: tensor.to(device) for name, tensor in _accuracy.make_tensors(case, getattr(torch, dtype)).items()
            }
            for measurement, call in zip(measurements, _passes(case, tensors)):
                measurement.extra_bytes = _extra_bytes(call, device)
                measurement.seconds = _times(call, device, seconds)
        except Exception as error:  # refused, out of memory, wrong: it is the result
            for measurement in measurements:
                measurement.seconds = []
                measurement.problem = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return measurements


@contextlib.contextmanager
def _served_by(path: str) -> Iterator[None]:
    before = _switch.serving()
    _switch.serve({"kernels": "kernels", "composite": "composite"}.get(path))  # type: ignore[arg-type]
    try:
        yield
    finally:
        _switch.serve(before)


def _check(case: Case, dtype: torch.dtype, device: str) -> None:
    """Raises RuntimeError if the results are wrong."""
    if device == "cpu":
        return
    while math.prod(case.output) > CHECKED_OUTPUTS:
        case = limited(case, max(case.input[-3:]) // 2)
    for name, error in _accuracy.errors(case, dtype, device, baseline_dtype=torch.float32, slack=SLACK).items():
        if not error.is_right:
            raise RuntimeError(f"wrong {name}: off by {error.error:.3g}, allowed is {error.allowed:.3g}")


def _passes(case: Case, tensors: _accuracy.Tensors) -> Iterator[Callable[[], object]]:
    """The forward pass as in inference, then all gradients as autograd asks for them."""
    arguments = [tensors["input"], tensors["weight"], tensors.get("bias")]

    def forward() -> torch.Tensor:
        with torch.no_grad():
            return F.conv_transpose3d(*arguments, **case.arguments)

    yield forward
    leaves = [None if tensor is None else tensor.detach().requires_grad_() for tensor in arguments]
    output = F.conv_transpose3d(*leaves, **case.arguments)
    wanted = [leaf for leaf in leaves if leaf is not None]
    yield lambda: torch.autograd.grad(output, wanted, tensors["grad_output"], retain_graph=True)


def _times(call: Callable[[], object], device: str, budget: float) -> list[float]:
    """Each from an idle device to an idle device, after calls that compile and fill caches."""
    _synchronize(device)
    began = time.perf_counter()
    for _ in range(WARM_UPS):
        call()
        _synchronize(device)
        if time.perf_counter() - began > budget:
            break
    times: list[float] = []
    while len(times) < MOST_REPEATS and (len(times) < LEAST_REPEATS or sum(times) < budget):
        start = time.perf_counter()
        call()
        _synchronize(device)
        times.append(time.perf_counter() - start)
    return times


def _extra_bytes(call: Callable[[], object], device: str) -> int | None:
    """What Metal allocates for one call: its results, and whatever it needs on the way."""
    if device == "cpu":
        return None
    call()  # what it allocates once and keeps is not counted
    gc.collect()
    _synchronize(device)
    torch.mps.empty_cache()
    before = torch.mps.driver_allocated_memory()
    result = call()
    _synchronize(device)
    after = torch.mps.driver_allocated_memory()
    del result
    return max(0, after - before)


def _synchronize(device: str) -> None:
    if device == "mps":
        torch.mps.synchronize()
