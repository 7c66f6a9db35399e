"""Which operators of a program `mps` lacks, for each PyTorch version.

    python tools/operators.py lists     # simulator/cmake/operators.txt, from the wheels of all versions
    python tools/operators.py table     # docs/operators.md, from a run of each program on the simulated device

The lists come from the native_functions.yaml in each version's macOS wheel, read by that version's own torchgen. The
table holds what the programs call with the installed torch against them.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = ROOT / "simulator" / "cmake" / "operators.py"
sys.path.insert(0, str(SCRIPT.parent))

import operator_table  # noqa: E402

DOCUMENT = ROOT / "docs" / "operators.md"

# The last release of each version.
VERSIONS = {
    "2.4": "2.4.1",
    "2.5": "2.5.1",
    "2.6": "2.6.0",
    "2.7": "2.7.1",
    "2.8": "2.8.0",
    "2.9": "2.9.1",
    "2.10": "2.10.0",
    "2.11": "2.11.0",
    "2.12": "2.12.1",
    "2.13": "2.13.0",
    "2.14": "2.14.0",
    "2.15": "2.15.0",
}

Names = set[str]


def write_lists() -> None:
    """Downloads the wheels where the cache has not what is in them."""
    sys.path.insert(0, str(ROOT / "tools" / "mac"))
    from wheels import Wheel, folder

    lacking = {}
    for version, release in VERSIONS.items():
        unpacked = folder(Wheel("torch", release, ("torchgen/*",)))
        refused = subprocess.run(
            [sys.executable, str(SCRIPT), "--refused"],
            env={**os.environ, "PYTHONPATH": str(unpacked)},
            check=True,
            capture_output=True,
            text=True,
        )
        lacking[version] = set(refused.stdout.split())
        print(f"{version}: {len(lacking[version])} operators without mps, as of {release}")
    operator_table.write(lacking)


# --- What the programs call ---


@contextlib.contextmanager
def watching(names: Names) -> Iterator[None]:
    """Adds what the program calls, and what composite operators then call on the device."""
    from recorder import Operators

    import mps_simulator

    with mps_simulator.record() as dispatches, Operators() as called:
        yield
    names.update(called.names, (name.removeprefix("aten::") for name in dispatches.operators))


def of_network(network) -> Names:
    """A training step with AdamW, and a prediction by sliding window."""
    import torch
    from monai.inferers import sliding_window_inference

    from programs import loss_of, outputs_of

    names: Names = set()
    model, image = network.build().to("mps"), network.image().to("mps")
    optimizer = torch.optim.AdamW(model.parameters())
    with watching(names):
        loss_of(outputs_of(model, image)).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        model.eval()
        with torch.inference_mode():
            sliding_window_inference(image, image.shape[2:], 1, lambda window: outputs_of(model, window)[0])
    return names


def of_reports(*reports: Path) -> Names:
    """What examples/nnunet/recorded.py wrote."""
    names = (json.loads(report.read_text())["operators"] for report in reports)
    return {name.removeprefix("aten::") for operators in names for name in operators}


def run(*command: str) -> None:
    subprocess.run([sys.executable, *command], cwd=ROOT, check=True)


def of_nnunet(plans: str) -> Names:
    with tempfile.TemporaryDirectory() as folder:
        run("examples/nnunet", "--plans", plans, "--iterations", "2", "--folder", folder)
        return of_reports(*Path(folder, "logs").glob("*_on_mps.json"))


def of_tutorial(*options: str) -> Names:
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.json")
        script = "examples/unetr_tutorial.py", "--steps", "8", "--folder", folder, *options
        run("examples/nnunet/recorded.py", str(report), *script)
        return of_reports(report)


def programs() -> Iterator[tuple[str, Names]]:
    """Each with the operators it calls."""
    from programs import NETWORKS

    yield "nnU-Net's commands, plain plans", of_nnunet("plain")
    yield "nnU-Net's commands, residual encoder", of_nnunet("resenc")
    yield "UNETR tutorial, float32", of_tutorial("--precision", "float32")
    yield "UNETR tutorial, float16 with gradient scaling", of_tutorial("--precision", "float16")
    yield "UNETR tutorial, bfloat16, gradient checkpointing", of_tutorial("--precision", "bfloat16", "--checkpointing")
    for network in NETWORKS:
        yield f"MONAI {network.name}", of_network(network)


# --- The document ---


def row(*cells: str) -> str:
    return "| " + " | ".join(cells) + " |"


def base(operator: str) -> str:
    return operator.partition(".")[0]


def document(called: dict[str, Names], lists: dict[str, Names]) -> str:
    missing = {name: [operators & lists[version] for version in VERSIONS] for name, operators in called.items()}
    every = set().union(*(cell for cells in missing.values() for cell in cells))
    letters = {name: chr(ord("a") + number) for number, name in enumerate(sorted({base(o) for o in every}))}
    table = [row("program", *VERSIONS), row("---", *["---"] * len(VERSIONS))]
    for program, cells in missing.items():
        table.append(row(program, *(" ".join(sorted({letters[base(o)] for o in cell})) or "none" for cell in cells)))
    legend = [row("", "operator", "absent from mps in"), row("---", "---", "---")]
    for name, letter in letters.items():
        absent = [version for version in VERSIONS if any(base(o) == name for o in every & lists[version])]
        legend.append(row(letter, f"`{name}`", ", ".join(absent)))
    return f"""# Operators that `mps` lacks

Made by `python tools/operators.py table`; not to be edited.

What each program calls and PyTorch's `mps` lacks, by PyTorch version; ConvTranspose3d, which this package supplies, is
left out. Where a letter stands, the program needs `PYTORCH_ENABLE_MPS_FALLBACK=1`, which runs that operator on the CPU.

{chr(10).join(table)}

{chr(10).join(legend)}

## Half precision

What those versions of PyTorch have on `mps`, and this package does not change:

| | float16 | bfloat16 |
| --- | --- | --- |
| `torch.autocast("mps")` | from 2.5; 2.4 raises | from 2.6; 2.5 warns and stays in float32 |
| `GradScaler("mps")` | from 2.8; up to 2.7 it raises | needs none |
| `model.half()` with a `GradScaler` | trains nothing in 2.8 to 2.12: gradients in half are zeroed ([#184286]) | |
| Conv3d | in all | in all, on macOS 14 or later |
| norms under autocast | in float32, from 2.5 | in float32, from 2.6 |
| BatchNorm with weights of another dtype | may end the process up to early 2026 ([#154887]) | the same |

Half precision does not make every call faster: where arithmetic bounds it, and not memory, it gains nothing. M1 and M2
multiply bfloat16 as float32, and may lose by it ([kernels.md](kernels.md)).

[#184286]: https://github.com/pytorch/pytorch/issues/184286
[#154887]: https://github.com/pytorch/pytorch/issues/154887

## How the table came about

Both training and inference are in it: for nnU-Net and the tutorial all that they do, for each network a training step
with AdamW and a prediction by sliding window, at the settings of `tests/programs.py`. An operator that is there may
still refuse some arguments. `python tools/operators.py lists` reads what each version has from the
`native_functions.yaml` of its wheel for macOS.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("lists", "table"))
    if parser.parse_args().what == "lists":
        write_lists()
        return
    sys.path.insert(0, str(ROOT / "tests"))
    os.environ["PYTORCH_ENABLE_MPS_FALLBACK"] = "1"  # what the installed version lacks is called too
    called = {}
    for name, operators in programs():
        assert operators, f"nothing was seen of {name}"
        called[name] = operators
        print(f"{name}: {len(operators)} operators", flush=True)
    DOCUMENT.write_text(document(called, operator_table.read()))


if __name__ == "__main__":
    main()
