"""A shader and the files that it includes as one text: newLibraryWithSource has no include path."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

_INCLUDE = re.compile(r'\s*#\s*include\s+(?:"([^"]+)"|<([^>]+)>)')
_ONCE = re.compile(r"\s*#\s*pragma\s+once\b")


@dataclass
class Source:
    text: str
    origins: list[tuple[Path, int]]  # of each line
    joined: list[tuple[Path, int, str]] = field(default_factory=list)  # the includes that were resolved

    def place(self, line: int) -> tuple[Path, int]:
        return self.origins[min(max(line, 1), len(self.origins)) - 1]


def flatten(file: Path, folders: list[Path]) -> Source:
    """Looks for `#include "x.h"` beside the file that has it, then in the folders, for `#include <x.h>` in the folders.

    What is nowhere stays as it is: Metal's own headers, and what Metal would not find either.
    """
    source = Source("", [])
    lines: list[str] = []
    _add(file, folders, lines, source, set(), (file,))
    source.text = "".join(line + "\n" for line in lines)
    if not source.origins:
        source.origins = [(file, 1)]
    return source


def _add(
    file: Path, folders: list[Path], lines: list[str], source: Source, once: set[Path], within: tuple[Path, ...]
) -> None:
    for number, line in enumerate(file.read_text().splitlines(), 1):
        include = _INCLUDE.match(line)
        found = _find(include, file, folders) if include else None
        if _ONCE.match(line):
            once.add(file.resolve())
            line = ""
        elif found and found.resolve() in {p.resolve() for p in within} - once:
            raise RecursionError(f"{file}:{number}: {found} includes itself")
        elif include and found:
            source.joined.append((file, number, include[1] or include[2]))
            if found.resolve() not in once:
                _add(found, folders, lines, source, once, (*within, found))
            line = ""
        lines.append(line)
        source.origins.append((file, number))


def _find(include: re.Match[str], file: Path, folders: list[Path]) -> Path | None:
    places = (
        (file.parent / include[1], *(f / include[1] for f in folders))
        if include[1]
        else (f / include[2] for f in folders)
    )
    return next((place for place in places if place.is_file()), None)
