"""With MPS_CONV_TRANSPOSE3D_LOG=1 in the environment: a line on stderr for each new call, as the bridge writes them."""

from __future__ import annotations

import os
import sys

from ._arguments import Geometry, Triple

_IS_LOGGING = os.environ.get("MPS_CONV_TRANSPOSE3D_LOG") == "1"
_said: set[str] = set()


def log_call(g: Geometry, choice: str, why: str) -> None:
    """Says of a call what computes it and why, unless that was said before."""
    if not _IS_LOGGING:
        return
    line = (
        f"mps_conv_transpose3d: input {g.batch}x{g.in_channels}x{_size(g.input)}, weight "
        f"{g.in_channels}x{g.out_channels // g.groups}x{_size(g.kernel)}, stride {_size(g.stride)}, padding "
        f"{_size(g.padding)}, output_padding {_size(g.output_padding)}, dilation {_size(g.dilation)}, groups {g.groups}"
        f": {choice} ({why})"
    )
    if line not in _said:
        _said.add(line)
        print(line, file=sys.stderr)


def _size(values: Triple) -> str:
    return "x".join(map(str, values))
