"""Which operators the installed PyTorch has on `mps`, from the list of operators that every wheel of it carries."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

# Kernels that serve every device by calling other operators.
COMPOSITE = {"CompositeImplicitAutograd", "CompositeExplicitAutograd", "CompositeExplicitAutogradNonFunctional"}


@dataclass
class _Entry:
    keys: set[str] = field(default_factory=set)  # of its dispatch table
    delegate: str | None = None  # the operator whose kernels are its own too


def native_functions() -> Path | None:
    """PyTorch's own list of operators; None where the installed PyTorch has none."""
    torchgen = importlib.util.find_spec("torchgen")
    if torchgen is None or torchgen.origin is None:
        return None
    path = Path(torchgen.origin).parent / "packaged" / "ATen" / "native" / "native_functions.yaml"
    return path if path.exists() else None


def missing_on_mps(operators: Iterable[str], functions: Path) -> list[str]:
    """Those of `operators` ("cat", "add.Tensor") that have no kernel on `mps`, by the list `functions`.

    An operator that calls others is not followed. Raises OSError if the list cannot be read.
    """
    entries = _read(functions.read_text(encoding="utf-8"))
    return sorted(name for name in set(operators) if not _is_on_mps(name, entries))


def _is_on_mps(name: str, entries: dict[str, _Entry]) -> bool:
    entry = entries.get(name)
    if entry is None:
        return False
    keys = entry.keys | (entries[entry.delegate].keys if entry.delegate else set())
    # An operator without a table is composite.
    return not keys or "MPS" in keys or bool(COMPOSITE & keys)


def _read(text: str) -> dict[str, _Entry]:
    """The YAML file's lines tell all that is asked, and save the user a YAML reader."""
    entries: dict[str, _Entry] = {}
    entry, in_table = _Entry(), False
    for line in text.splitlines():
        if match := re.match(r"- func: ([\w.]+)\(", line):
            entry = entries[match[1]] = _Entry()
            in_table = False
        elif match := re.match(r"  structured_delegate: ([\w.]+)", line):
            entry.delegate = match[1]
        elif match := re.match(r"  autogen: (.*)", line):
            for name in match[1].split(","):  # made from this one, for every device
                entries[name.strip()] = _Entry()
        elif re.match(r"  \w", line):
            in_table = line.startswith("  dispatch:")
            if line.startswith("  dispatch: {}"):
                entry.keys.add("none")
        elif in_table and (match := re.match(r"    ([\w, ]+):", line)):
            entry.keys.update(key.strip() for key in match[1].split(","))
    return entries
