"""Lists what of Metal's library the kernels use, each with a place where Apple's compiler made code of the same.

python tools/air            # writes docs/air.md; downloads the macOS wheels of MLX and PyTorch (160 MB)
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools" / "mac"))

import wheels
from modules import bitcode, disassemble
from shader_source import ROOT, kernels
from uses import Use, used

LIBRARIES = {
    "MLX": (wheels.Wheel("mlx-metal", "0.32.4", ("mlx/lib/mlx.metallib",)), "mlx/lib/mlx.metallib"),
    "PyTorch": (wheels.Wheel("torch", "2.13.0", ("torch/lib/libtorch_cpu.dylib",)), "torch/lib/libtorch_cpu.dylib"),
}
DOCUMENT = ROOT / "docs" / "air.md"
HEAD = """\
# What Apple's compiler has been seen to make

Every function of Metal's library that the kernels call, with the types they call it with, and a place where Apple's own
compiler made code of the same: in the libraries that the macOS wheels of {wheels} bring.
The code is AIR, Apple's form of LLVM's. It shows that the compiler takes the call, and how; not what the driver makes
of it. None seen means no more than that: what becomes plain instructions, as `isinf` and `mulhi` may, has no name to be
found by.

`python tools/air` writes this page; `tests/test_air.py` holds its first column to the kernels.

| the kernels call | Apple's compiler made | in | of | Metal |
|---|---|---|---|---|
"""
# In AIR: the suffix of an intrinsic function, and the type.
SUFFIXES = {"float": "f32", "half": "f16", "bfloat": "bf16", "int": "s.i32", "uint": "u.i32"}
TYPES = {"float": "float", "half": "half", "bfloat": "bfloat", "ushort": "i16"}
NAMES = {"mulhi": "mul_hi"}
MOST = 300  # modules that are looked at for one use


def expected(use: Use) -> tuple[bytes, str]:
    """What a module must contain to be looked at, and the line that is looked for in it, a pattern."""
    matrices = [re.fullmatch(r"simdgroup_(\w+)8x8", t) for t in use.types]
    elements = [SUFFIXES[m[1]] for m in matrices if m]
    if use.name == "simdgroup_load":
        name = f"air.simdgroup_matrix_8x8_load.v64{elements[0]}.p3{elements[0]}"
        return name.encode(), rf"@{re.escape(name)}\(.*{', i1 true' if len(use.types) > 2 else ''}\)"
    if use.name == "simdgroup_multiply_accumulate":
        d, a, b, c = elements
        name = f"air.simdgroup_matrix_8x8_multiply_accumulate.v64{d}.v64{a}.v64{b}.v64{c}"
        return name.encode(), rf"@{re.escape(name)}\("
    if use.name == "make_filled_simdgroup_matrix":
        name = "air.simdgroup_matrix_8x8_init_filled.v64f32.f32"
        return name.encode(), rf"@{re.escape(name)}\("
    if use.name == "thread_elements":
        return (
            b"air.simdgroup_matrix_8x8",
            r"(extractelement <64 x float> \S+, i|shufflevector <64 x float>.*, <2 x i32>)",
        )
    if use.name == "threadgroup_barrier":
        return b"air.wg.barrier", r"@air\.wg\.barrier\(i32 2, i32 1\)"
    if use.name == "as_type":
        to, of = (f"<{t[-1]} x {TYPES[t[:-1]]}>" for t in (use.result, use.types[0]))
        return b"bfloat", rf"bitcast {of} \S+ to {to}"
    if use.name == "popcount":
        return b"air.popcount.", r"@air\.popcount\.i32\("
    name = f"air.{NAMES.get(use.name, use.name)}.{SUFFIXES[use.types[0]]}"
    return name.encode(), rf"@{re.escape(name)}\("


def find(wanted: dict[Use, tuple[bytes, str]], file: Path) -> dict[Use, tuple[str, str, str]]:
    """Of each use: the line, the kernel, the version of Metal."""
    found: dict[Use, tuple[str, str, str]] = {}
    looked = dict.fromkeys(wanted, 0)
    for code in bitcode(file):
        candidates = [u for u, (part, _) in wanted.items() if u not in found and looked[u] < MOST and part in code]
        if not candidates:
            continue
        module = disassemble(code)
        for use in candidates:
            looked[use] += 1
            pattern = re.compile(wanted[use][1])
            line = next((x for x in module.lines if " = " in x or "call" in x if pattern.search(x)), None)
            if line:
                found[use] = (line.strip(), module.kernel, module.version)
    return found


def main() -> None:
    wanted = {use: expected(use) for use in used(kernels().values())}
    rows = {}
    for library, (wheel, file) in LIBRARIES.items():
        left = {use: pattern for use, pattern in wanted.items() if use not in rows}
        for use, (line, kernel, version) in find(left, wheels.folder(wheel) / file).items():
            # The numbers of values, and of lists of attributes, mean nothing elsewhere.
            line = re.sub(r"^%\d+ = |tail |nocapture |readonly |local_unnamed_addr | #\d+$|, !\w+ .*$", "", line)
            rows[use] = f"`{line}` | `{kernel}` | {library} | {version} |"
    text = HEAD.format(wheels=" and ".join(str(wheel) for wheel, _ in LIBRARIES.values()))
    for use in sorted(wanted):
        text += f"| `{use}` | {rows.get(use, 'none seen | | | |')}\n"
    DOCUMENT.write_text(text)
    subprocess.run(["git", "--no-pager", "diff", "--stat", str(DOCUMENT)], cwd=ROOT)


if __name__ == "__main__":
    main()
