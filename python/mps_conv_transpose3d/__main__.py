"""``python -m mps_conv_transpose3d doctor | bench | explain``."""

import sys

from ._cli import main

if __name__ == "__main__":
    sys.exit(main())
