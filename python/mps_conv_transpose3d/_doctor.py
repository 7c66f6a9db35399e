"""Examines the installation: is ConvTranspose3d served here, rightly, and will a network run?"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import re
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from . import _accuracy, _machine, _operators, _switch
from ._cases import Case

DTYPES = ("float32", "float16", "bfloat16")
INFINITE = 1e9  # JSON has no infinity
FALLBACK = "PYTORCH_ENABLE_MPS_FALLBACK"
REINSTALL_TORCH = "a macOS wheel of torch has it: pip install --force-reinstall torch"

CASES = [
    Case("kernel equals stride", (1, 64, 4, 8, 8), (64, 64, 2, 2, 2), stride=(2, 2, 2)),
    Case("kernel equals stride, many voxels", (1, 16, 16, 16, 16), (16, 8, 2, 2, 2), stride=(2, 2, 2)),
    Case("kernel equals stride, odd sizes", (2, 7, 3, 5, 3), (7, 5, 1, 2, 2), stride=(1, 2, 2)),
    Case("overlapping", (2, 32, 5, 6, 7), (32, 32, 3, 3, 3), True, (2, 2, 2), (1, 1, 1), output_padding=(1, 1, 1)),
    Case("stride one", (1, 9, 4, 5, 6), (9, 11, 3, 3, 3), padding=(1, 1, 1)),
    Case("depthwise", (2, 16, 4, 4, 5), (16, 1, 3, 3, 3), True, (2, 2, 2), (1, 1, 1), groups=16),
    Case("kernel smaller than stride", (1, 12, 4, 4, 4), (12, 8, 1, 1, 1), stride=(2, 2, 2)),
    Case("dilation, groups, no bias", (1, 6, 4, 3, 5), (6, 4, 2, 3, 2), False, (1, 2, 3), dilation=(3, 2, 1), groups=3),
]
# By every method, whatever the plan would choose here: between them every kernel (tests/test_cli.py).
BY_EVERY_ALGORITHM = CASES[:1] + [case for case in CASES if case.name == "overlapping"]


@dataclass
class Check:
    """How one dtype fared on the device, over all cases."""

    dtype: str
    served_by: str | None  # "kernels", "composite", "PyTorch"; None where the operation is refused
    worst: dict[str, float] = field(default_factory=dict)  # of each result: error / allowed error, right up to 1
    problem: str | None = None


@dataclass
class NetworkCheck:
    """What a network needs that this machine has or has not."""

    title: str
    training_bytes: int
    inference_bytes: int
    conv_transpose3d_share: float  # of a training step's multiplications
    usable_bytes: int | None
    missing_operators: list[str] | None  # None: PyTorch's list of operators is not to be found


@dataclass
class Report:
    """All findings. `verdict` is the closing line, `status` the exit status that goes with it."""

    machine: dict[str, Any]
    serving: str | None
    bridge_error: str | None
    autoload: bool
    checks: list[Check] = field(default_factory=list)
    network: NetworkCheck | None = None
    advice: list[str] = field(default_factory=list)
    verdict: str = ""
    status: int = 0

    def as_json(self) -> str:
        """For a file that may be sent: no folder's name in it, which would tell a user's or a hospital's."""
        return json.dumps(_without_folders(asdict(self)), indent=2, allow_nan=False)


def _without_folders(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_folders(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_folders(item) for item in value]
    return re.sub(r"(?<![\w.])[~/][^\s'\":;,()]*/", "", value) if isinstance(value, str) else value


def networks() -> dict[str, Any]:
    """What tools/networks.py found out, by the names that `--network` takes."""
    return json.loads((Path(__file__).parent / "networks.json").read_text())


def examine(network: str | None = None, on_case: Callable[[str], None] = lambda what: None) -> Report:
    """Looks at everything and judges it. `on_case` is told what is checked next."""
    report = Report(
        machine=_machine.describe(),
        serving=_switch.serving(),
        bridge_error=_switch.unavailable_reason(),
        autoload=_autoloads(),
    )
    if report.serving == "kernels" and report.bridge_error:
        report.serving = "fallback"
    if _machine.has_mps():
        report.checks = [_check(dtype, report.serving, on_case) for dtype in DTYPES]
    if network is not None:
        report.network = _check_network(networks()[network])
    _judge(report)
    return report


def _autoloads() -> bool:
    """Whether `import torch` is enough."""
    if sys.version_info >= (3, 10):
        entries = importlib.metadata.entry_points(group="torch.backends")
    else:
        entries = importlib.metadata.entry_points().get("torch.backends", [])
    version = tuple(int(part) for part in torch.__version__.split("+")[0].split(".")[:2])
    switched_off = "0" in (os.environ.get("TORCH_DEVICE_BACKEND_AUTOLOAD"), os.environ.get("MPS_CONV_TRANSPOSE3D"))
    return version >= (2, 5) and not switched_off and any(e.name == "mps_conv_transpose3d" for e in entries)


def _check(dtype: str, serving: str | None, on_case: Callable[[str], None]) -> Check:
    check = Check(dtype, serving or "PyTorch")
    runs: list[tuple[Case, str | None]] = [(case, None) for case in CASES]
    if serving == "kernels":
        runs += [(case, name) for case in BY_EVERY_ALGORITHM for name in torch.ops.mps_conv_transpose3d.algorithms()]
    for case, algorithm in runs:
        on_case(f"{dtype}: {case.name}" + (f" by {algorithm}" if algorithm else ""))
        try:
            errors = _accuracy.errors(case, getattr(torch, dtype), algorithm=algorithm)
        except Exception as refusal:  # whatever PyTorch or Metal may say: it is the finding
            check.served_by, check.problem = None, f"{case.name}: {str(refusal).strip().splitlines()[0]}"
            return check
        for name, error in errors.items():
            ratio = error.error / error.allowed if error.allowed else float(error.error > 0)
            check.worst[name] = max(check.worst.get(name, 0.0), min(ratio, INFINITE))
            if not error.is_right and check.problem is None:
                check.problem = f"{case.name}: {name} is off by {error.error:.3g}, allowed is {error.allowed:.3g}"
    return check


def _check_network(facts: dict[str, Any]) -> NetworkCheck:
    functions = _operators.native_functions()
    return NetworkCheck(
        title=facts["title"],
        training_bytes=facts["training_bytes"],
        inference_bytes=facts["inference_bytes"],
        conv_transpose3d_share=facts["conv_transpose3d_share"],
        usable_bytes=_machine.usable_memory(),
        missing_operators=None if functions is None else _operators.missing_on_mps(facts["operators"], functions),
    )


def _judge(report: Report) -> None:
    obstacles = _obstacles(report)
    report.advice = _advice(report)
    network = report.network
    fallback_needed = bool(network and network.missing_operators) and os.environ.get(FALLBACK) != "1"
    if obstacles:
        report.verdict, report.status = f"not ready because {'; '.join(obstacles)}", 1
    elif fallback_needed:
        report.verdict, report.status = f"ready with {FALLBACK}=1", 3
    else:
        report.verdict, report.status = "ready", 0


def _obstacles(report: Report) -> list[str]:
    if not _machine.has_mps():
        return [_why_no_device()]
    found = []
    for check in report.checks:
        # What PyTorch alone refuses in half precision is no fault of this installation.
        if check.problem and (report.serving or check.served_by or check.dtype == "float32"):
            found.append(f"{check.dtype} fails ({check.problem})")
    limit = _machine.memory_limit()
    if report.network and limit is not None and report.network.training_bytes > limit:
        found.append(
            f"a training step needs {gigabytes(report.network.training_bytes)}, more than the {gigabytes(limit)} that "
            "PyTorch may take here"
        )
    return found


def _why_no_device() -> str:
    if platform.system() != "Darwin":
        return "this PyTorch has no mps device: that takes a Mac with Apple silicon"
    if not torch.backends.mps.is_built():
        return f"this PyTorch was built without mps; {REINSTALL_TORCH}"
    return "PyTorch finds no mps device: it takes Apple silicon, and macOS 14 for torch 2.9 and later"


def _advice(report: Report) -> list[str]:
    advice: list[str] = []
    if not _machine.has_mps():
        return advice
    if os.environ.get("MPS_CONV_TRANSPOSE3D") == "0":
        advice.append("MPS_CONV_TRANSPOSE3D=0 switches this package off: unset it")
    elif report.bridge_error:
        advice.append(f"without the kernels, PyTorch's own operator serves what it can: {report.bridge_error}")
    if not report.autoload and os.environ.get("MPS_CONV_TRANSPOSE3D") != "0":
        advice.append("`import torch` alone does not switch it on here: `import mps_conv_transpose3d` in your program")
    if _machine.has_wrong_conv3d():
        advice.append(
            f"Conv3d of torch {torch.__version__} is silently wrong on macOS 26.2 (pytorch issue 197114, not this "
            "package's): update macOS to 26.3, or take torch 2.13"
        )
    network = report.network
    if network is not None:
        if network.missing_operators:
            names = ", ".join(network.missing_operators)
            advice.append(f"set {FALLBACK}=1 before Python starts: torch {torch.__version__} has no {names} on mps")
        if network.usable_bytes is not None and network.training_bytes > network.usable_bytes:
            advice.append(
                f"a training step needs {gigabytes(network.training_bytes)}, Metal recommends at most "
                f"{gigabytes(network.usable_bytes)} here: take a smaller batch or patch"
            )
    return advice


def gigabytes(count: int) -> str:
    return f"{count / 1e9:.1f} GB"


def print_report(report: Report) -> None:
    """For people. Needs rich."""
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, soft_wrap=True)
    if not console.is_terminal:
        console.width = 200  # a file has no edge
    facts = Table.grid(padding=(0, 2))
    for name, value in report.machine.items():
        if name == "environment":
            value = ", ".join(f"{key}={setting}" for key, setting in value.items())
        elif name == "usable_memory" and value is not None:
            value = gigabytes(value)
        if name != "simulated" and value:
            facts.add_row(name.replace("_", " "), str(value))
    served = {
        None: "PyTorch itself",
        "kernels": "our kernels",
        "fallback": "PyTorch itself, and plain PyTorch operations for what it refuses",
        "composite": "plain PyTorch operations",
    }
    facts.add_row("served by", served[report.serving])
    facts.add_row("at import torch", "yes" if report.autoload else "no")
    console.print(facts, markup=False)
    if report.machine["simulated"]:
        console.print("The device is simulated: nothing here tells how fast a Mac is.", style="yellow")
    if report.checks:
        console.print(_checks_table(report.checks))
    if report.network is not None:
        console.print(_network_table(report.network))
    for line in report.advice:
        console.print(f"* {line}", markup=False)
    console.print(report.verdict, style="green" if report.status == 0 else "yellow" if report.status == 3 else "red")


def _checks_table(checks: list[Check]) -> Any:
    from rich.table import Table
    from rich.text import Text

    table = Table(title="Against the CPU: largest error, 1 is the most that is allowed", title_justify="left")
    table.add_column("dtype")
    table.add_column("served by")
    for name in _accuracy.RESULTS:
        table.add_column(name, justify="right")
    table.add_column("")
    for check in checks:
        cells = [f"{check.worst[name]:.2g}" if name in check.worst else "-" for name in _accuracy.RESULTS]
        ending = Text("right", "green") if check.problem is None else Text(check.problem, "red")
        table.add_row(check.dtype, check.served_by or "nobody", *cells, ending)
    return table


def _network_table(network: NetworkCheck) -> Any:
    from rich.table import Table

    table = Table(title=network.title, title_justify="left", show_header=False)
    table.add_row("memory of a training step", gigabytes(network.training_bytes) + ", float32")
    table.add_row("memory of a prediction", gigabytes(network.inference_bytes) + ", float32")
    table.add_row("share of ConvTranspose3d in its arithmetic", f"{network.conv_transpose3d_share:.1%}")
    missing = network.missing_operators
    table.add_row("operators missing on mps", "unknown" if missing is None else ", ".join(missing) or "none")
    return table
