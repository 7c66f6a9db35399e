"""The faults of `make mutants` can be planted: sources change, and a fault whose text is gone would plant nothing."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tools" / "mutants"))

from faults import FAULTS

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_fault_can_be_planted(fault):
    assert (ROOT / fault.file).read_text().count(fault.old) == 1
    assert fault.new != fault.old


def test_names_are_unique():
    assert len({fault.name for fault in FAULTS}) == len(FAULTS) >= 12
