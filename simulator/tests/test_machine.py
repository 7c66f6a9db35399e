"""The Mac that is played: environment variables say which."""

from __future__ import annotations

import pytest
from interpreter import run_python

SHADERS = '''
import torch
import mps_simulator
library = torch.mps.compile_shader("""
#include <metal_stdlib>
using namespace metal;
kernel void plain(device float* x, uint i [[thread_position_in_grid]]) { x[i] = 1; }
[[kernel, max_total_threads_per_threadgroup(STATED)]] void stated(device float* x) { x[0] = 1; }
void store(simdgroup_float8x8 m, device float* x) { simdgroup_store(m, x, 8); }
[[kernel, max_total_threads_per_threadgroup(STATED)]] void matrices(device float* x) {
  store(simdgroup_float8x8(1.0f), x);
}
kernel void unstated_matrix(device float* x) { store(simdgroup_float8x8(1.0f), x); }
""")
x = torch.zeros(2048, device="mps")
'''


def run(program: str, stated: int = 64, **environment: str) -> str:
    result = run_python(SHADERS.replace("STATED", str(stated)) + program, **environment)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_threads_of_a_kernel_that_states_no_maximum() -> None:
    program = """
print(library.plain.max_threads_per_threadgroup, library.stated.max_threads_per_threadgroup)
library.plain(x, threads=384, group_size=384)
try:
    library.plain(x, threads=512, group_size=512)
except ValueError as error:
    print(error)
print(int(x.sum()))
"""
    limited = run(program, 512, MPS_SIMULATOR_MAX_THREADS="384")
    assert limited == "384 512\nThreadgroup size exceeds 384 limit\n384\n"
    assert run(program, 512) == "1024 512\n512\n"


@pytest.mark.parametrize("text", ["0", "100", "2048", "many"])
def test_a_maximum_that_no_gpu_has(text: str) -> None:
    result = run_python(SHADERS.replace("STATED", "64") + "library.plain(x)", MPS_SIMULATOR_MAX_THREADS=text)
    assert f"MPS_SIMULATOR_MAX_THREADS must be a multiple of 32 up to 1024, and is {text}" in result.stderr


def test_matrices_and_a_maximum_of_one_simdgroup() -> None:
    program = """
try:
    library.matrices(x, threads=32, group_size=32)
except mps_simulator.Finding as finding:
    print(finding)
library.unstated_matrix(x, threads=32, group_size=32)
print(int(x.sum()))
"""
    assert run(program, 64) == "8\n"
    assert "kernel 'matrices' uses simdgroup matrices and states a maximum of 32 threads" in run(program, 32)
