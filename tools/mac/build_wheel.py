"""`make wheel-mac`: the wheel for Macs, built here: a bridge for each minor version of torch, for any Python.

Every bridge is held against macOS and its torch as tools/mac/README.md says, and the archive is read again once it is
written. The wheel is made from the source distribution, which so is known to be whole.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import os
import runpy
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import check
import macho
import wheels
from rich.console import Console
from toolchain import MACOS, METAL_HEADERS, REPOSITORY, Toolchain

PACKAGE = "mps_conv_transpose3d"
TAG = f"py3-none-macosx_{MACOS.replace('.', '_')}_arm64"
LARGEST = 5_000_000  # bytes of the archive
SOURCES = ("CMakeLists.txt", "cmake", "csrc", "metal")


@dataclass(frozen=True)
class Bridge:
    """A bridge to be packed, and the releases of torch that it serves, each with the commit that it was built from."""

    path: Path
    torch: dict[str, str]

    def record(self) -> dict[str, object]:
        """As build.json has it (python/mps_conv_transpose3d/_loading.py)."""
        digest = hashlib.sha256(self.path.read_bytes()).hexdigest()
        return {"file": self.path.name, "sha256": digest, "torch": self.torch}


def commit(release: str) -> str:
    """The commit that a release of torch for macOS was built from, as it says of itself."""
    return runpy.run_path(str(wheels.folder(wheels.torch(release)) / "torch" / "version.py"))["git_version"]


def bridges(checked: check.Check) -> list[Bridge]:
    """Of each minor version the bridge of the last release; it serves those whose bridge is the same, byte for byte."""
    found = []
    for _, group in itertools.groupby(checked.releases, check.minor):
        *_, last = releases = list(group)
        served = {release: commit(release) for release in releases if checked.is_same(release, last)}
        found.append(Bridge(checked.toolchain(last).bundle, served))
    return found


def source_distribution(folder: Path) -> Path:
    """Makes it in `folder`. Raises RuntimeError."""
    _run([sys.executable, "-m", "build", "--sdist", "--no-isolation", "--outdir", str(folder), str(REPOSITORY)])
    (path,) = folder.glob("*.tar.gz")
    return path


def pack(sources: Path, packed: list[Bridge], folder: Path) -> Path:
    """Makes of a source distribution the wheel with these bridges, in `folder`. Raises RuntimeError.

    The same arguments give the same bytes: times are SOURCE_DATE_EPOCH's, or those of the last commit.
    """
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        with tarfile.open(sources) as archive:
            archive.extractall(place / "sources", filter="data")
        (source,) = (place / "sources").iterdir()
        _run(
            [
                *(sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check", "--no-deps"),
                *("--no-build-isolation", f"--wheel-dir={place}", str(source)),
            ]
        )
        (bare,) = place.glob("*.whl")
        _run([sys.executable, "-m", "wheel", "unpack", str(bare), "--dest", str(place / "unpacked")])
        (unpacked,) = (place / "unpacked").iterdir()
        (unpacked / PACKAGE / "_bridge").mkdir()
        for bridge in packed:
            shutil.copyfile(bridge.path, unpacked / PACKAGE / "_bridge" / bridge.path.name)
        record = {"missing": [], "bridges": [bridge.record() for bridge in packed]}
        (unpacked / PACKAGE / "build.json").write_text(json.dumps(record, indent=1) + "\n")
        (description,) = unpacked.glob("*.dist-info/WHEEL")
        lines = [line for line in description.read_text().splitlines() if line and not line.startswith("Tag: ")]
        description.write_text("\n".join([*lines, f"Tag: {TAG}"]) + "\n")
        for path in unpacked.rglob("*"):
            path.chmod(0o755 if path.is_dir() else 0o644)
        folder.mkdir(parents=True, exist_ok=True)
        _run([sys.executable, "-m", "wheel", "pack", str(unpacked), "--dest-dir", str(folder)])
        return folder / f"{unpacked.name}-{TAG}.whl"


def _run(command: list[str]) -> None:
    environment = {**os.environ, "MPS_CONV_TRANSPOSE3D_BRIDGE": "0"}
    environment.setdefault("SOURCE_DATE_EPOCH", _time_of_the_sources())
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}\n{done.stdout}")


def _time_of_the_sources() -> str:
    """The last commit's; an archive begins with 1980 where there is none."""
    command = ["git", "-C", str(REPOSITORY), "log", "-1", "--format=%ct"]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except OSError:
        return "315532800"
    return done.stdout.strip() or "315532800"


def problems(wheel: Path, packed: list[Bridge]) -> list[str]:
    """What is wrong with the archive, as it will be unpacked."""
    found = []
    if wheel.stat().st_size > LARGEST:
        found.append(f"{wheel.name} has {wheel.stat().st_size} bytes, more than {LARGEST}")
    if not wheel.name.endswith(f"-{TAG}.whl"):
        found.append(f"{wheel.name} is not for {TAG}")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        expected = {f"{PACKAGE}/_bridge/{bridge.path.name}" for bridge in packed}
        native = {name for name in names if Path(name).suffix in (".so", ".dylib", ".pyd")}
        found += [f"{name} is not in the wheel" for name in sorted(expected - native)]
        found += [f"{name} has no place in the wheel" for name in sorted(native - expected)]
        record = json.loads(archive.read(f"{PACKAGE}/build.json"))
        digests = {f"{PACKAGE}/_bridge/{bridge['file']}": bridge["sha256"] for bridge in record["bridges"]}
        for name in sorted(expected & native):
            data = archive.read(name)
            if hashlib.sha256(data).hexdigest() != digests.get(name):
                found.append(f"{name} is not the file that build.json names")
            found += [f"{name}: {problem}" for problem in macho.signature_problems(data)]
        (metadata,) = (archive.read(name).decode() for name in names if name.endswith(".dist-info/METADATA"))
        if "\nRequires-Dist: torch>=2.4\n" not in metadata:
            found.append("the wheel does not say Requires-Dist: torch>=2.4, without an upper bound")
    return found


def built_twice(checked: check.Check, release: str) -> list[str]:
    """Builds a bridge from a copy of the sources in another folder: the bytes must be the same."""
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch) / "elsewhere"
        for name in SOURCES:
            place, source = copy / name, REPOSITORY / name
            place.parent.mkdir(parents=True, exist_ok=True)
            (shutil.copytree if source.is_dir() else shutil.copyfile)(source, place)
        toolchain = Toolchain(Path(scratch) / "work", METAL_HEADERS, release)
        errors = toolchain.build_product(checked.today, copy).errors
        if errors:
            return errors
        same = toolchain.bundle.read_bytes() == checked.toolchain(release).bundle.read_bytes()
        return [] if same else ["another folder gives other bytes"]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=REPOSITORY / "build" / "check-mac", help="where to build")
    parser.add_argument("--dist", type=Path, default=REPOSITORY / "dist", help="where the archives go")
    options = parser.parse_args(arguments)
    console = Console(highlight=False, soft_wrap=True)
    checked = check.Check(options.work.resolve(), METAL_HEADERS, tuple(itertools.chain(*wheels.RELEASES)))
    steps = checked.run(lambda name: console.print(f"{name} ..."))
    console.print(check.table(steps))
    faults = [f"{step.torch} {step.name}: {problem}" for step in steps for problem in step.problems]
    if not faults:
        packed = bridges(checked)
        console.print("archives ...")
        shutil.rmtree(options.dist, ignore_errors=True)
        sources = source_distribution(options.dist)
        wheel = pack(sources, packed, options.dist)
        faults = problems(wheel, packed)
        console.print("the same once more, elsewhere ...")
        with tempfile.TemporaryDirectory() as scratch:
            if pack(sources, packed, Path(scratch)).read_bytes() != wheel.read_bytes():
                faults.append(f"{wheel.name}: packed twice, the bytes are others")
        faults += [f"bridge built twice: {fault}" for fault in built_twice(checked, checked.releases[-1])]
        digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
        console.print(f"{wheel}\n{wheel.stat().st_size} bytes, {len(packed)} bridges, sha256 {digest}")
    for fault in faults:
        console.print(f"[red]no[/] {fault}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
