"""The second reading of Metal sources: which rules of Apple's compiler it sees, and that it refuses nothing else."""

from __future__ import annotations

import re

import msl_rules
import pytest

from mps_simulator.msl import second

# What it does not see, of the rules of msl_rules: a kernel's signature and attributes, where a kernel is for it a
# function; and parts of the library that it declares with less care than Apple. The first reading is there for these.
BEYOND = set(
    """
    ks01 ks02 ks03 ks04 ks05 ks06 ks08 ks09 ks10 ks11 ks12 ks13 ks14 ks15 ks16 ks19 ks20 ks21 ks22 ks23 ks25 ks27 ks29
    ks33 ks34 ks36 s07 s39 s60 la29 as49 tg04 tg05 cv20 cv39 cv45 cv49 bi01 bi04 bi18 s31
    """.split()  # noqa: SIM905
)
SETTLED = [rule for rule in msl_rules.RULES if rule.settled]
HEADER = "#include <metal_stdlib>\nusing namespace metal;\n"  # the shaders below begin in line 3


@pytest.mark.parametrize("rule", SETTLED, ids=lambda rule: rule.id)
def test_rule(rule):
    for source, version, accepted in rule.cases():
        said = second.read(source, version, {})
        if accepted or rule.id in BEYOND:
            assert not said, f"refused in version {version}:\n{source}{said}"
        else:
            assert said, f"accepted in version {version}:\n{source}"


def test_what_is_beyond_it_are_rules():
    assert {rule.id for rule in SETTLED if rule.refused} >= BEYOND


def read(text: str, version: int = 310, **macros: str) -> list[tuple[int, int, str]]:
    return [(d.line, d.column, d.message) for d in second.read(HEADER + text, version, macros)]


REFUSED = {
    "in a macro's use": (
        "#define COPY(to, from) thread float* to = from\nvoid f(device float* x) { COPY(y, x); }",
        (4, 32, "cannot initialize a variable of type 'thread float *' with an lvalue of type 'device float *'"),
    ),
    "in an instantiation": (
        "template <typename T> void f(device T* x) {\n  threadgroup T* y = x;\n}\n"
        "template void f<float>(device float*);",
        (4, 18, "cannot initialize a variable of type 'threadgroup float *' with an lvalue of type 'device float *'"),
    ),
    "in a constructor's initial values": (
        "struct S {\n  thread float* p;\n  explicit S(device float* x) : p{x} {}\n};",
        (
            5,
            35,
            "cannot initialize a member subobject of type 'thread float *' with an lvalue of type 'device float *'",
        ),
    ),
    "two spaces": (
        "void f(thread threadgroup const float* const* x) {}",
        (3, 15, "multiple address spaces specified for type"),
    ),
    "a member of a device struct": (
        "struct S {\n  int x;\n  int get() const { return x; }\n};\nint f(device S* s) { return s->get(); }",
        (7, 29, "cannot initialize object parameter of type 'const thread S' with an expression of type 'device S'"),
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_place_and_words(case):
    text, expected = REFUSED[case]
    assert expected in read(text)


def test_words_are_metals():
    words = [
        d.message for rule in SETTLED for s, v, accepted in rule.cases() if not accepted for d in second.read(s, v, {})
    ]
    assert not [w for w in words if re.search("OpenCL|__private|__global|__local|__constant|__generic|__bf16", w)]


ACCEPTED = {
    "structs out of constant": """
        struct Axis { int size; float2 step; };
        struct Params { Axis axes[3]; bool flat; };
        template <typename T> struct Pair { T first, second; };
        class Held { public: int x = 0; Held(int y) : x(y) {} };
        float f(constant Params& p, device Params* d, threadgroup Params* t, constant Pair<Axis>* pairs,
                constant Held& h) {
          Params copy = p;
          copy = p;
          *d = p;
          *t = *d;
          const Axis axis = p.axes[1];
          Pair<Axis> pair = pairs[0];
          pair = {axis, p.axes[0]};
          Held held = h;
          held = h;
          return axis.size + copy.axes[0].step.x + pair.first.size + held.x;
        }""",
    "vectors of several address spaces in one expression": """
        float4 f(bool c, constant float4* a, device float4* b, threadgroup float4* t) {
          float4 x = c ? *a : *b;
          x += c ? x : *t;
          float2 y = c ? (*a).xy : c ? b->zw : t->xx;
          b->xyz = (c ? *b : x).xyz;
          return (c ? *a : 2 * *t) * y.xyxy + a[1] * *b;
        }""",
    "temporaries for references to constants": """
        float twice(const thread float& x) { return 2 * x; }
        float first(const thread float2& v, int i) { return v[i]; }
        float f(device float* x) {
          const thread float& one = 1.0f;
          return twice(x[0] + one) + first(float2(x[1]), 0);
        }""",
    "kernels of every form": """
        constant bool flag [[function_constant(0)]];
        constant int count [[function_constant(1)]];
        constant int n = is_function_constant_defined(count) ? 3 : 4;
        template <typename T, int N>
        [[kernel, max_total_threads_per_threadgroup(64)]] void f(
            device T* x [[buffer(0)]], constant T& y [[buffer(1), function_constant(flag)]],
            threadgroup T* t [[threadgroup(0)]], uint i [[thread_position_in_grid]]) {
          threadgroup T a[N], b;
          threadgroup float2 c[N][2];
          if (flag) { a[0] = y; b = a[0]; c[1][1].x = 1; }
          threadgroup_barrier(mem_flags::mem_threadgroup);
          threadgroup T* p = a;
          x[i] = p[0] + b + t[0];
        }
        template [[host_name("f_float")]] [[kernel]] void f<float, 4>(
            device float* x [[buffer(0)]], constant float& y [[buffer(1), function_constant(flag)]],
            threadgroup float* t [[threadgroup(0)]], uint i [[thread_position_in_grid]]);
        template [[host_name("f_half")]] [[kernel]] decltype(f<half, 8>) f<half, 8>;
        kernel void g(device float* x, uint i [[thread_position_in_grid]]) { x[i] = 1.0h + 0x1p2f + 2.0; }""",
    "bfloat": """
        void f(device bfloat* x, constant bfloat* c, threadgroup bfloat4* v, bool b) {
          x[0] = b ? c[0] : bfloat(0);
          x[1] = x[0] * x[1] + 1.0bf;
          float y = x[0] * 2.0f + v->x;
          *v = bfloat4(float4(y));
        }""",
    "words that only OpenCL has": """
        int f(int global, int local, int pipe, int generic) { return global + local + pipe + generic; }""",
    "structs with constructors": """
        struct S {
          float x;
          explicit S(float y) : x{y} {}
          template <typename T, typename = enable_if_t<(sizeof(T) > 4)>> constexpr S(T y) thread : x(y) {}
          template <typename T, enable_if_t<sizeof(T) < 8, bool> = true> T scaled(T y) const;
          S next();
          static S made(float y);
        };
        S S::next() { return S(x + 1); }
        S S::made(float y) { return S(y); }
        template <typename T, enable_if_t<sizeof(T) < 8, bool>> T S::scaled(T y) const { return y * x; }
        void f(device S* s) { S t = S::made(1).next(); *s = t; t = S(2); s->x = t.scaled(3.0f); }""",
    "references to pointers": """
        void advance(device const float*& x, threadgroup int*& y) { ++x; ++y; }
        void f(device float* x, threadgroup int* y) { device const float* p = x; advance(p, y); }""",
}


@pytest.mark.parametrize("version", [310, 410])
@pytest.mark.parametrize("case", ACCEPTED)
def test_accepts(case, version):
    assert read(ACCEPTED[case], version) == []


MEMBERS = """
void twice(thread float& x) { x *= 2; }
struct S {
  float x;
  METAL_FUNC explicit S(float y) { x = y; twice(x); }
  METAL_FUNC void unannotated() { twice(x); }
  METAL_FUNC void annotated() thread { twice(x); }
  static void of_none(thread S& s) { twice(s.x); }
  S operator()(int) const noexcept { return *this; }
};
void f(device S& s) { s(1); }
"""


def test_this_is_a_threads_until_it_is_generic():
    assert [d[0] for d in read(MEMBERS, 400)] == [13]
    assert [d[0] for d in read(MEMBERS, 410)] == [7, 8]
