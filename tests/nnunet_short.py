"""Runs one of nnU-Net's commands as it is, but for an epoch of few iterations, and records what ran on the device.

    python tests/nnunet_short.py REPORT.json SCRIPT [ARGUMENT ...]

The report is that of examples/nnunet/recorded.py.
"""

from __future__ import annotations

import functools
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "examples" / "nnunet"))

ITERATIONS, VALIDATIONS = 4, 1


def shorten_epochs() -> None:
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    whole = nnUNetTrainer.__init__

    @functools.wraps(whole)  # nnU-Net reads the names of its parameters
    def short(self, *arguments, **keywords) -> None:
        whole(self, *arguments, **keywords)
        self.num_epochs, self.num_iterations_per_epoch, self.num_val_iterations_per_epoch = 1, ITERATIONS, VALIDATIONS

    nnUNetTrainer.__init__ = short


if __name__ == "__main__":
    import recorded

    shorten_epochs()
    recorded.main()
