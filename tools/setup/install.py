"""Fills .venv: torch, the other packages, the simulator (Linux only), the product; with argument nnunetv2 that too.

Runs under .venv's Python, from the repository's root. Each step is skipped while what it depends on is what it was when
the step last succeeded: a digest of the contents of its files, kept in .venv/.setup/. Contents and not times, because
`git checkout` changes the times of files that it leaves as they were.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SETUP = ROOT / "tools" / "setup"
LOGS = ROOT / "build" / "setup"
STAMPS = Path(sys.prefix) / ".setup"
ON_MAC = sys.platform == "darwin"

TORCH_ON_LINUX = "2.13.0"  # the version whose mps device the simulator supplies
TORCH_ON_MAC = (2, 4), (2, 15)  # first and last version that the package supports

# Made by builds and by Python itself: no source.
GENERATED = re.compile(r"(^|/)(build|dist|__pycache__|[^/]*\.egg-info|\.pytest_cache)/|\.(so|dylib|pyc)$")


class SetupError(Exception):
    """A step failed; the message is all that a person needs to see."""


def digest(*paths: str, extra: str = "") -> str:
    """Digest of the names and contents of files, and of files under folders, given relative to the root."""
    sha = hashlib.sha256(f"{sys.version}\n{sys.prefix}\n{extra}\n".encode())
    for path in paths:
        top = ROOT / path
        for file in [top] if top.is_file() else sorted(p for p in top.rglob("*") if p.is_file()):
            name = file.relative_to(ROOT).as_posix()
            if not GENERATED.search(name):
                sha.update(f"{name}\0".encode())
                sha.update(hashlib.sha256(file.read_bytes()).digest())
    return sha.hexdigest()


def installed(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def what_failed(log: str) -> str:
    """The first error of a compiler or of CMake and what follows it; without one, the end of the log."""
    lines = log.splitlines()
    first = next((i for i, line in enumerate(lines) if re.search(r"^ *FAILED: |\berror: |^ *CMake Error", line)), None)
    return "\n".join(lines[-25:] if first is None else lines[first : first + 25])


def run(log: str, *command: str, env: dict[str, str] | None = None) -> None:
    """Runs a command with its output in build/setup/<log>.log."""
    path = LOGS / f"{log}.log"
    with path.open("w") as file:
        code = subprocess.call(
            command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=file, stderr=file, env={**os.environ, **(env or {})}
        )
    if code != 0:
        failure = what_failed(path.read_text(errors="replace"))
        raise SetupError(f"{failure}\nsetup: this failed: {' '.join(command)}\nsetup: the whole log is {path}")


def pip(log: str, *arguments: str, env: dict[str, str] | None = None) -> None:
    run(log, sys.executable, "-m", "pip", "install", "--disable-pip-version-check", *arguments, env=env)


def torch_fits(version: str | None) -> bool:
    if version is None:
        return False
    if not ON_MAC:
        return version.split("+")[0] == TORCH_ON_LINUX
    first, last = TORCH_ON_MAC
    return first <= tuple(int(part) for part in version.split(".")[:2]) <= last


def install_torch() -> None:
    if torch_fits(installed("torch")):
        return
    if ON_MAC:
        first, last = TORCH_ON_MAC
        attempts = [[f"torch>={first[0]}.{first[1]},<{last[0]}.{last[1] + 1}"]]
    else:
        # The CPU build where pip finds it (200 MB): the one with CUDA works too, but is 15 times as large.
        attempts = [[f"torch=={TORCH_ON_LINUX}+cpu"], [f"torch=={TORCH_ON_LINUX}"]]
    for attempt in attempts:
        try:
            pip("torch", *attempt)
            return
        except SetupError as error:
            failure = error
    raise failure


def install_packages(*packages: str) -> None:
    # Nothing that comes later may replace torch by another build.
    pinned = LOGS / "constraints.txt"
    versions = "" if ON_MAC else (SETUP / "constraints.txt").read_text()
    pinned.write_text(f"{versions}\ntorch=={installed('torch')}\n")
    pip("packages", "--constraint", str(pinned), *packages)


def install_requirements() -> None:
    install_packages("--requirement", str(SETUP / "requirements.txt"))


def install_nnunet() -> None:
    install_packages("nnunetv2")
    if not ON_MAC:
        # nnU-Net asks for timm, which asks for torchvision, of which the registry has the build for CUDA: beside torch
        # for the CPU it raises at import, and nnU-Net then finds no trainer but its own. This one only warns.
        pip("torchvision", "--no-deps", "torchvision==0.16.2")


BUILD = ["--no-build-isolation", "--no-deps", "--force-reinstall", "--verbose"]
# Neither package need be switched on while it is being built, and a broken one must not get in the way.
BUILD_ENV = {
    "MPS_SIMULATOR": "0",
    "MPS_CONV_TRANSPOSE3D": "0",
    "PATH": f"{sys.prefix}/bin{os.pathsep}{os.environ['PATH']}",
}


def install_simulator() -> None:
    pip("simulator", *BUILD, "./simulator", env=BUILD_ENV)


def install_product() -> None:
    env = {**BUILD_ENV, "MPS_CONV_TRANSPOSE3D_BRIDGE": "1"}
    if not ON_MAC:
        command = [sys.executable, "-m", "mps_simulator", "toolchain"]
        result = subprocess.run(command, cwd=LOGS, capture_output=True, text=True)
        if result.returncode != 0:
            raise SetupError(f"{result.stderr}\nsetup: this failed: {' '.join(command)}")
        env["CMAKE_TOOLCHAIN_FILE"] = result.stdout.strip()
    # Where setuptools collects the package: a module that exists no longer would stay in it.
    for folder in (ROOT / "build").glob("lib*"):
        shutil.rmtree(folder)
    pip("product", *BUILD, ".", env=env)


@dataclass
class Step:
    """One thing to install, and what it is made of: where that has changed, or the result is gone, it is made again."""

    name: str
    distribution: str
    make: Callable[[], None]
    inputs: tuple[str, ...] = ()

    def key(self) -> str:
        return digest(*self.inputs, extra=f"torch {installed('torch')}, result {installed(self.distribution)}")

    def is_done(self) -> bool:
        stamp = STAMPS / self.name
        return stamp.exists() and stamp.read_text() == self.key()

    def run(self) -> None:
        stamp = STAMPS / self.name
        stamp.unlink(missing_ok=True)
        self.make()
        stamp.write_text(self.key())


# Installed only when named on the command line: a gigabyte that nothing else needs.
OPTIONAL = {"nnunetv2": Step("nnunetv2", "nnunetv2", install_nnunet, ("tools/setup/constraints.txt",))}


def steps() -> list[Step]:
    requirements = "tools/setup/requirements.txt", "tools/setup/constraints.txt"
    product = "setup.py", "pyproject.toml", "CMakeLists.txt", "cmake", "csrc", "metal", "python"
    common = [
        Step("torch", "torch", install_torch),
        Step("packages", "pytest", install_requirements, requirements),
    ]
    if ON_MAC:
        return [*common, Step("mps-conv-transpose3d", "mps-conv-transpose3d", install_product, product)]
    parts = "CMakeLists.txt", "README.md", "cmake", "include", "mps_simulator", "pyproject.toml", "setup.py", "src"
    simulator = tuple(f"simulator/{part}" for part in parts)  # its tests are no part of what is installed
    # The product is compiled against the simulator's headers, but not against its sources.
    headers = "simulator/include", "simulator/cmake"
    return [
        *common,
        Step("mps-simulator", "mps-simulator", install_simulator, simulator),
        Step("mps-conv-transpose3d", "mps-conv-transpose3d", install_product, (*product, *headers)),
    ]


def main() -> int:
    started = time.monotonic()
    LOGS.mkdir(parents=True, exist_ok=True)
    STAMPS.mkdir(exist_ok=True)
    changed = False
    for step in [*steps(), *(OPTIONAL[name] for name in sys.argv[1:])]:
        if step.is_done():
            continue
        print(f"setup: {step.name} ... ", end="", flush=True)
        began = time.monotonic()
        step.run()
        changed = True
        print(f"installed in {time.monotonic() - began:.0f} s", flush=True)
    print(
        f"setup: {'ready' if changed else 'up to date'} after {time.monotonic() - started:.1f} s"
        f" (Python {platform.python_version()}, torch {installed('torch')})"
    )
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except SetupError as error:
        print(f"failed\n{error}", file=sys.stderr)
        sys.exit(1)
