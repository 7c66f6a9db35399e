"""The command line."""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from . import _bench, _doctor, _explain, _planner
from ._cases import Case, Triple, network_cases

DTYPES = ("float32", "float16", "bfloat16")
USAGE_ERROR = 2  # as argparse has it


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; returns the exit status: 0 is well, 2 a mistake in the arguments, others as `--help` says."""
    options = _parser().parse_args(arguments)
    try:
        return options.run(options)
    except _Mistake as mistake:
        print(f"{options.program}: {mistake}", file=sys.stderr)
        return USAGE_ERROR


class _Mistake(Exception):
    """Something that the user can put right; the message says how."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m mps_conv_transpose3d", description="ConvTranspose3d on device mps: examine, measure, explain."
    )
    commands = parser.add_subparsers(required=True, metavar="doctor | bench | explain")

    doctor = commands.add_parser(
        "doctor",
        help="is it served here, rightly, and will a network run?",
        description="Tells versions, the device, what serves each dtype, and checks the results against the CPU.",
        epilog="Exit status: 0 ready, 1 not ready, 3 ready once PYTORCH_ENABLE_MPS_FALLBACK=1 is set.",
    )
    doctor.add_argument(
        "--network", choices=sorted(_doctor.networks()), help="look also at all else that this network needs"
    )
    doctor.add_argument("--json", action="store_true", help="the findings as JSON on standard output")
    doctor.set_defaults(run=_run_doctor, program=doctor.prog)

    bench = commands.add_parser(
        "bench",
        help="time it: our kernels, PyTorch's own, plain operations, CPU",
        description="Checks each result against the CPU, then times forward and backward. Without --network or "
        "--input: the calls of nnU-Net and of MONAI's UNETR.",
        epilog="Exit status: 0, or 1 if there is no mps device or a result is wrong.",
    )
    bench.add_argument("--network", metavar="NAME", help="the calls of networks whose name contains NAME; see --list")
    bench.add_argument("--list", action="store_true", help="list the networks and stop")
    _add_call(bench, required=False)
    bench.add_argument("--dtype", nargs="+", choices=DTYPES, default=["float32"], help="default: float32")
    bench.add_argument("--path", nargs="+", choices=_bench.PATHS, help="what to compare; default: all there are")
    bench.add_argument("--voxels", type=_positive, metavar="N", help="at most N voxels along each axis of the inputs")
    bench.add_argument("--seconds", type=float, default=0.5, help="to spend on each number; default: 0.5")
    bench.add_argument("--json", type=Path, metavar="FILE", help="write all numbers")
    bench.add_argument("--png", type=Path, metavar="FILE", help="draw them")
    bench.set_defaults(run=_run_bench, program=bench.prog)

    explain = commands.add_parser(
        "explain",
        help="the plan of one call, in words; needs no device",
        description="Which kernels compute a call, and over which grid. Needs no device.",
    )
    _add_call(explain, required=True)
    explain.add_argument("--cores", type=_positive, metavar="N", help="of the GPU; default: this machine's")
    explain.add_argument("--dtype", choices=DTYPES, default="float32", help="default: float32")
    explain.set_defaults(run=_run_explain, program=explain.prog)
    return parser


def _add_call(parser: argparse.ArgumentParser, required: bool) -> None:
    call = parser.add_argument_group("one call", "numbers separated by commas: 2,64,64,64,64")
    call.add_argument("--input", type=_numbers, required=required, metavar="N,C,D,H,W", help="shape of the input")
    call.add_argument(
        "--weight", type=_numbers, required=required, metavar="C,O,D,H,W", help="of the weight; O is per group"
    )
    for name, default in (("stride", 1), ("padding", 0), ("output-padding", 0), ("dilation", 1)):
        help = f"one number, or three for D,H,W; default: {default}"
        call.add_argument(f"--{name}", type=_triple, default=(default,) * 3, metavar="S", help=help)
    call.add_argument("--groups", type=int, default=1, metavar="G", help="default: 1")
    call.add_argument("--no-bias", action="store_true", help="without bias")


def _run_doctor(options: argparse.Namespace) -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the report says it
        if options.json:
            report = _doctor.examine(options.network)
            print(report.as_json())
            return report.status
        _need("rich", "or give --json")
        from rich.console import Console

        with Console(stderr=True).status("checking") as status:
            report = _doctor.examine(options.network, lambda what: status.update(f"checking {what}"))
    _doctor.print_report(report)
    return report.status


def _run_bench(options: argparse.Namespace) -> int:
    if options.list:
        print("\n".join(sorted({name for case in network_cases() for name in case.calls})))
        return 0
    cases = _cases_of(options)
    _need("rich", "")
    if options.png:
        _need("matplotlib", "or leave --png out")
    for file in (options.json, options.png):
        if file is not None and not file.parent.is_dir():
            raise _Mistake(f"there is no folder {file.parent}")
    paths = _paths_of(options)
    if paths == ["cpu"] and options.path != ["cpu"]:
        print(f"{options.program}: {_doctor.examine().verdict}", file=sys.stderr)
        return 1
    from . import _bench_report

    results = _with_progress(
        _bench.steps(cases, options.dtype, paths),
        lambda on_step: _bench.run(cases, options.dtype, paths, options.seconds, on_step),
    )
    _bench_report.print_table(results)
    if options.json:
        results.write_json(options.json)
    if options.png:
        _bench_report.write_png(results, options.png)
    return int(any(m.problem and m.problem.startswith("wrong") for m in results.measurements))


def _with_progress(total: int, work: Callable[[Callable[[str], None]], Any]) -> Any:
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=total)
        done = iter(range(total))
        return work(lambda what: progress.update(task, completed=next(done), description=what))


def _run_explain(options: argparse.Namespace) -> int:
    try:
        print(_explain.explain(_case_of(options), options.dtype, options.cores))
    except RuntimeError as error:
        raise _Mistake(str(error).splitlines()[0]) from error
    return 0


def _paths_of(options: argparse.Namespace) -> list[str]:
    available = _bench.available_paths()
    return [path for path in _bench.PATHS if path in available and path in (options.path or _bench.PATHS)]


def _cases_of(options: argparse.Namespace) -> list[Case]:
    if options.input is not None or options.weight is not None:
        if options.input is None or options.weight is None:
            raise _Mistake("--input and --weight go together")
        case = _case_of(options)
        try:
            _planner.geometry_of(case)
        except RuntimeError as error:
            raise _Mistake(str(error).splitlines()[0]) from error
        cases = [case]
    else:
        wanted = [options.network] if options.network else [facts["calls"] for facts in _doctor.networks().values()]
        cases = [c for c in network_cases() if any(w.lower() in name.lower() for w in wanted for name in c.calls)]
        if not cases:
            raise _Mistake(f"no network is called {options.network}; --list tells which there are")
    return [_bench.limited(case, options.voxels) for case in cases] if options.voxels else cases


def _case_of(options: argparse.Namespace) -> Case:
    return Case(
        "given",
        options.input,
        options.weight,
        not options.no_bias,
        options.stride,
        options.padding,
        options.output_padding,
        options.dilation,
        options.groups,
    )


def _need(module: str, otherwise: str) -> None:
    try:
        __import__(module)
    except ImportError as error:
        hint = f", {otherwise}" if otherwise else ""
        raise _Mistake(f"needs {module}: pip install 'mps-conv-transpose3d[cli]'{hint}") from error


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not numbers separated by commas, such as 2,64,64,64,64"
        ) from None


def _triple(text: str) -> Triple:
    values = _numbers(text)
    if len(values) not in (1, 3):
        raise argparse.ArgumentTypeError(f"{text!r} is neither one number nor three, such as 2 or 1,2,2")
    depth, height, width = values if len(values) == 3 else values * 3
    return depth, height, width


def _positive(text: str) -> int:
    value = int(text) if text.isdigit() else 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number")
    return value
