"""Streams, events, memory and faults. The device's work is a shader's, because the other operators run at once."""

from __future__ import annotations

import threading

import pytest
import torch
from interpreter import run_python

HEAD = """
#include <metal_stdlib>
using namespace metal;
"""
SPIN = (
    HEAD
    + """
// Takes a while, then adds one: what comes too early sees the old value.
kernel void slow_add(device float* x, constant long& rounds, uint i [[thread_position_in_grid]]) {
  float sum = 0;
  for (long k = 0; k < rounds; ++k) sum += sin(sum + float(k));
  x[i] += 1 + 0 * sum;
}
"""
)
ROUNDS = 200_000


@pytest.fixture(scope="module")
def library():
    return torch.mps.compile_shader(SPIN)


def test_a_copy_to_the_cpu_waits(library):
    x = torch.zeros(8, device="mps")
    for step in range(3):
        library.slow_add(x, ROUNDS)
        assert x.cpu().tolist() == [step + 1.0] * 8


def test_an_operator_on_the_cpu_waits(library):
    x = torch.zeros(8, device="mps")
    library.slow_add(x, ROUNDS)
    assert (x * 2).tolist() == [2.0] * 8
    library.slow_add(x, ROUNDS)
    assert x.sum().item() == 16


def test_work_is_asynchronous(library):
    event = torch.Event("mps")
    x = torch.zeros(8, device="mps")
    library.slow_add(x, 20 * ROUNDS)
    event.record()
    assert not event.query()
    event.synchronize()
    assert event.query() and torch.accelerator.current_stream().query()


def test_events_measure_time(library):
    start, end = torch.mps.Event(enable_timing=True), torch.mps.Event(enable_timing=True)
    x = torch.zeros(1, device="mps")
    start.record()
    library.slow_add(x, 5 * ROUNDS)
    end.record()
    end.synchronize()
    assert end.query() and 0.1 < start.elapsed_time(end) < 60_000

    first, last = torch.Event("mps", enable_timing=True), torch.Event("mps", enable_timing=True)
    first.record()
    library.slow_add(x, 5 * ROUNDS)
    last.record()
    assert first.elapsed_time(last) > 0.1
    with pytest.raises(RuntimeError, match="enable_timing=True"):
        torch.mps.Event().elapsed_time(end)
    with pytest.raises(RuntimeError, match="must be recorded"):
        start.elapsed_time(torch.mps.Event(enable_timing=True))


def test_streams_are_current_per_thread():
    default = torch.accelerator.current_stream()
    stream = torch.Stream(device="mps")
    assert stream != default and torch.Stream(device="mps") != stream
    seen = []
    with stream:
        assert torch.accelerator.current_stream() == stream
        thread = threading.Thread(target=lambda: seen.append(torch.accelerator.current_stream()))
        thread.start()
        thread.join()
    assert torch.accelerator.current_stream() == default and seen == [default]


def test_two_streams_wait_for_each_other(library):
    x = torch.zeros(8, device="mps")
    first, second = torch.Stream(device="mps"), torch.Stream(device="mps")
    for _ in range(3):
        with first:
            second_done = second.record_event()
            first.wait_event(second_done)
            library.slow_add(x, ROUNDS)
        with second:
            second.wait_stream(first)
            library.slow_add(x, ROUNDS)
    second.synchronize()
    assert second.query()
    assert x.tolist() == [6.0] * 8


def test_memory_figures_and_cache():
    torch.mps.empty_cache()
    before, driver_before = torch.mps.current_allocated_memory(), torch.mps.driver_allocated_memory()
    x = torch.empty(1 << 20, device="mps")
    assert torch.mps.current_allocated_memory() - before == 4 << 20
    assert torch.mps.driver_allocated_memory() - driver_before >= 4 << 20
    y = x + 1  # an operator's result counts as well
    assert torch.mps.current_allocated_memory() - before == 8 << 20
    del x, y
    assert torch.mps.current_allocated_memory() == before
    assert torch.mps.driver_allocated_memory() > driver_before  # kept
    torch.mps.empty_cache()
    assert torch.mps.driver_allocated_memory() == driver_before
    assert torch.mps.recommended_max_memory() > 1 << 28
    torch.accelerator.reset_peak_memory_stats()
    x = torch.empty(1 << 20, device="mps")
    del x
    assert torch.accelerator.max_memory_allocated() - torch.accelerator.memory_allocated() == 4 << 20


def test_out_of_memory_is_the_error_of_torch():
    x = torch.zeros(4, device="mps")
    torch.mps.empty_cache()
    allowed = torch.mps.driver_allocated_memory() + (8 << 20)
    torch.mps.set_per_process_memory_fraction(allowed / torch.mps.recommended_max_memory())
    try:
        for allocate in (lambda: torch.empty(16 << 20, device="mps"), lambda: x[:1].repeat(16 << 20)):
            with pytest.raises(
                RuntimeError, match=r"MPS backend out of memory \(MPS allocated: .*max allowed: .*Tried"
            ):
                allocate()
        assert torch.empty(1 << 20, device="mps").numel() == 1 << 20
    finally:
        torch.mps.set_per_process_memory_fraction(1.7)
    assert (x + 1).tolist() == [1, 1, 1, 1]


def test_a_tensor_larger_than_any_buffer_is_refused():
    with pytest.raises(RuntimeError, match="Invalid buffer size"):
        torch.empty(1 << 50, device="mps", dtype=torch.uint8)


def test_a_freed_buffer_is_not_handed_out_while_the_device_uses_it(library):
    x = torch.zeros(1000, device="mps")
    torch.mps.synchronize()
    library.slow_add(x, ROUNDS)  # encoded, not committed: the command buffer holds the memory of x
    address = x.data_ptr()
    del x
    other = torch.empty(1000, device="mps")
    assert other.data_ptr() != address
    torch.mps.synchronize()
    assert other.isnan().all().item()


def test_memory_is_recycled():
    x = torch.empty(12345, device="mps")
    address = x.data_ptr()
    del x
    assert torch.empty(12345, device="mps").data_ptr() == address


PRELUDE = f"import os, torch\nlibrary = torch.mps.compile_shader({SPIN!r})\nx = torch.zeros(8, device='mps')\n"


@pytest.mark.parametrize("end", ["", "os._exit(0)"])
def test_a_process_may_end_while_the_device_works(end):
    event = "torch.mps.Event().record()\n"  # commits
    result = run_python(PRELUDE + f"library.slow_add(x, {10 * ROUNDS})\n{event}library.slow_add(x, {ROUNDS})\n{end}")
    assert result.returncode == 0, result.stderr


FORBIDDEN = [
    "y + 1",
    "y.cpu()",
    "y.tolist()",
    "y.fill_(2)",
    "y[0].item()",
    "torch.zeros(2, device='mps')",
    "library.slow_add(y, 10)",
    "torch.ones(2).to('mps')",
    "torch.mps.synchronize()",
    "torch.mps.empty_cache()",
    "torch.mps.compile_shader('kernel void f(device float* x) { x[0] = 1; }')",
    "torch.mps.Event().record()",
]


def test_a_forked_child_cannot_use_the_device():
    """On a Mac it crashes or waits for ever (pytorch #178037)."""
    result = run_python(
        PRELUDE
        + f"""
import mps_simulator
y = torch.zeros(4, device="mps")
library.slow_add(x, {10 * ROUNDS})
torch.mps.Event().record()  # the device works while the process forks
child = os.fork()
if child == 0:
    refused = []
    for use in {FORBIDDEN}:
        try:
            eval(use)
        except mps_simulator.Finding as finding:
            assert "forked child" in str(finding)
            refused.append(use)
    assert refused == {FORBIDDEN}, refused
    os._exit(0)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), (x + y[0]).tolist())
"""
    )
    assert result.stdout == f"0 {[1.0] * 8}\n", result.stdout + result.stderr


def test_a_forked_child_computes_on_the_cpu_and_lets_go_what_it_inherited():
    result = run_python(
        PRELUDE
        + """
import sys
model = torch.nn.Linear(4, 4).to("mps")
y = model(torch.ones(1, 4, device="mps"))
child = os.fork()
if child == 0:
    del model, x, y
    torch.manual_seed(0)
    w = torch.ones(3, requires_grad=True)
    (w * 2).sum().backward()
    assert w.grad.tolist() == [2.0] * 3 and torch.backends.mps.is_available()
    sys.exit(0)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    )
    assert result.stdout == "0\n", result.stdout + result.stderr


def test_a_forked_child_may_be_the_first_to_use_the_device():
    result = run_python(
        """
import os, torch
child = os.fork()
if child == 0:
    os._exit(0 if (torch.ones(2, device="mps") + 1).tolist() == [2.0] * 2 else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    )
    assert result.stdout == "0\n", result.stdout + result.stderr


def test_kernels_take_turns_on_the_streams():
    """Each stream's work is run by a thread of its own, on fibers that have run other kernels for other threads."""
    sources = [f"x[i] = {n}; threadgroup_barrier(mem_flags::mem_none); x[i] += 1;" for n in range(6)]
    kernels = [
        torch.mps.compile_shader(
            f"{HEAD}kernel void f(device int* x, uint i [[thread_position_in_grid]]) {{ {body} }}"
        ).f
        for body in sources
    ]
    for turn in range(4):
        x = torch.zeros(len(kernels), 64, dtype=torch.int32, device="mps")
        torch.mps.synchronize()
        for n, kernel in enumerate(kernels):
            with torch.Stream(device="mps") as stream:
                kernel(x[(n + turn) % len(kernels)])
            stream.synchronize()
        assert [row.unique().tolist() for row in x] == [[(n - turn) % 6 + 1] for n in range(6)]
