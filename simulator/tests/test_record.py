"""mps_simulator.record(): what ran."""

from __future__ import annotations

import pytest
import torch

import mps_simulator

SOURCE = """
#include <metal_stdlib>
using namespace metal;

kernel void fill(device float* x, constant float& value, uint3 i [[thread_position_in_grid]]) {
  if (i.y == 0 && i.z == 0) x[i.x] = value;
}
kernel void diverge(device float* x, uint i [[thread_position_in_threadgroup]]) {
  if (i == 0) threadgroup_barrier(mem_flags::mem_threadgroup);
  x[i] = 1;
}
"""


@pytest.fixture(scope="module")
def library():
    return torch.mps.compile_shader(SOURCE)


def test_dispatches_in_order_with_their_geometry(library):
    x = torch.zeros(100, device="mps")
    library.fill(x, 9.0)  # before the recording
    with mps_simulator.record() as dispatches:
        library.fill(x, 1.0)
        library.fill(x, 2.0, threads=(10, 5, 2), group_size=(5, 5, 1))
    assert [d.kernel for d in dispatches] == ["fill", "fill"]
    assert dispatches[0].grid == (100, 1, 1) and dispatches[0].threads_per_threadgroup == (100, 1, 1)
    assert dispatches[1].grid == (10, 5, 2) and dispatches[1].threads_per_threadgroup == (5, 5, 1)
    assert isinstance(dispatches[0].label, str)
    library.fill(x, 3.0)
    torch.mps.synchronize()
    assert len(dispatches) == 2


def test_command_buffers_are_numbered_from_0(library):
    x = torch.zeros(4, device="mps")
    library.fill(x, 1.0)
    torch.mps.synchronize()
    with mps_simulator.record() as outer:
        library.fill(x, 1.0)
        library.fill(x, 2.0)
        torch.mps.synchronize()
        torch.mps.synchronize()  # with nothing to commit
        library.fill(x, 3.0)
        with mps_simulator.record() as inner:
            library.fill(x, 4.0)
    assert [d.command_buffer for d in outer] == [0, 0, 1, 2]
    assert [d.command_buffer for d in inner] == [0]


def test_operators_that_ran_on_the_cpu(library):
    x = torch.ones(4, device="mps")
    with mps_simulator.record() as dispatches:
        x.add(1)
        torch.nn.functional.relu(x)
    assert "aten::add.out" in dispatches.operators and "aten::relu" in dispatches.operators
    assert list(dispatches) == []
    with mps_simulator.record() as dispatches:
        library.fill(x, 1.0)
    assert dispatches.operators == []


def test_recordings_nest(library):
    x = torch.zeros(4, device="mps")
    with mps_simulator.record() as outer:
        library.fill(x, 1.0)
        with mps_simulator.record() as inner:
            library.fill(x, 2.0)
    assert len(outer) == 2 and len(inner) == 1


def test_an_exception_passes_and_ends_the_recording(library):
    with pytest.raises(KeyError), mps_simulator.record() as dispatches:
        library.fill(torch.zeros(4, device="mps"), 1.0)
        raise KeyError
    assert len(dispatches) == 1


def test_a_kernel_that_faults_raises_at_the_next_synchronisation_and_the_device_goes_on(library):
    x = torch.ones(64, device="mps")
    library.diverge(x)
    with pytest.raises(RuntimeError, match="diverge"):
        torch.mps.synchronize()
    torch.mps.synchronize()
    library.diverge(x)
    with pytest.raises(RuntimeError, match="diverge"):
        x.cpu()
    library.fill(x, 2.0)
    assert x.sum().item() == 128
