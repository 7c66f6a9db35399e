"""Reads Metal shaders as Apple's compiler might, twice, and says what each reading refuses."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from mps_simulator.msl.flatten import flatten
from mps_simulator.msl.readings import check
from mps_simulator.msl.tokens import VERSIONS

EPILOG = """\
The first reading is the compiler's that executes shaders here, and decides: what it refuses is an error. The second
takes the shader for C++ for OpenCL, sees more of address spaces and less of Metal's library: what it alone refuses is a
warning, or with --both an error. Exit status: 0 without errors, 1 with, 2 if a file cannot be read.
"""


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m mps_simulator.msl", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser(
        "check",
        help="read shaders",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("files", nargs="+", type=Path, metavar="FILE", help="a Metal source")
    command.add_argument("--std", choices=VERSIONS, default="metal3.1", help="version of the language (%(default)s)")
    command.add_argument("-D", action="append", default=[], metavar="NAME=VALUE", dest="macros", help="define a macro")
    command.add_argument(
        "-I", action="append", default=[], metavar="DIR", dest="folders", type=Path, help='where #include "..." looks'
    )
    command.add_argument("--both", action="store_true", help="what the second reading alone refuses is an error, too")
    options = parser.parse_args(arguments)
    macros = dict((*macro.split("=", 1), "1")[:2] for macro in options.macros)
    errors = 0
    try:
        for file in options.files:
            errors += _check(file, options.folders, VERSIONS[options.std], macros, options.both)
    except (OSError, UnicodeDecodeError, RecursionError, RuntimeError) as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    return 1 if errors else 0


def _check(file: Path, folders: list[Path], version: int, macros: dict[str, str], both: bool) -> int:
    source = flatten(file, folders)
    errors = 0
    for finding in check(source.text, version, macros):
        path, line = source.place(finding.line)
        is_error = both or "first" in finding.readings
        errors += is_error
        said_by = f"[{' and '.join(finding.readings)} reading{'s' if len(finding.readings) > 1 else ''}]"
        print(f"{path}:{line}:{finding.column}: {'error' if is_error else 'warning'}: {finding.message} {said_by}")
    if source.joined:
        path, line, name = source.joined[0]
        more = f" and {len(source.joined) - 1} more" if len(source.joined) > 1 else ""
        print(
            f'{path}:{line}:1: note: "{name}"{more} joined to the source: newLibraryWithSource has no include path',
            file=sys.stderr,
        )
    return errors


if __name__ == "__main__":
    sys.exit(main())
