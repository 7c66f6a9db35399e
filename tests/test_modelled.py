"""`make model`: what a pass must do, what its peers do, and the records of a small call."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import modelled

import choose
from cases import BY_NAME, NETWORKS, SWEEP, Case
from peers import PEERS
from problem import OPS, Problem

OVERLAPPING = next(case for case in NETWORKS if case.kernel != case.stride)


@pytest.mark.parametrize("case", [case for case in SWEEP if len(case.input) == 5], ids=str)
def test_useful_products_are_those_that_reach_the_output(case: Case):
    """A transposed convolution of ones counts them."""
    ones = torch.ones(case.input, dtype=torch.float64), torch.ones(case.weight, dtype=torch.float64)
    assert Problem(case, "forward", "float32").useful_fma == torch.conv_transpose3d(*ones, **case.arguments).sum()


def test_compulsory_bytes():
    problem = Problem(BY_NAME["kernel_equals_stride"], "forward", "float16")
    assert problem.compulsory_bytes == 2 * (2 * 3 * 24 + 3 * 5 * 8 + 2 * 5 * 24 * 8 + 5)


def test_what_no_tap_reaches_need_not_be_read():
    """A kernel of 1 and a stride of 2: of 33 planes, and of 33 rows that lines do not begin with, every second."""
    case = Case("small_kernel", (1, 3, 17, 17, 17), (3, 5, 1, 1, 1), stride=(2, 2, 2))
    small = 3 * 17**3 + 3 * 5
    lines = {
        4 * (((c * 33 + d) * 33 + h) * 33 + w) // 128
        for c, d, h, w in itertools.product(range(5), *[range(0, 33, 2)] * 3)
    }
    assert Problem(case, "input_grad", "float32").compulsory_bytes == 4 * small + 128 * len(lines)
    assert Problem(case, "weight_grad", "float32").compulsory_bytes == 4 * (small + 5 * 33**3 + 5)


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("case", [BY_NAME["kernel_equals_stride"], OVERLAPPING], ids=str)
def test_peers_do_no_less_than_they_must(case: Case, op: str):
    problem = Problem(case, op, "float32")
    for peer in PEERS:
        passes = peer.passes(problem)
        assert (passes is None) == (
            case is OVERLAPPING and peer.name in ("parity GEMMs + copies", "matmul + pixel shuffle")
        )
        if passes:
            assert sum(p.fma for p in passes) >= problem.useful_fma
            assert problem.bytes_of(sum(p.elements for p in passes)) >= 0.95 * problem.compulsory_bytes


def test_records_of_small_calls(tmp_path, record):
    """Of all, and of those with outputs that no tap reaches."""
    of_one_group = [case for case in NETWORKS if case.groups == 1]
    below_stride = [case for case in of_one_group if case.kernel < case.stride]
    names = [min(cases, key=lambda case: case.multiplications).name for cases in (of_one_group, below_stride)]
    modelled.main(["--calls", *names, "--chips", "M1", "--dtypes", "float32", "--output", str(tmp_path)])
    records = json.loads((tmp_path / "kernels.json").read_text())
    assert (tmp_path / "roofline.png").stat().st_size > 10_000
    ours = [r for r in records if "peer" not in r]
    assert sorted((r["id"], r["op"]) for r in ours) == sorted(itertools.product(names, OPS))
    for r in ours:
        assert r["kernel"].startswith("conv_transpose3d_")
        assert r["issued_fma"] >= r["useful_fma"] > 0 and r["extra_bytes"] >= 0
        assert r["moved_bytes"] >= 0.9 * r["compulsory_bytes"]
        assert r["limit_ms"] / r["modelled_ms"] == pytest.approx(r["fraction"], abs=0.02) and 0 < r["fraction"] <= 1
    assert {r["peer"] for r in records if "peer" in r} == {modelled.DIRECT, *(peer.name for peer in PEERS)}


def test_every_algorithm_beside_the_choice(capsys, record):
    smallest = min((case for case in NETWORKS if case.groups == 1), key=lambda case: case.multiplications)
    choose.main([smallest.name, "--ops", "input_grad", "--chips", "M1"])
    printed = capsys.readouterr().out
    problem = Problem(smallest, "input_grad", "float32")
    algorithms = list(choose.algorithms_of(problem, 8))
    assert sum(chosen for _, chosen in algorithms) == 1
    assert {name for name, _ in algorithms} >= {"direct", "gemm_bm64_bn64", "gemm_bm32_bn32"}
    assert all(name in printed for name, _ in algorithms) and "of 1 choices are more than 5%" in printed


def test_host_time(simulator: None):
    """In a few rounds: every pass, and a sum in two dispatches."""
    done = subprocess.run(
        [sys.executable, Path(modelled.__file__).with_name("host_time"), "--rounds", "3"],
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in done.stdout.splitlines() if " us" in line]
    assert [row[1] for row in rows] == ["1", "1", "1", "2"]
    assert all(float(row[4]) > 0 for row in rows) and float(rows[-1][6]) > 0
