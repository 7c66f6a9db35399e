"""What a reading of a shader says."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, order=True)
class Diagnostic:
    """One thing that a reading refuses; lines and columns are counted from 1."""

    line: int
    column: int
    message: str


class Refused(Exception):
    """The source is refused before its tokens are known."""

    def __init__(self, diagnostics: list[Diagnostic]) -> None:
        super().__init__("\n".join(d.message for d in diagnostics))
        self.diagnostics = diagnostics
