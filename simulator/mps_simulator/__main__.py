"""``python -m mps_simulator`` tells what is simulated; ``python -m mps_simulator toolchain`` prints the CMake file."""

from __future__ import annotations

import argparse
from pathlib import Path

import mps_simulator


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m mps_simulator", description=__doc__)
    parser.add_argument("what", nargs="?", choices=["toolchain"], help="print the path of the CMake toolchain file")
    if parser.parse_args().what == "toolchain":
        print(Path(__file__).resolve().parent / "cmake" / "toolchain.cmake")
        return

    import torch

    available = torch.backends.mps.is_available()
    print(f"mps_simulator {mps_simulator.__version__}")
    print(f"torch {torch.__version__}")
    print(f"mps {torch.backends.mps.get_name() if available else 'not available'}")


if __name__ == "__main__":
    main()
