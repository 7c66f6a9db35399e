"""Plants faults in a copy of the sources, one at a time, and asks the tests: each fault must make one fail.

    python tools/mutants [NAME ...]     only the faults whose names contain one of these words

The copy, its build and its installation lie in build/mutants; the working tree is never changed.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

from faults import FAULTS, QUICK_TESTS, Fault
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[2]
WORK = ROOT / "build" / "mutants"
TREE, SITE = WORK / "tree", WORK / "site"
PARTS = (
    *("CMakeLists.txt", "cmake", "csrc", "metal", "pyproject.toml", "python", "setup.py"),
    *("tests", "pytest.ini", "README.md"),
)
# A hang is a catch, too; the whole set takes less than half of this.
TIMEOUT = 900


def files_of(tree: Path) -> set[Path]:
    """What the copy consists of, relative to `tree`."""
    found: set[Path] = set()
    for part in PARTS:
        found.update([tree / part] if (tree / part).is_file() else (tree / part).rglob("*"))
    return {path.relative_to(tree) for path in found if path.is_file() and "__pycache__" not in path.parts}


def copy_sources() -> None:
    """Brings the copy up to date. Files that are the same keep their time, so that they are not compiled again."""
    sources = files_of(ROOT)
    for stale in files_of(TREE) - sources:
        (TREE / stale).unlink()
    for name in sources:
        source, target = ROOT / name, TREE / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists() or target.read_bytes() != source.read_bytes():
            shutil.copyfile(source, target)


def environment() -> dict[str, str]:
    env = {**os.environ, "PATH": os.pathsep.join([f"{sys.prefix}/bin", os.environ["PATH"]])}
    if sys.platform != "darwin":
        toolchain = subprocess.check_output([sys.executable, "-m", "mps_simulator", "toolchain"], text=True, cwd=WORK)
        env["CMAKE_TOOLCHAIN_FILE"] = toolchain.strip()
    return env


def build(env: dict[str, str]) -> str | None:
    """Builds the copy into SITE. Returns the compiler's words where it fails."""
    env = {**env, "MPS_SIMULATOR": "0", "MPS_CONV_TRANSPOSE3D": "0", "MPS_CONV_TRANSPOSE3D_BRIDGE": "1"}
    command = [sys.executable, "setup.py", "build_py", "--build-lib", str(SITE), "build_ext", "--build-lib", str(SITE)]
    result = subprocess.run(command, cwd=TREE, env=env, capture_output=True, text=True)
    return None if result.returncode == 0 else result.stdout + result.stderr


def ask_tests(env: dict[str, str]) -> str | None:
    """The first test that fails, crashes or hangs; None where all pass."""
    command = [sys.executable, "-m", "pytest", "-x", "-v", "--tb=no", "-p", "no:cacheprovider", *QUICK_TESTS]
    env = {**env, "PYTHONPATH": str(SITE), "OMP_NUM_THREADS": "1"}
    log = WORK / "tests.log"
    with log.open("w") as file:
        try:
            done = subprocess.run(command, cwd=TREE, env=env, stdout=file, stderr=file, timeout=TIMEOUT)
        except subprocess.TimeoutExpired:
            done = None
    text = log.read_text(errors="replace")
    if done and done.returncode == 0:
        return None
    failed = re.search(r"^FAILED (tests/\S+?::.+?)(?: - |$)", text, re.MULTILINE)
    if failed:
        return failed[1]
    running = re.findall(r"^(tests/\S+?::.*?)(?: (?:PASSED|SKIPPED).*)?$", text, re.MULTILINE)
    if not running:
        raise SystemExit(f"mutants: pytest did not run:\n{text[-2000:]}")
    return f"{running[-1].strip()} ({'the process died' if done else 'hung'})"


def plant(fault: Fault) -> None:
    path = TREE / fault.file
    path.write_text(path.read_text().replace(fault.old, fault.new))


def main() -> int:
    words = sys.argv[1:]
    faults = [fault for fault in FAULTS if not words or any(word in fault.name for word in words)]
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 150)
    WORK.mkdir(parents=True, exist_ok=True)
    env = environment()
    copy_sources()

    console.print("mutants: the sources as they are ... ", end="")
    started = time.monotonic()
    complaint = build(env) or ask_tests(env)
    if complaint:
        console.print(f"the tests must pass before faults are planted: {complaint}", markup=False)
        return 1
    console.print(f"all tests pass in {time.monotonic() - started:.0f} s")

    table = Table("fault", "what it would do", "caught by")
    survivors = []
    for fault in faults:
        console.print(f"mutants: {fault.name} ... ", end="")
        started = time.monotonic()
        plant(fault)
        complaint = build(env)
        caught = f"the compiler: {complaint[-200:]}" if complaint else ask_tests(env)
        copy_sources()
        if caught is None:
            survivors.append(fault.name)
        console.print(f"{'caught' if caught else 'SURVIVED'} in {time.monotonic() - started:.0f} s")
        table.add_row(fault.name, fault.reason, (caught or "nothing").replace("[", r"\["))
    console.print(table)
    console.print(f"mutants: {len(faults) - len(survivors)} of {len(faults)} caught")
    if survivors:
        console.print(f"mutants: survived: {', '.join(survivors)}")
    return bool(survivors)


if __name__ == "__main__":
    sys.exit(main())
