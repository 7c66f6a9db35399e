"""docs/air.md speaks of what the kernels call today; `python tools/air` writes it anew."""

from __future__ import annotations

import re
import sys

from shader_source import ROOT, kernels

sys.path.insert(0, str(ROOT / "tools" / "air"))


def test_each_call_of_the_library_is_listed(simulator):
    from uses import Use, used

    listed = re.findall(r"^\| `([^`]+)` \|", (ROOT / "docs" / "air.md").read_text(), re.MULTILINE)
    calls = used(kernels().values())
    assert Use("simd_sum", ("float",)) in calls
    assert listed == [str(use) for use in sorted(calls)]
