"""Both readings of one source, from the cache where they were made before."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass

from mps_simulator.msl import first, second
from mps_simulator.msl.diagnostics import Diagnostic
from mps_simulator.msl.toolchain import cache, keep

READINGS = {"first": first.read, "second": second.read}


@dataclass(frozen=True, order=True)
class Finding:
    line: int
    column: int
    message: str
    readings: tuple[str, ...]  # that say so: "first", "second"


def check(source: str, version: int, macros: Mapping[str, str] | None = None) -> list[Finding]:
    """What the readings refuse in a version of the language (310: Metal 3.1), in the order of the source."""
    said: dict[tuple[int, int, str], list[str]] = {}
    for name in READINGS:
        for d in _cached(name, source, version, dict(macros or {})):
            said.setdefault((d.line, d.column, d.message), []).append(name)
    return sorted(Finding(*diagnostic, tuple(readings)) for diagnostic, readings in said.items())


def _cached(reading: str, source: str, version: int, macros: dict[str, str]) -> list[Diagnostic]:
    key = json.dumps([reading, source, version, sorted(macros.items())])
    file = cache() / f"{hashlib.sha256(key.encode()).hexdigest()}.json"
    if file.exists():
        os.utime(file)
        return [Diagnostic(*d) for d in json.loads(file.read_text())]
    found = READINGS[reading](source, version, macros)
    keep(file, json.dumps([(d.line, d.column, d.message) for d in found]).encode())
    return found
