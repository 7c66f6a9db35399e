"""The compiler and its cache on disk: many processes, damaged files, killed compilations, full disks."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

PROGRAM = """
import torch
lib = torch.mps.compile_shader('''#include <metal_stdlib>
using namespace metal;
kernel void f(device float* x, uint i [[thread_position_in_grid]]) {
  threadgroup_barrier(mem_flags::mem_none);
  x[i] = i + 1;
}''')
x = torch.zeros(5000, device="mps")
lib.f(x, group_size=100)
assert x.sum().item() == 5000 * 5001 / 2
"""


def start(cache: Path, program: str = PROGRAM, **variables: str) -> subprocess.Popen:
    environment = {**os.environ, "XDG_CACHE_HOME": str(cache), **variables}
    return subprocess.Popen(
        [sys.executable, "-c", program], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_processes_share_an_empty_cache(tmp_path):
    cache = tmp_path / "cache"
    processes = [start(cache) for _ in range(3)]
    for process in processes:
        _, error = process.communicate(timeout=300)
        assert process.returncode == 0, error
    folder = cache / "mps-simulator"
    assert folder.stat().st_mode & 0o777 == 0o700
    files = [f for f in folder.rglob("*") if f.is_file()]
    assert not [f for f in files if f.name.startswith("tmp-")]
    assert len([f for f in files if f.name.startswith("kernel-")]) == 1
    before = {f: f.stat().st_mtime_ns for f in files}
    process = start(cache)
    assert process.wait(timeout=300) == 0
    assert {f: f.stat().st_mtime_ns for f in folder.rglob("*") if f.is_file()} == before


def test_the_cache_is_bounded(tmp_path):
    """What was used longest ago goes first, and what was used just now stays."""
    assert start(tmp_path).wait(timeout=300) == 0
    folder = tmp_path / "mps-simulator" / "msl"
    kept = {f for f in folder.rglob("*") if f.is_file()}
    (folder / "another simulator").mkdir()
    days_unused = {folder / "another simulator" / f"kernel-{days}.so": days for days in range(1, 5)}
    for file in days_unused:
        file.write_bytes(bytes(10 << 20))
    for file in kept:
        os.utime(file, (time.time() - 9 * 86400,) * 2)
    for file, days in days_unused.items():
        os.utime(file, (time.time() - days * 86400,) * 2)
    megabytes = sum(f.stat().st_size for f in kept) // 2**20 + 1 + 25
    # Its own prelude and so on are used; another kernel is made.
    another = PROGRAM.replace("i + 1", "1 + i")
    assert start(tmp_path, PROGRAM + another, MPS_SIMULATOR_CACHE_MB=str(megabytes)).wait(timeout=300) == 0
    left = {f for f in folder.rglob("*") if f.is_file()}
    assert {days for file, days in days_unused.items() if file in left} == {1, 2}
    assert kept <= left


def test_a_cache_that_others_can_write_to_is_refused(tmp_path):
    (tmp_path / "mps-simulator").mkdir(mode=0o777)
    (tmp_path / "mps-simulator").chmod(0o777)
    process = start(tmp_path)
    _, error = process.communicate(timeout=300)
    assert process.returncode != 0 and "only its owner, this user, can write to" in error


# --- damage


def empty(_: bytes) -> bytes:
    return b""


def cut_short(content: bytes) -> bytes:
    """As a full disk leaves it. Whoever maps such a library dies of SIGBUS."""
    return content[: len(content) // 2]


def cut_off_the_end(content: bytes) -> bytes:
    return content[:-1]


def garble(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + b"garbage" + content[middle + 7 :]


@pytest.mark.parametrize("damage", [empty, cut_short, cut_off_the_end, garble])
def test_damaged_files_are_made_anew(tmp_path, damage):
    assert start(tmp_path).wait(timeout=300) == 0
    files = {f: f.read_bytes() for f in (tmp_path / "mps-simulator").rglob("*") if f.is_file()}
    assert {f.name.partition("-")[0] for f in files} == {"lib", "kernel", "prelude.pch"}
    for file, content in files.items():
        file.write_bytes(damage(content))
    process = start(tmp_path)
    _, error = process.communicate(timeout=300)
    assert process.returncode == 0, error
    assert {f: len(f.read_bytes()) for f in files} == {f: len(content) for f, content in files.items()}
    before = {f: f.stat().st_mtime_ns for f in files}
    assert start(tmp_path).wait(timeout=300) == 0
    assert {f: f.stat().st_mtime_ns for f in files} == before


# --- compilers that come to grief


def wrapper(folder: Path, script: str) -> str:
    """A compiler that does as the shell script says instead of linking."""
    compiler = folder / "clang++"
    compiler.write_text(f"""#!/bin/sh
case " $* " in *" -shared "*) {script} ;; esac
exec /usr/bin/env clang++-19 "$@"
""")
    compiler.chmod(0o755)
    (folder / "llvm-symbolizer").symlink_to("/usr/bin/true")
    return str(compiler)


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("echo 'fatal error: No space left on device' >&2; exit 1", "compiler failed:\nfatal error: No space left"),
        ("kill -KILL $$", "clang++ was ended by signal 9 (Killed)"),
        ("exit 7", "clang++ failed with exit status 7, and did not say why"),
    ],
)
def test_what_stopped_the_compiler_is_named(tmp_path, script, reason):
    process = start(tmp_path, MPS_SIMULATOR_CLANG=wrapper(tmp_path, script))
    _, error = process.communicate(timeout=300)
    assert process.returncode == 1
    assert reason in error and "SyntaxError" not in error
    assert not list((tmp_path / "mps-simulator").rglob("tmp-*"))


def test_what_cannot_be_written_is_named(tmp_path):
    assert start(tmp_path).wait(timeout=300) == 0
    (library,) = (tmp_path / "mps-simulator").rglob("lib-*")
    library.unlink()
    library.mkdir()
    process = start(tmp_path)
    _, error = process.communicate(timeout=300)
    assert process.returncode == 1 and f"cannot write {library}: Is a directory" in error


def test_what_a_killed_compilation_left_goes_away(tmp_path):
    process = start(tmp_path, MPS_SIMULATOR_CLANG=wrapper(tmp_path, "sleep 60"))
    folder = tmp_path / "mps-simulator"
    while not (list(folder.rglob("lib-*")) and (left := list(folder.rglob("tmp-*")))):
        assert process.poll() is None
        time.sleep(0.05)
    assert start(tmp_path).wait(timeout=300) == 0
    assert left[0].exists(), "it is still being made"
    process.kill()
    process.wait()
    assert start(tmp_path, PROGRAM.replace("i + 1", "1 + i")).wait(timeout=300) == 0
    assert not list(folder.rglob("tmp-*"))


# --- kernels side by side

KERNELS = """
import torch
library = torch.mps.compile_shader('\\n'.join(
    f'kernel void f{n}(device float* x, uint i [[thread_position_in_grid]]) {{ x[i] = {n}; }}' for n in range(8)))
x = torch.zeros(1, device="mps")
for name in NAMES:
    getattr(library, name)(x)
    assert x.item() == int(name[1:])
"""


def compilations(tmp_path: Path, names: list[str]) -> list[float]:
    """When the compilations of a program began, and, negative, when they were done: each takes a second and more."""
    times = tmp_path / "times"
    script = (
        f"date +%s.%N >> {times}; sleep 1; /usr/bin/env clang++-19 \"$@\"; e=$?; date +'-%s.%N' >> {times}; exit $e"
    )
    process = start(tmp_path, f"NAMES = {names}\n{KERNELS}", MPS_SIMULATOR_CLANG=wrapper(tmp_path, script))
    _, error = process.communicate(timeout=300)
    assert process.returncode == 0, error
    return [float(line) for line in times.read_text().split()]


def test_the_kernels_of_a_library_are_compiled_side_by_side(tmp_path):
    """On all cores, and never more; from the second on that a program asks for, for the first may be the only one."""
    running = most = 0
    for time_or_end in compilations(tmp_path, [f"f{n}" for n in range(8)]):
        running += 1 if time_or_end > 0 else -1
        most = max(most, running)
    assert most == min(os.cpu_count(), 8)


def test_one_kernel_of_a_library_is_compiled_alone(tmp_path):
    assert len(compilations(tmp_path, ["f3"])) == 2
