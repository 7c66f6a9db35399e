"""What Apple's compiler accepts and this one does not: by name, as simulator/docs/language.md lists it.

Who adds one of these takes it from both lists.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

import mps_simulator

HEADER = "#include <metal_stdlib>\n#include <metal_simdgroup_matrix>\nusing namespace metal;\n"
DOCUMENTATION = Path(__file__).resolve().parents[1] / "docs" / "language.md"

# Each with a word or two of the error.
REFUSED = {
    "textures": ("kernel void f(texture2d<float> t [[texture(0)]]) {}", "attribute 'texture' is not supported"),
    "samplers": ("kernel void f(sampler s [[sampler(0)]]) {}", "attribute 'sampler' is not supported"),
    "vertex and fragment functions": (
        "vertex float4 f(uint i [[vertex_id]]) { return float4(i); }",
        "only kernels are supported",
    ),
    "visible functions": ("[[visible]] int g(int a) { return a; }", "attribute 'visible' is not supported"),
    "stitchable functions": ("[[stitchable]] int g(int a) { return a; }", "attribute 'stitchable' is not supported"),
    "stage inputs": (
        "struct In { float a [[attribute(0)]]; };\nkernel void f(In in [[stage_in]]) {}",
        "attribute 'attribute' is not supported",
    ),
    "ray tracing": ("#include <metal_raytracing>", "'metal_raytracing' file not found"),
    "tensors": ("#include <metal_tensor>", "'metal_tensor' file not found"),
    "cooperative tensors": ("#include <metal_cooperative_tensor>", "'metal_cooperative_tensor' file not found"),
    "MetalPerformancePrimitives": (
        "#include <MetalPerformancePrimitives/MetalPerformancePrimitives.h>",
        "MetalPerformancePrimitives.h' file not found",
    ),
    "command buffers": ("#include <metal_command_buffer>", "'metal_command_buffer' file not found"),
    "imageblocks": ("struct S { float a; };\nkernel void f(imageblock<S> b) {}", "imageblock"),
    "asynchronous copies": (
        "kernel void f(const device float* x, threadgroup float* t) { simdgroup_event e; e.async_copy(t, x, 4); }",
        "simdgroup_event",
    ),
    "64-bit atomics": (
        "kernel void f(device atomic_ulong* x) { atomic_max_explicit(x, 3ul, memory_order_relaxed); }",
        "atomic_max_explicit",
    ),
    "fences": (
        "kernel void f() { atomic_thread_fence(mem_flags::mem_device, memory_order_seq_cst, thread_scope_device); }",
        "atomic_thread_fence|memory_order_seq_cst",
    ),
    "coherent": ("kernel void f(coherent device float* x) {}", "coherent"),
    "packing": (
        "kernel void f(device uint* y, device float4* x) { y[0] = pack_float_to_unorm4x8(x[0]); }",
        "pack_float_to_unorm4x8",
    ),
    "determinants": (
        "kernel void f(device float* x, device float2x2* m) { x[0] = determinant(m[0]); }",
        "determinant",
    ),
    "matrices of another element type": (
        "kernel void f(device half2x2* x, device float2x2* m) { x[0] = half2x2(m[0]); }",
        "no matching conversion",
    ),
    "votes of quadgroups": ("kernel void f(device int* x) { x[0] = quad_any(x[1]); }", "quad_any"),
    "simdgroup matrices of half or bfloat but as factors": (
        "kernel void f(threadgroup half* x) { simdgroup_half8x8 a; simdgroup_store(a, x); }",
        "is not known to compile on a Mac",
    ),
    "diagonal simdgroup matrices": (
        "kernel void f() { auto m = make_diagonal_simdgroup_matrix<float, 8, 8>(1.0f); }",
        "make_diagonal_simdgroup_matrix",
    ),
    "origins of a grid": ("kernel void f(uint i [[grid_origin]]) {}", "attribute 'grid_origin' is not supported"),
    "numbers of quadgroups": ("kernel void f(uint i [[quadgroups_per_threadgroup]]) {}", "unknown attribute"),
    "bfloats assigned to integers": (
        "kernel void f(device int* x, device bfloat* y) { x[0] = y[0]; }",
        "incompatible type",
    ),
}

# Those that a kernel meets when it runs.
MET = {
    "pointers in buffers": (
        """struct Pointers { device float* x [[id(0)]]; };
        kernel void f(device Pointers* p, uint lane [[thread_index_in_simdgroup]]) { p->x[lane] = 1; }""",
        "in no buffer",
    ),
    "thread_elements() that some lanes change": (
        """kernel void f(device float* x, uint lane [[thread_index_in_simdgroup]]) {
          simdgroup_float8x8 m(1.0f);
          if (lane % 2 == 0) m.thread_elements()[0] = 0;
          simdgroup_store(m, x);
        }""",
        "simdgroup",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name):
    source, words = REFUSED[name]
    with pytest.raises(SyntaxError) as raised:
        torch.mps.compile_shader(HEADER + source)
    assert any(word in str(raised.value) for word in words.split("|")), raised.value


@pytest.mark.parametrize("name", MET)
def test_met(name):
    source, words = MET[name]
    x = torch.zeros(64, device="mps")
    torch.mps.compile_shader(HEADER + source).f(x.view(torch.uint8), threads=32, group_size=32)
    with pytest.raises(mps_simulator.Finding, match=words):
        torch.mps.synchronize()


def test_documentation_lists_the_same():
    section = DOCUMENTATION.read_text().split("## What is missing")[1].split("\n## ")[0]
    assert sorted(re.findall(r"^- ([^:\n]+)", section, re.M)) == sorted([*REFUSED, *MET])
