"""Metal from Objective-C++: a program built with nothing but the toolchain file."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from cmake_project import build

SOURCES = Path(__file__).parent / "metal_api"


def test_metal_api(tmp_path_factory: pytest.TempPathFactory) -> None:
    program = build(SOURCES, tmp_path_factory) / "metal_api"
    result = subprocess.run([program], capture_output=True, text=True, timeout=600)
    passed = re.findall(r"^passed (\w+)$", result.stdout, re.M)
    written = [case for file in SOURCES.glob("*.mm") for case in re.findall(r"^CASE\((\w+)\)", file.read_text(), re.M)]
    assert result.returncode == 0, result.stdout + result.stderr
    assert sorted(passed) == sorted(written)
