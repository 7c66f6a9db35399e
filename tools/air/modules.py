"""The LLVM modules within a file: kernels as Apple's compiler left them, in a .metallib or wherever one is embedded."""

from __future__ import annotations

import mmap
import re
import struct
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_WRAPPER = struct.pack("<I", 0x0B17C0DE)
_BITCODE = b"BC\xc0\xde"


@dataclass(frozen=True)
class Module:
    """The text of a module of a kernel; `version` is of the Metal language."""

    kernel: str
    version: str
    lines: list[str]


def bitcode(file: Path) -> Iterator[bytes]:
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as data:
        at = data.find(_WRAPPER)
        while at >= 0:
            _, _, offset, size, _ = struct.unpack_from("<5I", data, at)
            if data[at + offset : at + offset + 4] == _BITCODE:
                yield data[at + offset : at + offset + size]
            at = data.find(_WRAPPER, at + 4)


def disassemble(code: bytes) -> Module:
    done = subprocess.run(["llvm-dis-19", "-", "-o", "-"], input=code, capture_output=True, check=True)
    text = done.stdout.decode()
    kernel = re.search(r'= !\{ptr @"?([^",]+)"?, !\d+, !\d+', text)
    version = re.search(r'!\{!"Metal", i32 (\d+), i32 (\d+), i32 \d+\}', text)
    return Module(kernel[1] if kernel else "?", f"{version[1]}.{version[2]}" if version else "?", text.splitlines())
