"""An Apple-silicon Mac, as far as a PyTorch extension can tell, on a Linux machine.

Nothing has to be imported: with this package in the environment, ``import torch`` has a working ``mps`` device
(``MPS_SIMULATOR=0`` turns it off). What is here is for tests: :func:`record` tells what ran and counts what it did,
and :class:`Finding` is what the checks of a running kernel raise.
"""

from mps_simulator._finding import Finding
from mps_simulator._recording import Counters, Dispatch, Recording, record

__version__ = "0.1.0"
__all__ = ["Counters", "Dispatch", "Finding", "Recording", "record"]
