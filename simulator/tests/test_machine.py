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


COLLECTIVES = '''
import torch
library = torch.mps.compile_shader("""
#include <metal_stdlib>
using namespace metal;
template <class T> T twice(T x) { return x + simd_shuffle_xor(x, 1); }
float total(float x) { return simd_sum(twice(x)); }
kernel void plain(device float* x, threadgroup float* t [[threadgroup(0)]]) { x[0] = 1; }
kernel void barrier(device float* x, uint i [[thread_position_in_threadgroup]]) {
  simdgroup_barrier(mem_flags::mem_none);
  x[i] = quad_shuffle(x[i], 0);
}
kernel void shuffle(device float* x, uint i [[thread_position_in_threadgroup]]) { x[i] = twice(x[i]); }
kernel void vote(device float* x, uint i [[thread_position_in_threadgroup]]) { x[i] = simd_any(x[i] > 0); }
kernel void sum(device float* x, uint i [[thread_position_in_threadgroup]]) { x[i] = total(x[i]); }
kernel void prefix(device float* x, uint i [[thread_position_in_threadgroup]]) {
  x[i] = simd_prefix_inclusive_sum(x[i]);
}
kernel void product(device float* x) {
  simdgroup_float8x8 m(1.0f);
  simdgroup_multiply(m, m, m);
  simdgroup_store(m, x, 8);
}
""")
print(torch.mps.device_count(), torch.backends.mps.get_name(), torch.backends.mps.get_core_count())
for name in sorted(name for name in dir(library) if name[0] != "_"):
    try:
        getattr(library, name)
    except RuntimeError as error:
        print(name, str(error).split("localizedDescription")[-1])
'''


def test_a_virtual_machine_has_no_collectives_of_simdgroups() -> None:
    result = run_python(COLLECTIVES, MPS_SIMULATOR_GPU_FAMILY="5")
    assert result.returncode == 0, result.stderr
    first, *refused = result.stdout.splitlines()
    assert first == "1 Apple Paravirtual device (simulated) 0"
    expected = {
        "prefix": "simd_prefix_inclusive_sum",
        "product": "simdgroup_multiply",
        "shuffle": "simd_shuffle_xor",
        "sum": "simd_shuffle_xor|simd_sum",
        "vote": "simd_any",
    }
    assert [line.split()[0] for line in refused] == list(expected)
    for line, names in zip(refused, expected.values()):
        assert any(f"Encountered unlowered function call to air.{name}" in line for name in names.split("|")), line


@pytest.mark.parametrize(("family", "name"), [("7", "Apple M1"), ("8", "Apple M2"), ("9", "Apple M3")])
def test_macs_have_collectives_of_simdgroups(family: str, name: str) -> None:
    result = run_python(COLLECTIVES, MPS_SIMULATOR_GPU_FAMILY=family)
    assert result.returncode == 0 and result.stdout == f"1 {name} (simulated) {8 if family == '7' else 10}\n"


def test_a_family_without_a_mac() -> None:
    result = run_python("import torch\nprint(torch.backends.mps.get_name())", MPS_SIMULATOR_GPU_FAMILY="6")
    assert "MPS_SIMULATOR_GPU_FAMILY must be 5 (a virtual machine), 7, 8 or 9, and is 6" in result.stderr


def test_the_processor_is_apples_and_all_else_is_this_machines() -> None:
    program = """
import platform, sys
import torch
print(platform.processor())
print(platform.machine(), platform.system(), platform.platform(), *platform.uname(), sys.platform)
"""
    simulated, plain = run_python(program), run_python(program, MPS_SIMULATOR="0")
    assert simulated.returncode == plain.returncode == 0, simulated.stderr + plain.stderr
    assert simulated.stdout.splitlines()[0] == "arm"
    assert simulated.stdout.splitlines()[1:] == plain.stdout.splitlines()[1:]


MACOS = """
import torch
from torch.backends.mps import is_macos_or_newer
print([is_macos_or_newer(*v) for v in ((13, 0), (14, 0), (15, 0), (15, 5), (15, 6), (26, 0), (27, 0))])
library = torch.mps.compile_shader("kernel void k(device float* x [[buffer(0)]]) { x[0] = __METAL_VERSION__; }")
x = torch.zeros(1, device="mps")
library.k(x)
print(int(x.item()))
try:
    torch.mps.compile_shader("#include <metal_stdlib>\\nkernel void k(device bfloat* x) { x[0] = bfloat(1); }")
    print("bfloat")
except SyntaxError as error:
    print(str(error).splitlines()[0])
"""
NO_BFLOAT = "program_source:2:22: error: unknown type name 'bfloat'"


@pytest.mark.parametrize(
    ("version", "newer", "language", "bfloat"),
    [
        ("13.0", 1, 300, NO_BFLOAT),
        ("14.7", 2, 310, "bfloat"),
        ("", 4, 320, "bfloat"),
        ("15.5", 4, 320, "bfloat"),
        ("26.1", 6, 400, "bfloat"),
        ("27", 7, 400, "bfloat"),
    ],
)
def test_the_system_and_the_language_that_torch_compiles(version: str, newer: int, language: int, bfloat: str) -> None:
    result = run_python(MACOS, MPS_SIMULATOR_MACOS=version)
    assert result.returncode == 0, result.stderr
    assert result.stdout == f"{[i < newer for i in range(7)]}\n{language}\n{bfloat}\n"


@pytest.mark.parametrize("text", ["10.15", "Ventura", "13.x"])
def test_a_system_without_mps(text: str) -> None:
    result = run_python("import torch\nprint(torch.backends.mps.is_macos_or_newer(13, 0))", MPS_SIMULATOR_MACOS=text)
    assert f"MPS_SIMULATOR_MACOS must be X.Y, from 11.0 on, and is {text}" in result.stderr
