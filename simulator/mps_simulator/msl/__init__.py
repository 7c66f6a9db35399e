"""Two readings of a Metal shader, independent of each other.

The first is the compiler's that executes shaders here; the second (second.py) takes the shader for C++ for OpenCL. What
either refuses is worth a look: neither is Apple's compiler. ``python -m mps_simulator.msl check FILE`` runs both.
"""

from mps_simulator.msl.flatten import Source, flatten
from mps_simulator.msl.readings import Finding, check
from mps_simulator.msl.tokens import VERSIONS

__all__ = ["VERSIONS", "Finding", "Source", "check", "flatten"]
