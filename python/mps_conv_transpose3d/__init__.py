"""ConvTranspose3d on Apple GPUs for stock PyTorch.

Importing this package (or torch itself, from 2.5 on) makes ``torch.nn.ConvTranspose3d`` and every other way of calling
the operation run on our Metal kernels on device ``mps``, forward and backward, in float32, float16 and bfloat16.
Set ``MPS_CONV_TRANSPOSE3D=0`` to leave PyTorch as it is. Without an ``mps`` device the package does nothing.
"""

import os

from ._switch import disable, enable, enabled, is_enabled, unavailable_reason
from ._version import __version__

__all__ = ["__version__", "disable", "enable", "enabled", "is_enabled", "unavailable_reason"]

if os.environ.get("MPS_CONV_TRANSPOSE3D") != "0":
    enable()
