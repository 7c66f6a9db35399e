"""`make check-mac`: what can be known on Linux about the bridge on a Mac. docs/mac-check.md says how, and how far."""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable

from rich.console import Console
from rich.table import Table

import bundle
import comparison
import declarations
import metal_cpp
import wheels
from toolchain import METAL_HEADERS, REPOSITORY, Toolchain


@dataclass
class Step:
    """One line of the report: what was looked at, and what is wrong with it."""

    name: str
    detail: str = ""
    problems: list[str] = field(default_factory=list)


def metal_declarations(toolchain: Toolchain) -> declarations.Headers:
    """What the simulator's Metal headers declare. Raises ValueError where a Mac's compiler could not read them."""
    probe = toolchain.work / "metal.mm"
    probe.write_text("#import <Metal/Metal.h>\n")
    return declarations.read(toolchain.tree(probe), toolchain.metal_headers)


def hold_headers(toolchain: Toolchain, apple: metal_cpp.MetalCpp) -> Step:
    step = Step("Metal headers held against Apple's metal-cpp")
    try:
        result = comparison.compare(metal_declarations(toolchain), apple)
    except ValueError as error:
        step.problems = str(error).splitlines()
        return step
    step.detail = ", ".join(f"{count} {what}" for what, count in result.counts.most_common())
    step.problems = [str(mismatch) for mismatch in result.mismatches]
    return step


class Check:
    """The steps in their order; each may use what those before it found."""

    def __init__(self, work: Path, metal_headers: Path) -> None:
        self.work = work
        self.metal_headers = metal_headers

    def steps(self) -> list[Callable[[], Step]]:
        return [self.fetch, self.headers, self.build, self.symbols, self.availability]

    def fetch(self) -> Step:
        self.today = metal_cpp.read(wheels.folder(wheels.METAL_CPP) / "mlx/include/metal_cpp")
        self.macos14 = metal_cpp.read(wheels.folder(wheels.METAL_CPP_14) / "mlx/include/metal_cpp")
        self.toolchain = Toolchain(self.work, self.metal_headers)
        found = [str(wheel) for wheel in (wheels.TORCH, wheels.METAL_CPP, wheels.METAL_CPP_14)]
        return Step("macOS wheels and headers", ", ".join([*found, f"ziglang {wheels.ZIGLANG}"]))

    def headers(self) -> Step:
        return hold_headers(self.toolchain, self.today)

    def build(self) -> Step:
        done, self.bundle = self.toolchain.build_product(self.today)
        return Step("bridge compiled and linked for arm64 macOS 14", _relative(self.bundle), done.errors)

    def symbols(self) -> Step:
        result = bundle.examine(self.bundle)
        detail = ", ".join(f"{count} {what}" for what, count in result.counts.most_common())
        return Step("symbols and libraries that the bridge wants", detail, result.problems)

    def availability(self) -> Step:
        sources = sorted((REPOSITORY / "csrc").rglob("*.mm"))
        problems = bundle.newer(self.bundle, sources, self.today, self.macos14)
        count = len(bundle.selectors(self.bundle))
        return Step("nothing newer than macOS 14 used unasked", f"{count} selectors", problems)


def _relative(path: Path) -> str:
    return str(path.relative_to(REPOSITORY)) if path.is_relative_to(REPOSITORY) else str(path)


LIMITS = """\
Proved: the bridge's sources compile for arm64 macOS against the headers of torch's macOS wheel, link into a bundle whose
every torch symbol that wheel exports, and use Metal under the names, types and values that Apple publishes.
Not proved: no Apple compiler, shader compiler or GPU had a part in it; nothing was run on a Mac."""


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=REPOSITORY / "build" / "check-mac", help="where to build")
    parser.add_argument("--metal-headers", type=Path, default=METAL_HEADERS, help="the folder Metal to be held")
    options = parser.parse_args(arguments)
    console = Console(highlight=False, soft_wrap=not sys.stdout.isatty())
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
            console.print(f"  {problem}", markup=False)
    console.print(LIMITS if not failures else f"{sum(len(step.problems) for step in failures)} problems.", markup=False)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
