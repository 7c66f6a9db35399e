"""Metal from Objective-C++: a program built with nothing but the toolchain file, each case a process of its own."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from cmake_project import build

SOURCES = Path(__file__).parent / "metal_api"
CASES = sorted(case for file in SOURCES.glob("*.mm") for case in re.findall(r"^CASE\((\w+)\)", file.read_text(), re.M))


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(SOURCES, tmp_path_factory.mktemp("metal_api")) / "metal_api"


def test_cases_are_those_of_the_program(program: Path) -> None:
    listed = subprocess.run([program], capture_output=True, text=True, check=True).stdout.split()
    assert listed == CASES


@pytest.mark.parametrize("case", CASES)
def test_metal_api(program: Path, case: str) -> None:
    result = subprocess.run([program, case], capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
