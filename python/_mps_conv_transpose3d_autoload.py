"""What ``import torch`` calls at its end, from torch 2.5 on (entry-point group ``torch.backends``).

A module of its own: importing the package here would re-enter it when the package is what imports torch.
"""

import os
import sys


def autoload() -> None:
    """Switch the operators on. An exception here would make ``import torch`` fail, so there is none."""
    if os.environ.get("MPS_CONV_TRANSPOSE3D") == "0" or "mps_conv_transpose3d" in sys.modules:
        return
    try:
        import mps_conv_transpose3d  # noqa: F401
    except Exception as error:
        import warnings

        message = f"mps_conv_transpose3d is not available: {error!r}"
        try:
            warnings.warn(message, RuntimeWarning, stacklevel=2)
        except Exception:  # a filter (python -W error) makes one of a warning
            print(message, file=sys.stderr)
