"""The first reading of a shader: by the compiler that executes it here."""

from __future__ import annotations

import re

from mps_simulator.msl.diagnostics import Diagnostic

_ERROR = re.compile(r"program_source:(\d+):(\d+): error: (.*)")


def read(source: str, version: int, macros: dict[str, str]) -> list[Diagnostic]:
    """What it refuses."""
    import torch  # noqa: F401  the compiler is linked to it

    from mps_simulator._C import check_shader

    defined = [f"#define {name} {value}\n" for name, value in macros.items()]
    said = check_shader("".join(defined) + source, version)
    found = [
        Diagnostic(int(e[1]) - len(defined), int(e[2]), e[3]) for e in map(_ERROR.fullmatch, said.splitlines()) if e
    ]
    return found or ([Diagnostic(1, 1, said)] if said else [])
