"""`make check-mac`: what can be known on Linux about the bridge on a Mac. docs/mac-check.md says how, and how far."""

from __future__ import annotations

import argparse
import json
import sys
import sysconfig
from collections import Counter
from dataclasses import dataclass, field
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


@dataclass
class Step:
    """One line of the report: what was looked at, and what is wrong with it."""

    name: str
    detail: str = ""
    problems: list[str] = field(default_factory=list)


def declared(toolchain: Toolchain, folder: Path) -> declarations.Headers:
    """What the headers under `folder` declare. Raises ValueError where a Mac's compiler could not read them."""
    probe = toolchain.work / "declared.mm"
    probe.write_text("#import <Metal/Metal.h>\n#import <MetalPerformanceShaders/MetalPerformanceShaders.h>\n")
    return declarations.read(toolchain.tree(probe), folder)


def hold_metal(toolchain: Toolchain, apple: metal_cpp.MetalCpp) -> Step:
    """Every name, type and value of the simulator's Metal headers must be Apple's."""
    return _held("Metal headers held against metal-cpp", toolchain, toolchain.metal_headers, apple, comparison.compare)


def hold_foundation(toolchain: Toolchain, apple: metal_cpp.MetalCpp) -> Step:
    """The hand-written headers that the cross-compiler reads, as far as metal-cpp knows them."""
    name = "stand-ins for Foundation held against metal-cpp"
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
    """The steps in their order; each may use what those before it found."""

    def __init__(self, work: Path, metal_headers: Path) -> None:
        self.work = work
        self.metal_headers = metal_headers

    def steps(self) -> list[Callable[[], Step]]:
        return [self.fetch, self.metal, self.foundation, self.build, self.modules, self.symbols, self.availability]

    def fetch(self) -> Step:
        self.today = metal_cpp.read(wheels.folder(wheels.METAL_CPP) / "mlx/include/metal_cpp")
        self.macos14 = metal_cpp.read(wheels.folder(wheels.METAL_CPP_14) / "mlx/include/metal_cpp")
        self.toolchain = Toolchain(self.work, self.metal_headers)
        found = [str(wheel) for wheel in (wheels.TORCH, wheels.METAL_CPP, wheels.METAL_CPP_14)]
        return Step("macOS wheels and headers", ", ".join([*found, f"ziglang {wheels.ZIGLANG}"]))

    def metal(self) -> Step:
        return hold_metal(self.toolchain, self.today)

    def foundation(self) -> Step:
        return hold_foundation(self.toolchain, self.today)

    def build(self) -> Step:
        done, self.bundle = self.toolchain.build_product(self.today)
        detail = f"{len(self._compiled())} files, {_relative(self.bundle)}"
        return Step("bridge compiled and linked for arm64 macOS 14", detail, done.errors)

    def _compiled(self) -> set[Path]:
        commands = self.bundle.parent / "compile_commands.json"
        return {Path(entry["file"]) for entry in json.loads(commands.read_text())} if commands.exists() else set()

    def modules(self) -> Step:
        """What is no part of the bridge: modules for Python, read with this machine's Python.h and torch's pybind11."""
        sources = {path for pattern in ("*.cpp", "*.mm") for path in (REPOSITORY / "csrc").rglob(pattern)}
        others = sorted(sources - self._compiled())
        folders = (REPOSITORY / "csrc", REPOSITORY / "metal", Path(sysconfig.get_path("include")))
        problems = [line for path in others for line in self.toolchain.check(path, *folders).errors]
        return Step("other sources read for arm64 macOS 14", ", ".join(path.name for path in others), problems)

    def symbols(self) -> Step:
        result = bundle.examine(self.bundle)
        return Step("symbols and libraries that the bridge wants", _list(result.counts), result.problems)

    def availability(self) -> Step:
        sources = sorted(path for path in (REPOSITORY / "csrc").rglob("*") if path.is_file())
        problems = bundle.newer(self.bundle, sources, self.today, self.macos14)
        count = len(bundle.selectors(self.bundle))
        return Step("nothing newer than macOS 14 used unasked", f"{count} selectors", problems)


def _relative(path: Path) -> str:
    return str(path.relative_to(REPOSITORY)) if path.is_relative_to(REPOSITORY) else str(path)


LIMITS = """\
Proved: the bridge's sources compile for arm64 macOS against the headers of torch's macOS wheel, link into a bundle
whose every torch symbol that wheel exports, and use Metal under the names, types and values that Apple publishes.
Not proved: no Apple compiler, shader compiler or GPU had a part in it; nothing was run on a Mac."""


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=REPOSITORY / "build" / "check-mac", help="where to build")
    parser.add_argument("--metal-headers", type=Path, default=METAL_HEADERS, help="the folder Metal to be held")
    options = parser.parse_args(arguments)
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 130)
    table = Table("", "step", "found")
    failures: list[Step] = []
    with console.status("") as status:
        for run in Check(options.work.resolve(), options.metal_headers.resolve()).steps():
            status.update(f"{run.__name__} ...")
            try:
                step = run()
            except wheels.Unavailable as error:
                step = Step(run.__name__, "", [str(error)])
            table.add_row("[red]no[/]" if step.problems else "[green]ok[/]", step.name, step.detail)
            if step.problems:
                failures.append(step)
                if run.__name__ in ("fetch", "build"):
                    break  # the rest has nothing to look at
    console.print(table)
    for step in failures:
        console.print(f"[red]{step.name}:[/]")
        for problem in step.problems:
            console.print(f"  {problem}", markup=False, soft_wrap=True)
    console.print(LIMITS if not failures else f"{sum(len(step.problems) for step in failures)} problems.", markup=False)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
