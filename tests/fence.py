"""Holds a change of the sources that may change no result against the tree before it.

    python tests/fence.py record before.json      # in the tree before the change
    python tests/fence.py record after.json       # and in the one after it
    python tests/fence.py compare before.json after.json [--names renamed.json]

A record holds the SHA-256 of every result of each case of tests/cases.py, on each algorithm, in each dtype, and of
2,000 calls at random; and the plan of each network's calls on GPUs of several sizes. `--names` is a JSON object of
words that were exchanged in kernels' names, {before: after}. What the kernels do (instructions, bytes) is counted by
`make model`, whose kernels.json of both trees `compare` takes as well: no counter may differ by more than 1 %.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import multiprocessing
import os
import random
import re
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch

from cases import DEPTHWISE_EDGES, DTYPES, LONG, NETWORKS, SEED, SWEEP, TILE_EDGES, Case, cut_down
from mps_conv_transpose3d import _planner
from reference import forward_and_backward, make_tensors, map_tensors

CALLS_AT_RANDOM = 2000
CORES = (1, 7, 8, 10, 16, 38, 64)
COUNTERS = ("issued_fma", "moved_bytes", "modelled_ms", "extra_bytes")


@dataclass(frozen=True)
class Run:
    """One case in one dtype, on one algorithm (None: as planned) for a GPU of so many cores, in one layout."""

    case: Case
    dtype: str
    algorithm: str | None = None
    cores: int | None = None
    layout: str = "contiguous"

    def __str__(self) -> str:
        return f"{self.case.name} {self.dtype} {self.algorithm} {self.cores} {self.layout}"


def algorithms() -> list[str]:
    return sorted(torch.ops.mps_conv_transpose3d.algorithms())  # random calls draw from these


def words_of(plan: _planner.Plan) -> str:
    """Each dispatch's kernel and grid, and what its parts sum."""
    first = plan.dispatches[0]
    tile, split = first.polyphase_tile, first.split_k
    shape = f"{tile['box']} {tile['shifts']} {tile['fragment_rows']}" if tile else ""
    return f"{plan.text} | {split or ''} {shape} {[dispatch.tile_rows or 0 for dispatch in plan.dispatches]}"


def cases() -> list[Case]:
    return [SEED, LONG, *map(cut_down, NETWORKS), *SWEEP, *TILE_EDGES, *DEPTHWISE_EDGES]


def case_at_random(seed: int) -> Case:
    draw = random.Random(seed)
    while True:
        groups = draw.choice([1, 1, 1, 2, 3])
        channels, outputs = draw.choice([1, 2, 5, 8, 17, 33]), draw.choice([1, 2, 4, 9, 16, 40])
        kernel, stride, dilation, padding, output_padding = [], [], [], [], []
        for _ in range(3):
            k, s, d = draw.choice([1, 2, 2, 3, 3, 4, 5]), draw.choice([1, 2, 2, 3]), draw.choice([1, 1, 1, 2, 3])
            kernel.append(k), stride.append(s), dilation.append(d)
            padding.append(draw.randint(0, d * (k - 1) // 2 + 1))
            output_padding.append(draw.randrange(max(s, d)))
        size = [draw.choice([1, 2, 3, 4, 7, 9, 16]) for _ in range(3)]
        case = Case(
            f"random_{seed}",
            (draw.choice([1, 1, 2, 3]), channels * groups, *size),
            (channels * groups, outputs, *kernel),
            draw.random() < 0.7,
            *(tuple(values) for values in (stride, padding, output_padding, dilation)),
            groups,
        )
        if min(case.output) > 0 and case.multiplications < 3_000_000:
            return case


def runs() -> Iterator[Run]:
    for case, dtype in itertools.product(cases(), DTYPES):
        for algorithm in (None, *algorithms()):
            yield Run(case, dtype, algorithm)
    for seed in range(CALLS_AT_RANDOM):
        draw = random.Random(-1 - seed)
        yield Run(
            case_at_random(seed),
            draw.choice(DTYPES),
            draw.choice([None, *algorithms()]),
            draw.choice([None, *CORES]),
            draw.choice(["contiguous", "channels_last", "sliced"]),
        )


def laid_out(tensor: torch.Tensor, layout: str) -> torch.Tensor:
    tensor = tensor.to("mps")
    if tensor.dim() != 5 or layout == "contiguous":
        return tensor
    if layout == "channels_last":
        return tensor.contiguous(memory_format=torch.channels_last_3d)
    wide = torch.zeros((*tensor.shape[:-1], 2 * tensor.shape[-1] + 1), dtype=tensor.dtype, device="mps")
    return wide[..., 1::2].copy_(tensor)


def digests(run: Run) -> tuple[str, dict[str, str]]:
    tensors = make_tensors(run.case, getattr(torch, run.dtype))
    placed = map_tensors(lambda tensor: laid_out(tensor, run.layout), tensors)
    # A batch of no samples is PyTorch's own.
    preference = (run.algorithm, run.cores) if run.case.input[0] > 0 else (None, None)
    results = forward_and_backward(run.case, placed, True, *preference)
    return str(run), {
        name: hashlib.sha256(result.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()).hexdigest()
        for name, result in results.items()
    }


def plans() -> dict[str, str]:
    found = {}
    for case, dtype, cores in itertools.product((*NETWORKS, *cases()), DTYPES, CORES):
        if len(case.input) == 5 and case.input[0] == 0:
            continue
        for algorithm in (None, *algorithms()) if cores == 10 else (None,):
            for pass_, plan in _planner.plans(case, dtype, cores, algorithm).items():
                if pass_ != "bias_grad" or case.bias:
                    key = f"{case.name} {case.input} {pass_} {dtype} {cores} {algorithm}"
                    found[key] = words_of(plan)
    return found


def record(file: Path) -> None:
    os.environ["MPS_SIMULATOR_CHECKS"] = "0"  # results are the same without, and come sooner
    with ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn")) as pool:
        found = dict(pool.map(digests, runs(), chunksize=50))
    file.write_text(json.dumps({"results": found, "plans": plans()}, indent=0))
    print(f"{file}: {len(found)} calls, {len(plans())} plans")


def renamed(text: str, names: dict[str, str]) -> str:
    words = "|".join(map(re.escape, sorted(names, key=len, reverse=True)))
    return re.sub(words, lambda match: names[match[0]], text) if names else text


def differences(before: object, after: object, names: dict[str, str]) -> Iterator[str]:
    if isinstance(before, list) and isinstance(after, list):  # kernels.json of `make model`
        key = ("id", "op", "dtype", "chip", "peer")
        counted = [{tuple(str(r.get(k)) for k in key): r for r in records} for records in (before, after)]
        for call in counted[0].keys() | counted[1].keys():
            old, new = (records.get(call, {}) for records in counted)
            for counter in COUNTERS:
                if abs(old.get(counter, 0) - new.get(counter, 0)) > 0.01 * abs(old.get(counter, 0)):
                    yield f"{' '.join(call)}: {counter} {old.get(counter)} -> {new.get(counter)}"
        return
    assert isinstance(before, dict) and isinstance(after, dict)
    for part in ("results", "plans"):
        old = {renamed(call, names): value for call, value in before[part].items()}
        new = after[part]
        for call in old.keys() | new.keys():
            value = old.get(call)
            if (renamed(value, names) if isinstance(value, str) else value) != new.get(call):
                yield f"{part}: {call}: {value} -> {new.get(call)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("record").add_argument("file", type=Path)
    compare = commands.add_parser("compare")
    compare.add_argument("before", type=Path)
    compare.add_argument("after", type=Path)
    compare.add_argument("--names", type=Path, help="a JSON object {word before: word after}")
    options = parser.parse_args()
    if options.command == "record":
        return record(options.file)
    before, after = (json.loads(file.read_text()) for file in (options.before, options.after))
    found = sorted(differences(before, after, json.loads(options.names.read_text()) if options.names else {}))
    print(*found[:40], f"{len(found)} differences", sep="\n")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
