"""What a Mac's kernel and loader read of a Mach-O bundle's own bytes: its header, and the pages under its signature.

The layouts are those of <mach-o/loader.h> and of xnu's osfmk/kern/cs_blobs.h; a signature is big-endian.
"""

from __future__ import annotations

import hashlib
import re
import struct
from collections.abc import Iterator

MAGIC_64, CPU_TYPE_ARM64, BUNDLE, TWO_LEVEL = 0xFEEDFACF, 0x0100000C, 8, 0x80
CODE_SIGNATURE = 0x1D
SIGNATURE_MAGIC, DIRECTORY_MAGIC, DIRECTORY_SLOT = 0xFADE0CC0, 0xFADE0C02, 0
ADHOC, SHA256 = 0x2, 2

# A folder that is on every Mac is no trace of the machine that a file was built on.
FOLDER = re.compile(rb"(?<![\w@.:/])/(?!usr/lib/|System/Library/)[A-Za-z][\w.+-]*(?:/[\w.+-]+)+")


def header_problems(data: bytes) -> list[str]:
    magic, cpu, _, kind, _, _, flags, _ = struct.unpack_from("<8I", data)
    expected = {"a 64-bit Mach-O file": magic == MAGIC_64, "for arm64": cpu == CPU_TYPE_ARM64}
    expected |= {"a bundle": kind == BUNDLE, "bound library by library": bool(flags & TWO_LEVEL)}
    return [f"the bundle is not {what}" for what, holds in expected.items() if not holds]


def signature_problems(data: bytes) -> list[str]:
    """Everything for which macOS would refuse to map a page: Apple silicon runs nothing unsigned."""
    try:
        return _signature_problems(data)
    except struct.error:
        return ["the signature is cut short"]


def _signature_problems(data: bytes) -> list[str]:
    places = [struct.unpack_from("<2I", data, at + 8) for at, command in _commands(data) if command == CODE_SIGNATURE]
    if len(places) != 1:
        return [f"the bundle has {len(places)} signatures"]
    ((offset, size),) = places
    if offset + size != len(data):
        return ["the signature is not the end of the file"]
    magic, _, count = struct.unpack_from(">3I", data, offset)
    slots = dict(struct.unpack_from(">2I", data, offset + 12 + 8 * i) for i in range(count))
    if magic != SIGNATURE_MAGIC or DIRECTORY_SLOT not in slots:
        return ["the signature has no code directory"]
    start = offset + slots[DIRECTORY_SLOT]
    magic, _, _, flags, hashes, _, _, pages, limit = struct.unpack_from(">9I", data, start)
    hash_size, hash_type, _, page_shift = struct.unpack_from(">4B", data, start + 36)
    if magic != DIRECTORY_MAGIC or (hash_size, hash_type) != (32, SHA256):
        return ["the code directory is none of SHA-256"]
    if not flags & ADHOC:
        return ["the signature is not ad hoc"]
    page = 1 << page_shift
    if limit != offset or pages != -(-limit // page):
        return ["the signature does not cover the file"]
    for i in range(pages):
        digest = hashlib.sha256(data[i * page : min((i + 1) * page, limit)]).digest()
        if digest != data[start + hashes + 32 * i : start + hashes + 32 * (i + 1)]:
            return [f"page {i} is not what was signed"]
    return []


def _commands(data: bytes) -> Iterator[tuple[int, int]]:
    """(offset, command) of each load command."""
    (count,) = struct.unpack_from("<I", data, 16)
    at = 32
    for _ in range(count):
        command, size = struct.unpack_from("<2I", data, at)
        yield at, command
        at += size


def folder_problems(data: bytes) -> list[str]:
    found = sorted({match.decode() for match in FOLDER.findall(data)})
    return [f"the bundle names {folder}, of the machine that it was built on" for folder in found]
