"""Which versions of PyTorch lack an operator on `mps`: operators.txt, a line for each operator.

    addmv.out 2.4-2.6
    _foobar 2.8, 2.10-2.15

A range is of the versions in the table's first line, both ends included.
"""

from __future__ import annotations

from pathlib import Path

TABLE = Path(__file__).with_name("operators.txt")


def read(table: Path = TABLE) -> dict[str, set[str]]:
    """By version, the operators that it lacks."""
    header, *lines = table.read_text().splitlines()
    versions = header.split()[1:]
    lacking: dict[str, set[str]] = {version: set() for version in versions}
    for line in lines:
        operator, _, ranges = line.partition(" ")
        for span in ranges.split(", "):
            first, _, last = span.partition("-")
            for version in versions[versions.index(first) : versions.index(last or first) + 1]:
                lacking[version].add(operator)
    return lacking


def write(lacking: dict[str, set[str]], table: Path = TABLE) -> None:
    """Versions stand in the order of `lacking`."""
    versions = list(lacking)
    lines = [" ".join(["versions", *versions])]
    for operator in sorted(set().union(*lacking.values())):
        spans: list[list[str]] = []
        for before, version in zip([None, *versions], versions):
            if operator in lacking[version]:
                if before is not None and operator in lacking[before]:
                    spans[-1][1:] = [version]
                else:
                    spans.append([version])
        lines.append(f"{operator} {', '.join('-'.join(span) for span in spans)}")
    table.write_text("\n".join(lines) + "\n")
