"""Forms that Apple's compiler accepts because published sources, above all PyTorch's, are built with it."""

from __future__ import annotations

import ctypes

import pytest
import torch
from torch import nn

HEADER = "#include <metal_stdlib>\nusing namespace metal;\n"


def library(source: str):
    return torch.mps.compile_shader(HEADER + source)


def zeros(n: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.zeros(n, dtype=dtype, device="mps")


def tensor(values: list, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.tensor(values, dtype=dtype, device="mps")


# --- c ? a : b

DTYPES = {"float": torch.float32, "int": torch.int32, "bfloat": torch.bfloat16, "long": torch.int64}


def test_a_selection_has_the_type_of_each_instantiation():
    selections = library("""
        template <typename T, typename U> kernel void f(device T* out, device const U* in,
                                                        uint i [[thread_position_in_grid]]) {
          U own = U(7);
          out[i] = i > 2 ? in[i] : own;
        }
        template [[host_name("integers")]] kernel void f<float, int>(device float*, device const int*, uint);
        template [[host_name("bfloats")]] kernel void f<bfloat, bfloat>(device bfloat*, device const bfloat*, uint);
    """)
    for name, out, dtype in (("integers", torch.float32, torch.int32), ("bfloats", torch.bfloat16, torch.bfloat16)):
        x = zeros(4, out)
        getattr(selections, name)(x, tensor([1001] * 4, dtype))  # 1000 as a bfloat
        assert x.tolist() == [7, 7, 7, 1001 if dtype == torch.int32 else 1000]


@pytest.mark.parametrize("qualifier", ["", "const "])
@pytest.mark.parametrize("name", [*DTYPES, "float2", "packed_float3"])
def test_selections_between_all_address_spaces(name, qualifier):
    source = f"""
        template <typename T> kernel void f(device T* out, device {qualifier}T* in, constant T* fixed,
                                            uint i [[thread_position_in_grid]]) {{
          threadgroup T shared[4];
          T own = T(7);
          shared[i] = T(9);
          if (i == 0)
            out[i] = i > 2 ? in[i] : own;
          else
            out[i] = i > 2 ? in[i] : i > 1 ? (i == 2 ? fixed[i] : own) : (i == 9 ? (in)[i] : shared[i]);
          out[i] = (i == 0 ? 0 : i) > 9 ? own : out[i];
        }}"""
    for i, each in enumerate(dict.fromkeys([name, *DTYPES])):
        signature = f"device {each}*, device {qualifier}{each}*, constant {each}*, uint"
        source += f'\ntemplate [[host_name("f{i}")]] kernel void f<{each}>({signature});'
    dtype = DTYPES.get(name, torch.float32)
    lanes = {"float2": 2, "packed_float3": 3}.get(name, 1)
    out = zeros(4 * lanes, dtype)
    inputs = tensor([3] * 4 * lanes, dtype), tensor([5] * 4 * lanes, dtype)
    library(source).f0(out, *inputs, threads=4, group_size=4)
    assert out.view(4, lanes).tolist() == [[n] * lanes for n in (7, 9, 5, 3)]


def test_a_selection_of_one_address_space_is_still_an_object():
    x = zeros(2)
    library("""
        kernel void f(device float2* x) {
          float2 a = 1, b = 2;
          (x[0].x > 0 ? a : b).x = 5;
          thread float2& r = x[0].x > 0 ? a : b;
          r.y = 6;
          x[0] = b;
        }
    """).f(x, threads=1)
    assert x.tolist() == [5, 6]


# --- constants that are strings

TEXT = """
    constant const char* pointer = "ab";
    constant char characters[] = "c" "d";
    constant const char* const pointers[2] = {"ef", "gh"};
    constant char rows[2][3] = {"ij", "kl"};
    uint length(constant const char* text) { uint n = 0; while (text[n]) ++n; return n; }
    template <typename... T> uint total(constant const char* first, T... rest) { return length(first); }
    kernel void function(device int* x) {
      constant const char* local = "xyz";
      auto deduced = "q";
      x[0] = pointer[1];      x[1] = characters[1];     x[2] = pointers[1][0];    x[3] = rows[1][1];
      x[4] = local[2];        x[5] = deduced[0];        x[6] = sizeof("abc");     x[7] = sizeof(characters);
      x[8] = (x[0] > 0 ? "m" : "n")[0];                 x[9] = "abc"[1];          x[10] = length(__func__);
      x[11] = total("four", 1, "five");                 x[12] = length(__FILE__) > 0;
    }
"""


def test_strings():
    x = zeros(13, torch.int32)
    library(TEXT).function(x, threads=1)
    letters = "".join(map(chr, x[[0, 1, 2, 3, 4, 5, 8, 9]].tolist()))
    assert letters == "bdglzqmb" and x[[6, 7, 10, 11, 12]].tolist() == [4, 3, len("function"), 4, 1]


def messages(x: torch.Tensor) -> list[str]:
    """What TORCH_REPORT_ERROR() of c10/metal/error.h left in the buffer: the texts."""

    class Message(ctypes.Structure):
        _fields_ = [("file", ctypes.c_char * 128), ("func", ctypes.c_char * 128), ("message", ctypes.c_char * 250)]
        _fields_ += [("line", ctypes.c_uint)]

    data = x.cpu().numpy().tobytes()
    count = int.from_bytes(data[:4], "little")
    found = [Message.from_buffer_copy(data, 4 + i * ctypes.sizeof(Message)) for i in range(count)]
    return [f"{m.func.decode()}: {m.message.decode()}" for m in found]


def test_errors_that_kernels_report():
    x = zeros(4 + 30 * 512, torch.uint8)
    torch.mps.compile_shader("""
        #include <c10/metal/error.h>
        kernel void check(device c10::metal::ErrorMessages* errors) {
          long index = -12;
          TORCH_REPORT_ERROR(errors, "Index ", index, " is out of range [0, ", 8, ")");
        }
    """).check(x, threads=1)
    assert messages(x) == ["check: Index -12 is out of range [0, 8)"]


@pytest.fixture
def inductor(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def test_indexing_compiled_by_inductor(inductor):
    x, index = torch.arange(10.0), torch.tensor([3, 1, -1])
    compiled = torch.compile(lambda x, index: x[index])
    assert torch.equal(compiled(x.to("mps"), index.to("mps")).cpu(), x[index])


def test_an_index_out_of_range_compiled_by_inductor(inductor):
    compiled = torch.compile(lambda x, index: x[index])
    with pytest.raises(RuntimeError, match=r"Index 12 out of range \[0, 10\)"):
        compiled(torch.arange(10.0, device="mps"), tensor([3, 12], torch.int64))
        torch.mps.synchronize()


@pytest.mark.parametrize(
    ("layer", "x"),
    [
        (nn.Upsample(scale_factor=2, mode="trilinear"), torch.rand(1, 2, 3, 5, 4)),
        (nn.Embedding(5, 3), torch.tensor([1, 4])),
    ],
    ids=["upsample", "embedding"],
)
def test_layers_compiled_by_inductor(inductor, layer, x):
    expected = layer(x)
    torch.testing.assert_close(torch.compile(layer.to("mps"))(x.to("mps")).cpu(), expected)


# --- parameters and members


def test_buffers_of_bytes_without_a_type():
    out, x, y = zeros(4), tensor([1, 2, 3, 4]), tensor([10, 20, 30, 40])
    kernel = library("""
        kernel void f(device void* out, constant void* x, device const void* y, uint i [[thread_position_in_grid]]) {
          ((device float*)out)[i] = ((constant float*)x)[i] + static_cast<device const float*>(y)[i];
        }
    """).f
    kernel(out, x, y)
    assert out.tolist() == [11, 22, 33, 44]
    kernel(out.view(torch.uint8)[4:], x[1:], y, threads=2)  # at any offset
    assert out.tolist() == [11, 12, 23, 44]


def test_restricted_pointers():
    x, y = zeros(2), tensor([3, 4])
    library("""
        kernel void f(device float* __restrict x [[buffer(0)]], const device float* const __restrict y [[buffer(1)]],
                      uint i [[thread_position_in_grid]]) { x[i] = y[i]; }
    """).f(x, y)
    assert x.tolist() == [3, 4]


def test_members_with_an_id():
    x = zeros(3)
    library("""
        struct Numbers { float scale [[id(0)]]; int count [[id(1)]]; };
        struct Pointers {
          device float* out [[id(0)]];
          constant uint& count [[id(1)]];
          array<device float*, 4> many [[id(2)]];
        };
        kernel void f(device float* x, constant Numbers& numbers [[buffer(1)]]) {
          x[0] = numbers.scale * numbers.count;
          x[1] = sizeof(Numbers);
          x[2] = sizeof(Pointers);
        }
        kernel void through_pointers(constant Pointers& p, uint i [[thread_position_in_grid]]) {
          p.out[i] = p.many[i % 4][i] * p.count;
        }
    """).f(x, torch.tensor([2.5, torch.tensor(4, dtype=torch.int32).view(torch.float32)], device="mps"), threads=1)
    assert x.tolist() == [10, 8, 48]


# --- conversions and copies


def test_packed_vectors_of_another_element_type():
    x = zeros(16)
    library("""
        kernel void f(device float4* x, device packed_half4* h, device packed_float3* f, device packed_uchar4* u) {
          x[0] = float4(h[0]);
          x[1] = float4(float3(half3(f[0])), float2(int2(packed_float2(3.7, 1))).x);
          x[2] = float4(u[0]);
          x[3] = float4(packed_half4(packed_uchar4(uint4(x[2]))));
        }
    """).f(x, tensor([0.5, 1, 2, 3], torch.half), tensor([5, 6, 7]), tensor([1, 2, 3, 255], torch.uint8), threads=1)
    assert x.view(4, 4).tolist() == [[0.5, 1, 2, 3], [5, 6, 7, 3], [1, 2, 3, 255], [1, 2, 3, 255]]


@pytest.mark.parametrize("name", ["float", "bfloat", "float4", "half2"])
def test_arrays_in_structs_are_copied_between_address_spaces(name):
    dtype = {"bfloat": torch.bfloat16, "half2": torch.float16}.get(name, torch.float32)
    x = torch.arange(32).to(dtype).to("mps")
    library(f"""
        template <typename T, int N> struct Some {{ T values[N]; }};
        template <typename T> T last(const device Some<T, 4>& some) {{ Some<T, 4> copy = some; return copy.values[3]; }}
        template <typename T> kernel void f(device Some<T, 4>* x) {{
          threadgroup Some<T, 4> shared;
          Some<T, 4> own = x[0];
          own.values[0] = last(x[0]);
          shared = own;
          Some<T, 4> back = shared;
          x[1] = back;
        }}
        template [[host_name("f")]] kernel void f<{name}>(device Some<{name}, 4>*);
    """).f(x, threads=1)
    width = {"float4": 4, "half2": 2}.get(name, 1)
    rows = x.cpu()[: 8 * width].view(2, 4, width)
    assert torch.equal(rows[1], rows[0][[3, 1, 2, 3]])


def test_instantiations_that_differ_in_their_parameters_alone():
    kernels = library("""
        template <typename T> kernel void f(device T* out, device float* in) { out[0] = 1; }
        template <typename T> kernel void f(device T* out, device int* in, uint i [[thread_position_in_grid]]) {
          out[0] = 2;
        }
        template <typename T> kernel void f(device T* out, constant half in[1]) { out[0] = 3; }
        template [[host_name("a")]] kernel void f<int>(device int*, device float*);
        template [[host_name("b")]] kernel void f<int>(device int* out [[buffer(0)]], device int* in [[buffer(1)]],
                                                       uint i [[thread_position_in_grid]]);
        template [[host_name("c")]] [[kernel]] void f<int>(device int* out, constant half in[1]);
    """)
    for name, dtype, expected in (("a", torch.float32, 1), ("b", torch.int32, 2), ("c", torch.half, 3)):
        out = zeros(1, torch.int32)
        getattr(kernels, name)(out, zeros(1, dtype), threads=1)
        assert out.item() == expected


# --- headers and macros


def test_types_of_simd():
    x = zeros(8)
    torch.mps.compile_shader("""
        #include <metal_stdlib>
        #include <simd/simd.h>
        using namespace metal;
        struct Uniforms { simd_float4x4 model; vector_float3 eye; simd::uint2 size; matrix_float2x2 turn; };
        kernel void f(device float* x) {
          Uniforms u;
          u.model = simd_float4x4(1);
          u.eye = float3(1, 2, 3);
          u.size = simd_uint2(4, 5);
          x[0] = (u.model * simd_float4(u.eye, 1)).y;
          x[1] = u.size.y;
          x[2] = sizeof(Uniforms);
        }
    """).f(x, threads=1)
    assert x[:3].tolist() == [2, 5, 112]
    with pytest.raises(SyntaxError, match="simd_float4"):
        library("kernel void f(device simd_float4* x) {}")


def test_bfloat_is_announced():
    x = zeros(1)
    library("""
        #if defined(__HAVE_BFLOAT__)
        kernel void f(device float* x) { x[0] = bfloat(3); }
        #endif
    """).f(x, threads=1)
    assert x.item() == 3


def test_parts_of_floats():
    x, exponents = tensor([6.5, -0.75, 0, float("inf")]), zeros(4, torch.int32)
    wholes, fractions = zeros(4), zeros(4)
    library("""
        kernel void f(device float* x, device int* exponents, device float* wholes, device float* fractions,
                      uint i [[thread_position_in_grid]]) {
          float whole;
          int exponent;
          fractions[i] = modf(x[i], whole);
          wholes[i] = whole;
          x[i] = i < 3 ? frexp(x[i], exponent) : 0;
          exponents[i] = i < 3 ? exponent : 0;
        }
    """).f(x, exponents, wholes, fractions)
    assert wholes.tolist() == [6, 0, 0, float("inf")] and fractions.tolist() == [0.5, -0.75, 0, 0]
    assert x.tolist() == [0.8125, -0.75, 0, 0] and exponents.tolist() == [3, 0, 0, 0]


def test_messages_to_a_log():
    x = zeros(1)
    library("""
        #include <metal_logging>
        constant os_log logger("subsystem", "category");
        kernel void f(device float* x) {
          logger.log_debug("%f", x[0]);
          os_log_default.log("text");
          x[0] = 1;
        }
    """).f(x, threads=1)
    assert x.item() == 1


def test_members_that_templates_make_of_comparisons():
    x = zeros(3)
    library("""
        template <typename T>
        struct Reduce {
          template <typename U, enable_if_t<sizeof(U) < 8 && (sizeof(U) > 1), bool> = true>
          int width(U) const thread { return sizeof(U); }
          template <typename U, enable_if_t<sizeof(U) == 8 || is_same_v<U, bool>, bool> = true>
          int width(U) const thread { return -int(sizeof(U)); }
        };
        kernel void f(device float* x) {
          Reduce<int> reduce;
          x[0] = reduce.width(1.0f);
          x[1] = reduce.width(long(1));
          x[2] = reduce.width(true);
        }
    """).f(x, threads=1)
    assert x.tolist() == [4, -8, -1]


def test_all_of_torchs_headers():
    names = ("atomic", "common", "error", "expm1f", "igamma", "indexing", "random", "reduction_utils", "special_math")
    for name in (*names, "utils"):
        source = f"#include <c10/metal/{name}.h>\nkernel void f(device float* x) {{ x[0] = 1; }}"
        assert "f" in dir(torch.mps.compile_shader(source)), name
