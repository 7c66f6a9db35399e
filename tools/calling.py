"""docs/calling.md from tests/ways.py:  python tools/calling.py"""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DOCUMENT = ROOT / "docs" / "calling.md"
sys.path.insert(0, str(ROOT / "tests"))

from ways import ALL, WAYS, Way  # noqa: E402

HEAD = """# Ways of calling ConvTranspose3d

Made by `python tools/calling.py` from `tests/ways.py`; not to be edited.

Each row is a test: `pytest tests/test_ways.py -k "NAME"`. It computes the result, and the gradients where there are
any, on `mps`, and fails if a convolution on the CPU ran in our kernel's place, or if the error against float64 is over
twice that of PyTorch's CPU operator in the same dtype. The tests run with torch 2.13 on the simulated device.

"From" is the first PyTorch, of 2.4 to 2.15, in which a program can call so on `mps`: autocast came with 2.5 (float16,
[#99272](https://github.com/pytorch/pytorch/pull/99272)) and 2.6 (bfloat16,
[#139390](https://github.com/pytorch/pytorch/pull/139390)), inductor for `mps` with 2.8
([#150121](https://github.com/pytorch/pytorch/issues/150121)), a pool of streams with 2.15. All rows end in
`aten::_convolution` and `aten::convolution_backward`, the same in all of these versions; those other than 2.13 were not
run.

A dtype that is not listed does not apply to the row. complex64 and all other convolutions go on to PyTorch.
"""


def dtypes_of(way: Way) -> str:
    return "all three" if way.dtypes == ALL else ", ".join(str(dtype).removeprefix("torch.") for dtype in way.dtypes)


def document() -> str:
    parts = [HEAD]
    for group, ways in itertools.groupby(WAYS, lambda way: way.group):
        rows = [f"| `{way.name}` | {way.since} | {dtypes_of(way)} | {way.note} |" for way in ways]
        parts.append("\n".join([f"## {group}\n", "| way | from | dtypes | |", "|---|---|---|---|", *rows, ""]))
    return "\n".join(parts)


if __name__ == "__main__":
    DOCUMENT.write_text(document())
    print(DOCUMENT.relative_to(ROOT))
