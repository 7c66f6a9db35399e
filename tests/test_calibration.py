"""The model ranks kernels as others have measured them: the table of `make calibrate`, on a small and a large GPU."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

from chips import CHIPS
from model import fraction, limit_of, time_of
from reference_kernels import Reference, references


@pytest.fixture(scope="module")
def counted() -> list[Reference]:
    return list(references())


@pytest.mark.slow
@pytest.mark.parametrize("chip", ["M1", "M2 Max"])
def test_the_model_ranks_as_the_world_measured(counted: list[Reference], chip: str, simulator: None) -> None:
    shares = {}
    for reference in counted:
        times = [time_of(dispatch.counters, CHIPS[chip]) for dispatch in reference.dispatches]
        limit = limit_of(reference.useful_fma, reference.compulsory_bytes, CHIPS[chip])
        shares[reference.name] = fraction(times, limit)
        assert sum(t.moved_bytes for t in times) >= 0.98 * reference.compulsory_bytes, reference.name
    wrong = {r.name: shares[r.name] for r in counted if not r.low <= shares[r.name] <= r.high}
    assert wrong == {}
    assert shares["conv 3x3x3, gathered"] < shares["conv 3x3x3, channels last"]
    assert sum(name.startswith("ours, direct") for name in shares) == 3
