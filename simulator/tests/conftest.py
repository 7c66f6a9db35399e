"""The simulator's own tests run their kernels with all checks."""

import os

os.environ.setdefault("MPS_SIMULATOR_CHECKS", "1")  # read when the first kernel is compiled
