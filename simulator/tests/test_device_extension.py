"""An Objective-C++ extension on torch's own MPSStream, built with the toolchain file."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from cmake_project import build
from interpreter import run_python

import mps_simulator


@pytest.fixture(scope="module")
def extension(tmp_path_factory):
    return build(Path(__file__).parent / "device_extension", tmp_path_factory) / "libdevice_extension.so"


@pytest.fixture(scope="module")
def ops(extension):
    torch.ops.load_library(extension)
    return torch.ops.device_extension


@pytest.mark.parametrize("name", ["twice", "twice_as_in_the_tutorial"])
def test_kernels_see_what_operators_wrote_and_the_other_way_round(ops, name):
    x = torch.arange(100.0, device="mps")
    twice = getattr(ops, name)
    twice(x)
    twice(x[50:])
    x += 1
    twice(x)
    expected = torch.arange(100.0) * 2
    expected[50:] *= 2
    assert torch.equal(x.cpu(), (expected + 1) * 2)


def test_both_ways_of_encoding_follow_one_another(ops):
    x = torch.ones(10, device="mps")
    for _ in range(5):
        ops.twice(x)
        ops.twice_as_in_the_tutorial(x)
    assert x.tolist() == [1024.0] * 10


def test_a_stream_of_its_own(ops):
    x = torch.ones(10, device="mps")
    stream = torch.Stream(device="mps")
    with stream:
        ops.twice(x)
    assert x.tolist() == [2.0] * 10


def test_blits_follow_kernels(ops):
    x, y = torch.ones(10, device="mps"), torch.empty(10, device="mps")
    ops.twice(x)
    ops.blit(x, y)
    ops.twice(y)
    assert y.tolist() == [4.0] * 10 and x.tolist() == [2.0] * 10


def test_completion_handlers_run(ops):
    before = ops.completions()
    ops.count_completion()
    torch.mps.synchronize()
    assert ops.completions() == before + 1


def test_an_exception_comes_out_of_the_queue(ops):
    with pytest.raises(IndexError, match="thrown inside"):
        ops.throw_inside_the_queue()


def test_what_ends_the_process_on_a_mac_raises(ops):
    with pytest.raises(mps_simulator.Finding, match="outside dispatch_sync"):
        ops.encoder_outside_the_queue()
    x = torch.ones(10, device="mps")
    with pytest.raises(mps_simulator.Finding, match="waits for that queue for ever"):
        ops.operator_inside_the_queue(x)
    ops.twice(x)
    assert x.tolist() == [2.0] * 10


def test_what_metal_raises_while_encoding(ops, monkeypatch):
    x = torch.ones(10, device="mps")
    torch.mps.synchronize()
    monkeypatch.setenv("MPS_SIMULATOR_RAISE", "dispatchThreads")
    assert ops.twice_or_reason(x).startswith("-dispatchThreads:threadsPerThreadgroup: raised")
    with pytest.raises(mps_simulator.Finding, match="an NSException left a block through dispatch_sync: -dispatchT"):
        ops.twice_unguarded(x)
    with pytest.raises(RuntimeError):  # of no known type
        ops.twice(x)
    torch.mps.synchronize()
    monkeypatch.delenv("MPS_SIMULATOR_RAISE")
    assert ops.twice_or_reason(x) == ""
    assert x.tolist() == [2.0] * 10


def test_barriers_are_recorded(ops):
    x = torch.ones(10, device="mps")
    torch.mps.synchronize()
    with mps_simulator.record() as dispatches:
        ops.barrier()
        ops.twice(x)
        ops.twice(x)
        ops.barrier()
        ops.barrier()
        ops.twice(x)
        torch.mps.synchronize()
        ops.twice_as_in_the_tutorial(x)
        ops.twice(x)
        ops.barrier()
    assert [(d.barriers_before, d.barriers_after) for d in dispatches] == [(1, 0), (0, 2), (2, 0), (0, 0), (0, 1)]
    assert [d.command_buffer for d in dispatches] == [0, 0, 0, 1, 2]


@pytest.mark.parametrize(("version", "newer"), [("13.0", 1), ("14.7", 3), ("26.1", 4)])
def test_the_system_is_the_one_played(extension, version, newer):
    program = f"""
import torch
torch.ops.load_library({str(extension)!r})
versions = ((13, 0), (14, 0), (14, 7), (26, 1), (26, 2), (27, 0))
print([torch.ops.device_extension.macos_is_at_least(*v) for v in versions])
"""
    result = run_python(program, MPS_SIMULATOR_MACOS=version)
    assert result.stdout == f"{[i < newer for i in range(6)]}\n", result.stderr
