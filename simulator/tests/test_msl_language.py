"""Shaders that are good: what they compute. The form of each is known to compile on a Mac."""

from __future__ import annotations

import math

import pytest
import torch

HEADER = "#include <metal_stdlib>\nusing namespace metal;\n"


def run(source: str, *arguments, kernel: str = "f", header: str = HEADER, **how):
    getattr(torch.mps.compile_shader(header + source), kernel)(*arguments, **how)


def floats(n: int) -> torch.Tensor:
    return torch.zeros(n, device="mps")


def ints(n: int) -> torch.Tensor:
    return torch.zeros(n, dtype=torch.int32, device="mps")


def one_thread(statements: str, n: int = 16, dtype: torch.dtype = torch.float32, before: str = "") -> list:
    """The first `n` elements of `out` after one thread ran `statements`."""
    type_name = {torch.float32: "float", torch.int32: "int", torch.float16: "half", torch.bfloat16: "bfloat"}[dtype]
    out = torch.zeros(n, dtype=dtype, device="mps")
    run(f"{before}\nkernel void f(device {type_name}* out) {{ {statements} }}", out, threads=1, group_size=1)
    return out.tolist()


def test_literals_without_a_suffix_are_floats():
    assert one_thread("out[0] = sizeof(0.5); out[1] = sizeof(1e3 * 2); out[2] = sizeof(1.0h); out[3] = 0.1;", 4) == [
        4,
        4,
        2,
        torch.tensor(0.1).item(),
    ]
    source = "template <typename T> T g(T x) { return 0.1 * x; }"
    assert one_thread("out[0] = g(3.0f);", 1, before=source) == [(torch.tensor(0.1) * 3).item()]


def test_sizes_and_alignments():
    names = (
        "bool char2 uchar3 short3 half3 half4 bfloat4 int3 float2 float3 packed_float3 long2 float4x4 float3x3 bool4"
    )
    sizes = [1, 2, 4, 8, 8, 8, 8, 16, 8, 16, 12, 16, 64, 48, 4]
    statements = "".join(f"out[{i}] = sizeof({t});" for i, t in enumerate(names.split()))
    assert one_thread(statements, len(sizes)) == sizes
    assert one_thread("out[0] = alignof(float3); out[1] = alignof(packed_float3); out[2] = alignof(half2);", 3) == [
        16,
        4,
        4,
    ]


def test_vectors():
    assert one_thread(
        """
        float4 v = float4(1, 2, float2(3, 4));
        out[0] = v.x + v.g * 10 + v.z * 100 + v[3] * 1000;
        float2 w = v.zx;            out[1] = w.x * 10 + w.y;
        v.xw = w;                   out[2] = v.x * 10 + v.w;
        v.yz += 2;                  out[3] = v.y * 10 + v.z;
        v *= float4(2);             out[4] = v.x;
        int4 i = int4(v);           out[5] = i.y / 3 + i.z % 5;
        bool4 b = v > 6.5;          out[6] = any(b) + 2 * all(b) + 4 * b.x;
        out[7] = select(1.0f, 2.0f, true) + select(v, float4(-1), b).x;
        out[8] = dot(v.xyz, float3(1)) ;
        float3 c = cross(float3(1, 0, 0), float3(0, 1, 0)); out[9] = c.z;
        half4 h = half4(v);         out[10] = float(h.w * 0.5h);
        uint2 s = uint2(1, 2) << 3; out[11] = s.x + s.y;
        out[12] = as_type<float>(as_type<uint>(-2.5f) & 0x7fffffffu);
        out[13] = (-v).x + (float4(1) - 3).y;
        v.rgb = v.bgr;              out[14] = v.x;
        float4 d = {1, 2, 3, 4}; d.x = d.y = 7; out[15] = d.x + d.w;
        """
    ) == [4321, 31, 31, 45, 6, 2, 1, 8, 24, 1, 1, 24, 2.5, -8, 10, 11]


def test_vectors_in_every_address_space():
    x = torch.arange(16.0, device="mps")
    run(
        """
        struct S { float4 a; float b[3]; };
        constant float4 table[2] = {float4(1, 2, 3, 4), {5, 6, 7, 8}};
        kernel void f(device float4* x, constant float4& c, uint i [[thread_position_in_threadgroup]]) {
          threadgroup float4 t[2];
          threadgroup S s;
          t[0] = x[0] + c;
          t[0].xy = t[0].yx;
          t[1] = table[1];
          s.a = t[0];
          s.b[2] = 9;
          S copy = s;
          thread S& r = copy;
          r.a.w += r.b[2];
          x[0] = r.a;
          x[1] = c.x > 1000 ? t[1] : table[0];
          x[2] = c.x > 1000 ? float4(0) : c;
          x[3] = (c.x > 0 ? t[1] : x[0]) * table[1].w;
          x[3].xy *= 2;
        }
        """,
        x,
        [10.0, 20.0, 30.0, 40.0],
        threads=1,
        group_size=1,
    )
    assert x.tolist() == [21, 10, 32, 52, 1, 2, 3, 4, 10, 20, 30, 40, 80, 96, 56, 64]


def test_bfloat_rounds_each_operation():
    x = torch.tensor([1.0, 0.00390625, 3.0, 7.0], dtype=torch.bfloat16, device="mps")
    run(
        "kernel void f(device bfloat* x) { bfloat a = x[0] + x[1]; x[0] = a + x[1]; x[1] = x[2] / x[3];"
        " float y = x[3] * 0.1f; x[2] = bfloat(y); x[3] = -x[3] + 1; }",
        x,
        threads=1,
        group_size=1,
    )
    expected = torch.tensor([1.0, 3 / 7, 0.7, -6], dtype=torch.bfloat16)
    assert torch.equal(x.cpu(), expected)


def test_half_rounds_each_operation():
    assert one_thread(
        "half a = 2048; half b = a + 1; out[0] = b - 2048; out[1] = half(65504) * 2.0h / 2;", 2, torch.float16
    ) == [
        0,
        math.inf,
    ]


def test_conversions_of_bfloat():
    x = torch.tensor([1.5, 3.0], dtype=torch.bfloat16, device="mps")
    out = floats(16)
    run(
        """
        template <typename T> T pick(const device T* p, uint i, uint n) { return i < n ? p[i] : T(0); }
        kernel void f(device float* out, const device bfloat* x) {
          half h = half(x[0]);      out[0] = h;
          bfloat b = static_cast<bfloat>(h * 2.0h);  out[1] = b;
          b += x[1];  b *= 2;       out[2] = b;
          float sum = 1; sum += x[0]; out[3] = sum;
          out[4] = pick(x, 1, 2);   out[5] = pick(x, 2, 2);
          out[6] = b ? 1 : 2;       out[7] = int(x[0]) + !b;
          bfloat zero = 0;          out[8] = out[0] > 1 ? x[1] : zero;
          out[9] = x[0] * 2 == b;   out[10] = x[0] < 2.0f && x[1] > 2;
          bfloat4 v = bfloat4(1, 2, 3, 4); v = v * 2 + bfloat4(x[0]);  out[11] = float4(v).w;
          out[12] = x[0] + 0.25f;   out[13] = out[0] > 0 ? x[0] : 0;
          out[0] += x[0];           b = 7; out[14] = b / 2 - 1;
          out[15] = simd_sum(float(x[1]));
        }
        """,
        out,
        x,
        threads=1,
        group_size=1,
    )
    assert out.tolist() == [3, 3, 12, 2.5, 3, 0, 1, 1, 3, 0, 1, 9.5, 1.75, 1.5, 2.5, 3]


def test_bfloat_converts_to_float_in_functions():
    assert one_thread(
        "bfloat b = 2; float e = exp(b); out[0] = e; out[1] = max(b, 3.0f); out[2] = bfloat(sqrt(b)); out[3] = 1.5bf;",
        4,
    ) == [torch.tensor(2.0).exp().item(), 3, torch.tensor(2.0).sqrt().bfloat16().item(), 1.5]


@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("sqrt", torch.sqrt),
        ("rsqrt", torch.rsqrt),
        ("exp", torch.exp),
        ("exp2", torch.exp2),
        ("log", torch.log),
        ("log2", torch.log2),
        ("log10", torch.log10),
        ("sin", torch.sin),
        ("cos", torch.cos),
        ("tan", torch.tan),
        ("tanh", torch.tanh),
        ("atan", torch.atan),
        ("asinh", torch.asinh),
        ("floor", torch.floor),
        ("ceil", torch.ceil),
        ("rint", torch.round),
        ("trunc", torch.trunc),
        ("fract", torch.frac),
        ("abs", torch.abs),
        ("precise::exp", torch.exp),
        ("fast::sin", torch.sin),
    ],
)
def test_math(name, reference):
    x = torch.linspace(0.1, 9.7, 61)
    y = x.clone().to("mps")
    run(f"kernel void f(device float* x, uint i [[thread_position_in_grid]]) {{ x[i] = {name}(x[i]); }}", y)
    torch.testing.assert_close(y.cpu(), reference(x), rtol=1e-6, atol=1e-6)


def test_functions_of_several_arguments():
    assert one_thread(
        """
        out[0] = pow(2.0f, 10.0f);   out[1] = fma(2.0f, 3.0f, 4.0f);   out[2] = clamp(9.0f, 0.0f, 5.0f);
        out[3] = mix(1.0f, 3.0f, 0.25f);  out[4] = atan2(1.0f, -1.0f); out[5] = fmod(-7.5f, 2.0f);
        out[6] = copysign(3.0f, -0.0f);   out[7] = step(2.0f, 1.0f);   out[8] = smoothstep(0.0f, 2.0f, 1.0f);
        float c; out[9] = sincos(1.0f, c); out[10] = c;
        out[11] = sign(-3.0f) + saturate(7.0f);  out[12] = ldexp(1.5f, 3); out[13] = min(3, 4) + max(7u, 2u);
        out[14] = length(float2(3, 4)) + distance(float2(0), float2(0, 2)); out[15] = normalize(float3(0, 2, 0)).y;
        """
    ) == pytest.approx(
        [1024, 10, 5, 1.5, 3 * math.pi / 4, -1.5, -3, 0, 0.5, math.sin(1), math.cos(1), 0, 12, 10, 7, 1], rel=1e-6
    )


def test_nan_and_infinity_are_kept():
    assert one_thread(
        "float n = NAN, i = INFINITY; out[0] = isnan(n) + 2 * isinf(i) + 4 * (n == n) + 8 * isfinite(i);"
        " out[1] = max(n, 1.0f); out[2] = i - i == 0; out[3] = 1.0f / (-1.0f / i) ;",
        4,
    ) == [3, 1, 0, -math.inf]


def test_integers():
    assert one_thread(
        """
        out[0] = -7 / 2;  out[1] = -7 % 2;  out[2] = popcount(0xf0f0u);  out[3] = clz(1u);  out[4] = ctz(8);
        out[5] = reverse_bits(1u) == 0x80000000u;  out[6] = mulhi(0x80000000u, 4u);  out[7] = rotate(0x80000001u, 1u);
        out[8] = absdiff(3u, 10u);  out[9] = addsat(2147483647, 5) == 2147483647;  out[10] = subsat(3u, 5u);
        out[11] = extract_bits(0xabcdu, 4, 8);  out[12] = insert_bits(0u, 0xffu, 8, 4);  out[13] = hadd(7, 4);
        out[14] = uchar(300);  out[15] = int(long(1) << 40 >> 38);
        """,
        dtype=torch.int32,
    ) == [-3, -1, 8, 31, 3, 1, 2, 3, 7, 1, 0, 0xBC, 0xF00, 5, 44, 4]


def test_numeric_limits_and_traits():
    assert one_thread(
        """
        out[0] = numeric_limits<float>::max() == FLT_MAX;  out[1] = numeric_limits<half>::max();
        out[2] = numeric_limits<int>::min() == INT_MIN;    out[3] = is_same_v<vec<float, 4>, float4>;
        out[4] = is_floating_point_v<bfloat> + is_integral_v<half>;  out[5] = numeric_limits<bfloat>::epsilon();
        out[6] = is_same<conditional_t<true, int, float>, int>::value;
        out[7] = isinf(numeric_limits<half>::infinity());
        """,
        8,
    ) == [1, 65504, 1, 1, 1, 0.0078125, 1, 1]


def test_matrices_and_packed_vectors():
    x = torch.arange(12.0, device="mps")
    run(
        """
        kernel void f(device packed_float3* x) {
          float3 v = x[1];
          float3x3 m = float3x3(2);
          m[1] = float3(0, 2, 1);
          x[0] = packed_float3(m * v);
          x[2] = x[1] * 2.0f + v;
          x[3] = packed_float3(transpose(m) * v);
          x[3].z += float2x2(1)[0].x;
        }
        """,
        x,
        threads=1,
        group_size=1,
    )
    assert x.tolist() == [6, 8, 14, 3, 4, 5, 9, 12, 15, 6, 13, 11]


def test_overloads_and_templates_on_address_spaces():
    x = floats(4)
    run(
        """
        float g(const device float* p) { return 1 + p[0]; }
        float g(const constant float* p) { return 2 + p[0]; }
        float g(const threadgroup float* p) { return 3 + p[0]; }
        float g(const thread float* p) { return 4 + p[0]; }
        template <typename T> struct which;
        template <typename T> struct which<device T*> { static constant constexpr const int value = 10; };
        template <typename T> struct which<constant T*> { static constant constexpr const int value = 20; };
        template <typename T> struct which<threadgroup T*> { static constant constexpr const int value = 30; };
        template <typename P> int kind(P) { return which<P>::value; }
        constant float one = 1;
        struct pair {
          float a, b;
          float sum() const thread { return a + b; }
          float sum() const device { return a + b; }
        };
        float total(constant float values[2]) { return values[0] + values[1]; }
        kernel void f(device float* x, constant float* c) {
          threadgroup float t;
          t = 0;
          float l = 0;
          x[0] = g(&t) * 10 + g(&l);
          x[1] = g(c) * 10 + g(&one);
          x[2] = kind(x) + kind(&t) + kind(c);
          pair p = {1, 2};
          x[3] = p.sum() + total(c);
        }
        """,
        x,
        [5.0, 6.0],
        threads=1,
        group_size=1,
    )
    assert x.tolist() == [34, 73, 60, 14]


def test_structs_are_copied_between_address_spaces():
    x = floats(8)
    run(
        """
        struct Base {
          float a[2];
          float sum() const thread { return a[0] + a[1]; }
          float sum() const device { return a[0] + a[1]; }
        };
        struct Derived : Base { int n; bfloat b; Derived() = default; Derived(int n_) : n(n_) {} };
        float total(Base base) { return base.sum(); }
        template <typename T> T load(const device T* p) { return *p; }
        Derived choose(const device Derived* d, threadgroup Derived* t, int i) {
          if (i > 1) return *d;
          if (i > 0) return *t;
          return Derived(9);
        }
        kernel void f(device float* x [[buffer(0)]]) {
          device Derived* d = (device Derived*)(x + 4);
          threadgroup Derived t;
          Derived local(5);
          local.a[0] = 1; local.a[1] = 2; local.b = 3;
          *d = local;
          t = *d;
          t.a[1] *= 10;
          auto copy = t;
          thread auto& r = copy;
          r.n += load(&d->n);
          x[0] = total(*d) + total(t) + d->sum() + r.sum();
          x[1] = r.n;
          x[2] = choose(d, &t, 1).a[1] + choose(d, &t, 2).a[1] + choose(d, &t, 0).n;
          x[3] = t.b;
        }
        """,
        x,
        threads=1,
    )
    assert x[:4].tolist() == [3 + 21 + 3 + 21, 10, 20 + 2 + 9, 3]


def test_instantiations_by_both_spellings():
    library = torch.mps.compile_shader(
        HEADER
        + """
        template <typename T, int N>
        [[kernel, max_total_threads_per_threadgroup(N * 32)]] void scale(
            device T* x [[buffer(0)]], uint i [[thread_position_in_grid]]) { x[i] = x[i] * N; }
        #define INSTANTIATE(name, ...) \\
          template [[host_name(name)]] [[kernel]] decltype(scale<__VA_ARGS__>) scale<__VA_ARGS__>;
        INSTANTIATE("scale_" "float", float, 2)
        template [[host_name("scale_int")]] kernel void scale<int, 3>(device int* x, uint i);
        namespace inner { kernel void plain(device int* x) { x[0] = 7; } }
        """
    )
    assert {"plain", "scale_float", "scale_int"} <= set(dir(library))
    assert library.scale_float.max_threads_per_threadgroup == 64 and library.scale_int.max_threads_per_threadgroup == 96
    x, y = torch.ones(3, device="mps"), torch.ones(3, dtype=torch.int32, device="mps")
    library.scale_float(x)
    library.scale_int(y)
    assert x.tolist() == [2, 2, 2] and y.tolist() == [3, 3, 3]
    library.plain(y, threads=1)
    assert y.tolist() == [7, 3, 3]


def test_maxima_of_threads_in_every_spelling():
    library = torch.mps.compile_shader(
        HEADER
        + """
        enum Threads { kSimdgroup = 32, kThreads = 4 * kSimdgroup };
        constant constexpr uint kSimdgroups = 5;
        [[kernel, max_total_threads_per_threadgroup(128)]] void inside(device int* x) { x[0] = 0; }
        [[max_total_threads_per_threadgroup(160)]] kernel void before(device int* x) { x[0] = 0; }
        kernel [[max_total_threads_per_threadgroup(192)]] void behind(device int* x) { x[0] = 0; }
        [[max_total_threads_per_threadgroup(kThreads)]] [[kernel]] void enumerator(device int* x) { x[0] = 0; }
        [[kernel, max_total_threads_per_threadgroup(kSimdgroups * 32)]] void expression(device int* x) { x[0] = 0; }
        template <typename T, uint Rows, uint Columns>
        [[max_total_threads_per_threadgroup(Rows * Columns * kSimdgroup)]] kernel void tiled(device T* x) { x[0] = 0; }
        template [[host_name("tiled_2_3")]] kernel decltype(tiled<int, 2, 3>) tiled<int, 2, 3>;
        template [[host_name("tiled_2_4")]] [[kernel]] void tiled<float, 2, 4>(device float* x);
        """
    )
    maxima = {name: getattr(library, name).max_threads_per_threadgroup for name in dir(library) if name[0] != "_"}
    assert maxima == {
        "inside": 128, "before": 160, "behind": 192, "enumerator": 128, "expression": 160,
        "tiled_2_3": 192, "tiled_2_4": 256,
    }  # fmt: skip


def test_buffers_without_an_index_take_the_free_ones():
    x, y, z = ints(1), ints(1), ints(1)
    run(
        "kernel void f(device int* a, device int* b [[buffer(0)]], device int* c) { a[0] = 1; b[0] = 2; c[0] = 3; }",
        x,
        y,
        z,
        threads=1,
    )
    assert [x.item(), y.item(), z.item()] == [2, 1, 3]


def test_function_constants_without_values():
    assert one_thread(
        "out[0] = is_function_constant_defined(c) ? c : 5; out[1] = derived;",
        2,
        before="constant int c [[function_constant(3)]];\n"
        "constant bool has = is_function_constant_defined(c);\nconstant float derived = has ? 1.5 : 2.5;",
    ) == [5, 2.5]


def test_atomics():
    counts, sums = ints(8), floats(1)
    run(
        """
        kernel void f(device atomic_int* c, device atomic<float>* s, uint i [[thread_position_in_grid]],
                      uint t [[thread_index_in_threadgroup]]) {
          threadgroup atomic_uint local;
          if (t == 0) atomic_store_explicit(&local, 0u, memory_order_relaxed);
          threadgroup_barrier(mem_flags::mem_threadgroup);
          atomic_fetch_add_explicit(&local, 2u, memory_order_relaxed);
          threadgroup_barrier(mem_flags::mem_threadgroup);
          if (t == 0) atomic_fetch_add_explicit(&c[0], int(atomic_load_explicit(&local, memory_order_relaxed)),
                                                memory_order_relaxed);
          atomic_fetch_max_explicit(&c[1], int(i), memory_order_relaxed);
          atomic_fetch_or_explicit(&c[2], 1 << (i % 5), memory_order_relaxed);
          atomic_fetch_sub_explicit(c + 3, 1, memory_order_relaxed);
          atomic_fetch_add_explicit(s, 0.5f, memory_order_relaxed);
          int old = atomic_load_explicit(c + 4, memory_order_relaxed);
          while (!atomic_compare_exchange_weak_explicit(c + 4, &old, old + 3, memory_order_relaxed,
                                                        memory_order_relaxed)) {
          }
        }
        """,
        counts,
        sums,
        threads=1000,
        group_size=100,
    )
    assert counts.tolist() == [2000, 999, 31, -1000, 3000, 0, 0, 0] and sums.item() == 500


def test_headers_of_torch_compile():
    source = "".join(
        f"#include <c10/metal/{name}.h>\n"
        for name in ("utils", "atomic", "random", "reduction_utils", "special_math", "indexing")
    )
    source += """
        using namespace metal;
        kernel void f(device float* x, uint i [[thread_position_in_grid]]) {
          x[i] = c10::metal::erf(x[i]) + c10::metal::log_gamma(3.0f) + c10::metal::i0(0.0f);
        }
        kernel void total(device float* x, device float* out, uint i [[thread_position_in_threadgroup]],
                          uint n [[threads_per_threadgroup]]) {
          threadgroup float partial[32];
          out[i] = c10::metal::threadgroup_sum(partial, x[i], i, n);
        }
        kernel void half_sums(device atomic_uint* sums) { c10::metal::AtomicType<half>::atomic_add(sums, 1, 0.5h); }
    """
    library = torch.mps.compile_shader(source)
    x = torch.linspace(-2, 2, 100, device="mps")
    y = x.clone()
    library.f(y)
    torch.testing.assert_close(y.cpu(), torch.erf(x.cpu()) + math.log(2) + 1, rtol=1e-5, atol=1e-6)
    out = floats(100)
    library.total(x, out, threads=100, group_size=100)
    torch.testing.assert_close(out.cpu(), x.cpu().sum().expand(100), rtol=1e-5, atol=1e-5)
    sums = torch.zeros(2, dtype=torch.float16, device="mps")
    library.half_sums(sums, threads=10, group_size=5)
    assert sums.tolist() == [0, 5]
