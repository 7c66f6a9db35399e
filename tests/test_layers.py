"""No source file includes one that stands above it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# From below to above. A header and what it declares are one; those of one row know nothing of each other.
LAYERS = [
    ["params"],
    ["planner/integers"],
    ["planner/problem"],
    ["planner/gpu", "planner/algorithms", "planner/grid"],
    ["planner/gemm", "planner/polyphase", "planner/scalar"],
    ["planner/plan"],
    ["planner/json"],
    ["planner/module", "shader_source", "log", "arguments"],
    ["encoding"],
    ["operators"],
    ["registration"],
]
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
SOURCES = sorted(path for path in (ROOT / "csrc").rglob("*") if path.suffix in (".h", ".cpp", ".mm"))


def name_of(path: Path) -> str:
    return path.relative_to(ROOT / "csrc").with_suffix("").as_posix()


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_a_file_includes_only_what_is_below_it(path: Path) -> None:
    own = name_of(path)
    for included in re.findall(r'#include "(.*)\.h"', path.read_text()):
        assert included == own or LEVEL[included] < LEVEL[own], f"{own} includes {included}"


def test_every_layer_is_there() -> None:
    assert {name_of(path) for path in SOURCES} | {"params"} == set(LEVEL)
