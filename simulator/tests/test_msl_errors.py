"""What the shader compiler refuses: each shader with the line and the words of its error."""

from __future__ import annotations

import pytest
import torch

HEADER = "#include <metal_stdlib>\nusing namespace metal;\n"  # the shaders below begin in line 3

REFUSED = {
    # address spaces
    "device_to_thread_pointer": (
        "kernel void f(device float* x) {\n  thread float* p = x;\n  p[0] = 1;\n}",
        4,
        "converting 'device float *' to type 'thread float *' changes address space of pointer",
    ),
    "device_to_thread_parameter": (
        "void g(thread float* p) { p[0] = 1; }\nkernel void f(device float* x) { g(x); }",
        4,
        "changes address space of pointer",
    ),
    "device_to_thread_cast": (
        "kernel void f(device float* x) {\n  ((float*)x)[0] = 1;\n}",
        4,
        "casting 'device float *' to type 'float *' changes address space of pointer",
    ),
    "threadgroup_to_device_cast": (
        "kernel void f(device float* x, threadgroup float* t [[threadgroup(0)]]) {\n  x = (device float*)t;\n}",
        4,
        "'threadgroup float *' to",
    ),
    "constant_to_device": (
        "float g(const device float* p) { return p[0]; }\n"
        "kernel void f(device float* x, constant float* c) { x[0] = g(c); }",
        4,
        "changes address space of pointer",
    ),
    "reference_to_device_element": (
        "void g(thread float& r) { r = 1; }\nkernel void f(device float* x) {\n  g(x[0]);\n}",
        5,
        "changes address space",
    ),
    "reference_to_device_struct": (
        "struct S { float a; };\nfloat g(thread const S& s) { return s.a; }\n"
        "kernel void f(device float* x, device S* s) {\n  x[0] = g(s[0]);\n}",
        6,
        "changes address space",
    ),
    "write_to_constant": (
        "kernel void f(constant float* x) {\n  x[0] = 1;\n}",
        4,
        "read-only variable is not assignable|cannot assign to variable 'x'|const",
    ),
    "write_to_const_device": (
        "kernel void f(const device float* x) {\n  x[0] = 1;\n}",
        4,
        "read-only variable is not assignable|cannot assign|const",
    ),
    # kernels
    "kernel_pointer_without_address_space": (
        "kernel void f(float* x) { x[0] = 1; }",
        3,
        "pointer type must have explicit address space qualifier",
    ),
    "kernel_returns_a_value": ("kernel int f(device int* x) { return x[0]; }", 3, "must have void return type"),
    "duplicate_buffer_index": (
        "kernel void f(device int* x [[buffer(1)]], device int* y [[buffer(1)]]) { x[0] = y[0]; }",
        3,
        "cannot reserve 'buffer' resource location at index 1",
    ),
    "maximum_behind_the_parameters": (
        "kernel void f(device int* x)\n    [[max_total_threads_per_threadgroup(64)]] { x[0] = 0; }",
        4,
        "'max_total_threads_per_threadgroup' attribute cannot be applied to types",
    ),
    "kernel_behind_the_parameters": (
        "void f(device int* x) [[kernel]];\nvoid f(device int* x) { x[0] = 0; }",
        3,
        "'kernel' attribute cannot be applied to types",
    ),
    "buffer_index_out_of_range": ("kernel void f(device int* x [[buffer(31)]]) { x[0] = 0; }", 3, "out of bounds"),
    "misspelt_attribute": ("kernel void f(device int* x [[bufer(0)]]) { x[0] = 0; }", 3, "unknown attribute 'bufer'"),
    "misspelt_input": (
        "kernel void f(device int* x, uint i [[thread_position_in_gird]]) { x[i] = 0; }",
        3,
        "unknown attribute 'thread_position_in_gird'",
    ),
    "input_without_attribute": (
        "kernel void f(device int* x, uint i) { x[i] = 0; }",
        3,
        "invalid type 'uint' for input declaration",
    ),
    "buffer_by_value": (
        "kernel void f(device int* x, int n [[buffer(1)]]) { x[0] = n; }",
        3,
        "type 'int' is not valid for",
    ),
    "signed_position": (
        "kernel void f(device int* x, int i [[thread_position_in_grid]]) { x[i] = 0; }",
        3,
        "type 'int' is not valid for attribute 'thread_position_in_grid'",
    ),
    "vector_for_a_scalar_input": (
        "kernel void f(device int* x, uint2 i [[thread_index_in_simdgroup]]) { x[i.x] = 0; }",
        3,
        "is not valid for attribute 'thread_index_in_simdgroup'",
    ),
    "positions_of_different_dimensions": (
        "kernel void f(device int* x, uint i [[thread_position_in_grid]], uint3 g [[threadgroup_position_in_grid]])\n"
        "{ x[i] = g.x; }",
        3,
        "same number of elements",
    ),
    "two_kernels_of_one_name": (
        "template <typename T> kernel void f(device T* x) { x[0] = 0; }\n"
        'template [[host_name("a")]] kernel void f<int>(device int*);\n'
        'template [[host_name("a")]] kernel void f<float>(device float*);',
        5,
        "redefinition of kernel 'a'",
    ),
    "instantiation_that_does_not_match": (
        "template <typename T> kernel void f(device T* x) { x[0] = 0; }\n"
        'template [[host_name("a")]] kernel void f<int>(device float*);',
        4,
        "does not refer to a function template",
    ),
    "texture": ("kernel void f(device int* x [[texture(0)]]) { }", 3, "attribute 'texture' is not supported"),
    # storage
    "program_scope_variable": ("float table[2] = {1, 2};", 3, "must reside in constant address space"),
    "program_scope_constexpr": ("constexpr int n = 3;", 3, "must reside in constant address space"),
    "static_member": ("struct S {\n  static constexpr int n = 3;\n};", 4, "must reside in constant address space"),
    "static_local": (
        "kernel void f(device int* x) {\n  static int n = 0;\n  x[0] = n;\n}",
        4,
        "static local variables are not supported",
    ),
    "threadgroup_variable_outside_a_kernel": (
        "void g() {\n  threadgroup float t[4];\n  t[0] = 1;\n}",
        4,
        "can only be declared in a kernel function",
    ),
    "threadgroup_variable_with_initializer": (
        "kernel void f(device int* x) {\n  threadgroup int t = 3;\n  x[0] = t;\n}",
        4,
        "cannot have an initializer",
    ),
    # what MSL lacks of C++
    "double": ("kernel void f(device float* x) {\n  double d = 1;\n  x[0] = d;\n}", 4, "'double' is not supported"),
    "goto": ("kernel void f(device int* x) {\n  goto end;\n  end: x[0] = 1;\n}", 4, "goto"),
    "recursion": (
        "int g(int n) { return n == 0 ? 0 : g(n - 1) + 1; }\nkernel void f(device int* x) { x[0] = g(3); }",
        3,
        "recursive call of 'g'",
    ),
    "new": ("kernel void f(device int* x) {\n  thread int* p = new int;\n  x[0] = *p;\n}", 4, "'new'"),
    "exceptions": ("kernel void f(device int* x) {\n  throw 1;\n}", 4, "exceptions"),
    "virtual": ("struct S {\n  virtual int f() { return 1; }\n};", 4, "virtual functions"),
    "std": ("kernel void f(device float* x) {\n  x[0] = std::sqrt(x[1]);\n}", 4, "undeclared identifier 'std'"),
    # types
    "undeclared": ("kernel void f(device int* x) {\n  x[0] = y;\n}", 4, "use of undeclared identifier 'y'"),
    "vector_arity": ("kernel void f(device float3* x) {\n  x[0] = float2(1, 2);\n}", 4, "no viable"),
    "vectors_of_different_types": (
        "kernel void f(device float4* x, device int4* y) {\n  x[0] = x[1] + y[0];\n}",
        4,
        "invalid operands to binary expression",
    ),
    "swizzle_with_a_repeated_component": (
        "kernel void f(device float4* x) {\n  x[0].xx = float2(1, 2);\n}",
        4,
        "a component appears twice",
    ),
    "swizzle_past_the_end": ("kernel void f(device float2* x) {\n  x[0].x = x[0].z;\n}", 4, "no member named 'z'"),
    "address_of_a_component": (
        "kernel void f(device float4* x) {\n  thread float4 v = x[0];\n  thread float* p = &v.y;\n  x[0] = *p;\n}",
        5,
        "address of vector element requested",
    ),
    "float_to_bfloat": (
        "kernel void f(device bfloat* x) {\n  x[0] = 1.5f;\n}",
        4,
        "no viable overloaded '='",
    ),
    "half_to_bfloat": (
        "kernel void f(device bfloat* x, device half* h) {\n  x[0] = h[0];\n}",
        4,
        "no viable overloaded '='",
    ),
    "bfloat_to_half": (
        "kernel void f(device bfloat* x) {\n  half h = x[0];\n  x[0] = bfloat(h);\n}",
        4,
        "no viable conversion",
    ),
    "bfloat_with_half": (
        "kernel void f(device bfloat* x) {\n  float y = x[0] * half(2);\n  x[0] = bfloat(y);\n}",
        4,
        "is ambiguous",
    ),
    "float_added_to_bfloat": (
        "kernel void f(device bfloat* x, device float* y) {\n  x[0] += y[0];\n}",
        4,
        "no viable overloaded '+='",
    ),
    "ambiguous_max": ("kernel void f(device float* x) {\n  x[0] = max(0, x[0]);\n}", 4, "call to 'max' is ambiguous"),
    "ambiguous_exp": ("kernel void f(device int* x) {\n  x[0] = exp(x[1]);\n}", 4, "exp"),
    "as_type_of_another_size": ("kernel void f(device half* x) {\n  x[0] = as_type<half>(1);\n}", 4, "equal size"),
    "atomic_of_half": (
        "kernel void f(device atomic<half>* x) {\n  atomic_load_explicit(x, memory_order_relaxed);\n}",
        None,
        "atomic of",
    ),
    "plain_access_to_an_atomic": (
        "kernel void f(device atomic_int* x) {\n  x[0] = 1;\n}",
        4,
        "no viable overloaded '='",
    ),
    # simdgroup matrices
    "half_accumulator": (
        "#include <metal_simdgroup_matrix>\nkernel void f(device float* x) {\n  simdgroup_half8x8 a, b, c;\n"
        "  simdgroup_multiply_accumulate(c, a, b, c);\n}",
        6,
        "not known to compile on a Mac",
    ),
    "half_matrix_from_device": (
        "#include <metal_simdgroup_matrix>\nkernel void f(const device half* x) {\n  simdgroup_half8x8 a;\n"
        "  simdgroup_load(a, x, 8);\n}",
        6,
        "not known to compile on a Mac",
    ),
    "vector_of_a_matrixs_elements": (
        "#include <metal_simdgroup_matrix>\nkernel void f(device float2* x) {\n  simdgroup_float8x8 a(1.0f);\n"
        "  x[0] = float2(a.thread_elements());\n}",
        6,
        "no matching conversion",
    ),
    "matrix_of_another_shape": (
        "#include <metal_simdgroup_matrix>\nkernel void f(device float* x) {\n  simdgroup_matrix<float, 16, 16> a;\n}",
        5,
        "8 columns and 8 rows",
    ),
    # function constants
    "not_a_function_constant": (
        "constant bool b = true;\nkernel void f(device int* x) {\n  x[0] = is_function_constant_defined(b);\n}",
        5,
        "'b' is not a function constant",
    ),
    "function_constant_index_twice": (
        "constant bool a [[function_constant(0)]];\nconstant bool b [[function_constant(0)]];",
        4,
        "already used",
    ),
    "missing_header": ("#include <vector>\n", 3, "'vector' file not found"),
}


def error_of(source: str) -> str:
    with pytest.raises(SyntaxError) as raised:
        torch.mps.compile_shader(source)
    return str(raised.value)


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name):
    source, line, words = REFUSED[name]
    message = error_of(HEADER + source)
    first = next(text for text in message.splitlines() if "program_source:" in text)
    assert line is None or f"program_source:{line}:" in first, message
    assert any(word in message for word in words.split("|")), message


def test_the_standard_library_must_be_included():
    assert "undeclared identifier 'metal'" in error_of("using namespace metal;\nkernel void f(device int* x) {}")


def test_math_functions_live_in_namespace_metal():
    source = "#include <metal_stdlib>\nkernel void f(device float* x) {\n  x[0] = sqrt(x[1]);\n}"
    message = error_of(source)
    assert "program_source:3:10: error: use of undeclared identifier 'sqrt'" in message
    assert "  x[0] = sqrt(x[1]);\n         ^" in message


def test_lines_are_counted_through_macros_and_comments():
    source = HEADER + "#define TWICE(x) ((x) + \\\n  (x))\n/* a\n   comment */\nkernel void f(device int* x) { // why\n"
    assert "program_source:8:" in error_of(source + "  x[0] = TWICE(  missing);\n}")


def test_every_error_is_told_once():
    source = HEADER + (
        "template <typename T> kernel void f(device T* x) { x[0] = missing; x[1] = absent; }\n"
        'template [[host_name("a")]] kernel void f<int>(device int*);\n'
        'template [[host_name("b")]] kernel void f<float>(device float*);'
    )
    message = error_of(source)
    assert message.count("'missing'") == 1 and message.count("'absent'") == 1


def test_more_threadgroup_memory_than_there_is():
    library = torch.mps.compile_shader(
        HEADER + "kernel void f(device float* x) { threadgroup float t[8193]; t[0] = x[0]; x[1] = t[0]; }"
    )
    with pytest.raises(RuntimeError, match="exceeds the maximum threadgroup memory allowed"):
        library.f(torch.zeros(2, device="mps"))
