"""`make check-mac`: what can be known on Linux about the bridge on a Mac. tools/mac/README.md says how, and how far."""

from __future__ import annotations

import argparse
import functools
import hashlib
import itertools
import json
import subprocess
import sys
import sysconfig
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Callable

import bundle
import comparison
import declarations
import metal_cpp
import wheels
from rich.console import Console
from rich.table import Table
from toolchain import FOUNDATION_HEADERS, METAL_HEADERS, REPOSITORY, Toolchain

Compare = Callable[[declarations.Headers, metal_cpp.MetalCpp], comparison.Comparison]

# All that a result depends on, besides the wheels and LLVM.
INPUTS = ("CMakeLists.txt", "cmake", "csrc", "metal", "tools/mac", "simulator/include/apple")


@dataclass
class Step:
    """One line of the report: what was looked at, and what is wrong with it."""

    name: str
    detail: str = ""
    problems: list[str] = field(default_factory=list)
    torch: str = ""


def declared(toolchain: Toolchain, folder: Path) -> declarations.Headers:
    """What the headers under `folder` declare. Raises ValueError where a Mac's compiler could not read them."""
    probe = toolchain.work / "declared.mm"
    probe.write_text("#import <Metal/Metal.h>\n#import <MetalPerformanceShaders/MetalPerformanceShaders.h>\n")
    return declarations.read(toolchain.tree(probe), folder)


def hold_metal(toolchain: Toolchain, apple: metal_cpp.MetalCpp) -> Step:
    """Every name, type and value of the simulator's Metal headers must be Apple's."""
    return _held("Metal headers, against metal-cpp", toolchain, toolchain.metal_headers, apple, comparison.compare)


def hold_foundation(toolchain: Toolchain, apple: metal_cpp.MetalCpp) -> Step:
    """The hand-written headers that the cross-compiler reads, as far as metal-cpp knows them."""
    name = "Foundation's stand-ins, against metal-cpp"
    return _held(name, toolchain, FOUNDATION_HEADERS, apple, comparison.compare_known)


def _held(name: str, toolchain: Toolchain, folder: Path, apple: metal_cpp.MetalCpp, compare: Compare) -> Step:
    try:
        result = compare(declared(toolchain, folder), apple)
    except ValueError as error:
        return Step(name, "", str(error).splitlines())
    return Step(name, _list(result.counts), [str(mismatch) for mismatch in result.mismatches])


def _list(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {what}" for what, count in counts.most_common())


class Check:
    """Jobs in their order, each of one or more steps; a job may use what those before it left in `work`."""

    def __init__(self, work: Path, metal_headers: Path, releases: tuple[str, ...]) -> None:
        self.work = work
        self.metal_headers = metal_headers
        self.releases = releases
        self.failed: set[str] = set()

    @functools.cached_property
    def today(self) -> metal_cpp.MetalCpp:
        return metal_cpp.read(wheels.folder(wheels.METAL_CPP) / "mlx/include/metal_cpp")

    @functools.cached_property
    def macos13(self) -> metal_cpp.MetalCpp:
        return metal_cpp.read(wheels.folder(wheels.METAL_CPP_13) / "mlx/include/metal_cpp")

    def toolchain(self, release: str = "2.13.0") -> Toolchain:
        return Toolchain(self.work / f"torch-{release}", self.metal_headers, release)

    def jobs(self) -> dict[str, Callable[[], Iterator[Step]]]:
        pairs = [pair for pair in itertools.combinations(self.releases, 2) if minor(pair[0]) == minor(pair[1])]
        return {
            "headers": self.headers,
            "modules": self.modules,
            **{f"torch {release}": functools.partial(self.bridge, release) for release in self.releases},
            **{f"torch {one} and {other}": functools.partial(self.patches, one, other) for one, other in pairs},
        }

    def headers(self) -> Iterator[Step]:
        toolchain = self.toolchain()
        yield hold_metal(toolchain, self.today)
        yield hold_foundation(toolchain, self.today)

    def modules(self) -> Iterator[Step]:
        """What is no part of the bridge: modules for Python, read with this machine's Python.h and torch's pybind11."""
        name, toolchain = "other sources, as C++17 and as C++20", self.toolchain()
        done = toolchain.configure(self.today)
        if done.errors:
            yield Step(name, "", done.errors)
            return
        sources = {path for pattern in ("*.cpp", "*.mm") for path in (REPOSITORY / "csrc").rglob(pattern)}
        others = sorted(sources - toolchain.standards().keys())
        folders = (REPOSITORY / "csrc", REPOSITORY / "metal", Path(sysconfig.get_path("include")))
        read = [toolchain.check(path, *folders, standard=standard) for path in others for standard in (17, 20)]
        yield Step(name, ", ".join(path.name for path in others), [line for build in read for line in build.errors])

    def bridge(self, release: str) -> Iterator[Step]:
        toolchain = self.toolchain(release)
        done = toolchain.build_product(self.today)
        if done.errors:
            self.failed.add(release)
            yield Step("bridge compiled and linked", "", done.errors, release)
            return
        standards = Counter(f"files as C++{standard}" for standard in toolchain.standards().values())
        yield Step("bridge compiled and linked", _list(standards), [], release)
        yield self._examined("symbols and selectors", toolchain.bundle, release)

    def patches(self, one: str, other: str) -> Iterator[Step]:
        """The wheel's bridge serves those patch releases with whose headers it is the same, byte for byte.

        Compiled in are inline functions of torch's headers, and the places of members.
        """
        if not {one, other} & self.failed:
            detail = "the same bytes" if self.is_same(one, other) else f"differ: the wheel serves {other} alone"
            yield Step(f"bridges for {one} and {other}", detail, [], one)

    def is_same(self, one: str, other: str) -> bool:
        """Whether the bridges of two releases are."""
        first, second = (self.toolchain(release).bundle.read_bytes() for release in (one, other))
        return first == second

    def _examined(self, name: str, path: Path, release: str) -> Step:
        result = bundle.examine(path, self.toolchain(release))
        sources = sorted(path for path in (REPOSITORY / "csrc").rglob("*") if path.is_file())
        problems = result.problems + bundle.newer(path, sources, self.today, self.macos13)
        return Step(name, f"{_list(result.counts)}; {len(bundle.selectors(path))} selectors", problems, release)

    def run(self, tell: Callable[[str], None]) -> list[Step]:
        """The steps of all jobs; without problems they are remembered until something that they depend on changes."""
        self.work.mkdir(parents=True, exist_ok=True)
        memory = self.work / "passed.json"
        remembered = json.loads(memory.read_text()) if memory.exists() else {}
        key = self._key()
        passed = remembered["jobs"] if remembered.get("key") == key else {}
        steps = []
        for name, job in self.jobs().items():
            tell(name)
            if name in passed and self._are_there():
                steps += [Step(**step) for step in passed[name]]
                continue
            try:
                found = list(job())
            except wheels.Unavailable as error:
                found = [Step(name, "", [str(error)])]
            steps += found
            if not any(step.problems for step in found):
                passed[name] = [asdict(step) for step in found]
                memory.write_text(json.dumps({"key": key, "jobs": passed}))
        return steps

    def _are_there(self) -> bool:
        """Whether what earlier runs have built is."""
        return all(self.toolchain(release).bundle.exists() for release in self.releases)

    def _key(self) -> str:
        version = subprocess.run([wheels.tool("clang++"), "--version"], capture_output=True, check=True).stdout
        sha = hashlib.sha256(version)
        for top in (*(REPOSITORY / name for name in INPUTS), self.metal_headers):
            for path in [top] if top.is_file() else sorted(top.rglob("*")):
                if path.is_file() and "__pycache__" not in path.parts:
                    sha.update(f"{path}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
        return sha.hexdigest()


def minor(release: str) -> str:
    return release.rpartition(".")[0]


LIMITS = """\
Proved: the bridge's sources compile for arm64 macOS against the headers of these macOS wheels of torch, link into
bundles whose every torch symbol the wheel exports, and use Metal under the names, types and values that Apple
publishes. Not proved: no Apple compiler, shader compiler or GPU had a part in it; nothing was run on a Mac."""


def table(steps: list[Step]) -> Table:
    """The report, a row for each step."""
    rows = Table("", "torch", "step", "found")
    for step in steps:
        rows.add_row("[red]no[/]" if step.problems else "[green]ok[/]", step.torch, step.name, step.detail)
    return rows


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--all", action="store_true", help="every minor version of torch, not just a few")
    parser.add_argument("--work", type=Path, default=REPOSITORY / "build" / "check-mac", help="where to build")
    parser.add_argument("--metal-headers", type=Path, default=METAL_HEADERS, help="the folder Metal to be held")
    options = parser.parse_args(arguments)
    releases = tuple(itertools.chain(*wheels.RELEASES)) if options.all else wheels.USUAL_RELEASES
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 130)
    with console.status("") as status:
        check = Check(options.work.resolve(), options.metal_headers.resolve(), releases)
        steps = check.run(lambda name: status.update(f"{name} ..."))
    console.print(table(steps))
    failures = [step for step in steps if step.problems]
    for step in failures:
        console.print(f"[red]{step.torch} {step.name}:[/]")
        for problem in step.problems:
            console.print(f"  {problem}", markup=False, soft_wrap=True)
    console.print(LIMITS if not failures else f"{sum(len(step.problems) for step in failures)} problems.", markup=False)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
