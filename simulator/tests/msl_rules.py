"""What Apple's shader compiler accepts and refuses, as pairs of short shaders.

Each rule has an example that is refused, one that is accepted, or both side by side. The sources are written for this
table; `evidence` says how the rule is known: by the place where somebody published what Apple's compiler said, by
Apple's specification of the language ("specification"), or from clang, which Apple's compiler is made of ("clang").
Rules whose answer is not known are listed with `settled=False`, and nobody is judged by them.

`python simulator/tests/msl_rules.py` counts where the simulator agrees.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

VERSIONS = (300, 310, 320, 400, 410)
UNTIL_4_0 = (300, 310, 320, 400)  # pointers, references and `this` are generic from 4.1 on
BEFORE_3_2 = (300, 310)

HEADER = "#include <metal_stdlib>\nusing namespace metal;\n"


@dataclass(frozen=True)
class Rule:
    """In `versions` of the language (values of __METAL_VERSION__) `refused` is refused and `accepted` accepted.

    From version `later` on `refused` is accepted too. `words` are a part of what Apple's compiler says, where that is
    known.
    """

    id: str
    refused: str = ""
    accepted: str = ""
    words: str = ""
    evidence: str = "clang"
    versions: tuple[int, ...] = VERSIONS
    later: int = 0
    settled: bool = True
    header: str = HEADER

    def cases(self) -> Iterable[tuple[str, int, bool]]:
        """Whole sources, each with a version and whether Apple's compiler accepts it there."""
        version = 310 if 310 in self.versions else self.versions[0]
        if self.refused:
            yield self.header + self.refused + "\n", version, False
            if self.later:
                yield self.header + self.refused + "\n", self.later, True
        if self.accepted:
            yield self.header + self.accepted + "\n", version, True


# What a compiler says of a source in a version of the language; empty if it accepts it.
Compiler = Callable[[str, int], str]


def disagreements(rule: Rule, compiler: Compiler) -> list[tuple[str, str]]:
    """Where this compiler does not agree: "lenient" or "too strict", each with the source and what was said of it."""
    found = []
    for source, version, accepted in rule.cases():
        said = compiler(source, version)
        if bool(said) == accepted:
            found.append(("too strict" if said else "lenient", f"Metal {version / 100}\n{source}{said}"))
    return found


def body(statements: str, before: str = "") -> str:
    """A kernel with these statements, after what stands `before` it at program scope."""
    return (
        f"{before}\nkernel void example(device float* a [[buffer(0)]], device int* n [[buffer(1)]], "
        "constant float* c [[buffer(2)]],\n                    threadgroup float* t [[threadgroup(0)]], "
        f"uint i [[thread_position_in_grid]]) {{\n  {statements}\n}}"
    )


def kernel(parameters: str, statements: str = "") -> str:
    return f"kernel void example({parameters}) {{\n  {statements}\n}}"


APPLE_ARTICLE = "Apple, writing reusable GPU functions with generic pointers"
APPLE_HEADERS = "Apple's headers"
KS = "kagurasumusun/llvm-project, what Apple's compiler says"
MSLC = "cristim/mslc, probes"
SPECIFICATION = "specification"
COMMON = "code that is in use"
MLX = "MLX's kernels"

POINTER = "pointer type must have explicit address space qualifier"
REFERENCE = "reference type must have explicit address space qualifier"
NARROWED = "narrowed"
SAME_ELEMENTS = (
    "expecting input declarations with either all scalar types or all vector types with the same number of elements"
)
COUNTER = "struct Counter {\n  int x;\n  int get() const { return x; }\n};"

ADDRESS_SPACES = [
    Rule(
        "as01",
        body("a[0] = twice(&a[1]);", "float twice(const float* p) { return 2 * *p; }"),
        body("a[0] = twice(&a[1]);", "float twice(const device float* p) { return 2 * *p; }"),
        POINTER,
        "slang #4129, tvm #20101, hashcat #3681",
        versions=UNTIL_4_0,
        later=410,
    ),
    Rule(
        "as02",
        body("float x[2] = {a[0], a[1]};\n  float* p = x;\n  a[0] = p[1];"),
        body("float x[2] = {a[0], a[1]};\n  thread float* p = x;\n  a[0] = p[1];"),
        POINTER,
        "slang #4129, tilelang #2767",
        versions=UNTIL_4_0,
        later=410,
    ),
    Rule(
        "as03",
        body("float x = a[0];\n  twice(x);\n  a[0] = x;", "void twice(float& r) { r *= 2; }"),
        body("float x = a[0];\n  twice(x);\n  a[0] = x;", "void twice(thread float& r) { r *= 2; }"),
        REFERENCE,
        KS,
        versions=UNTIL_4_0,
        later=410,
    ),
    Rule(
        "as04",
        body("float x = a[0];\n  View v;\n  v.p = &x;\n  a[0] = *v.p;", "struct View {\n  float* p;\n};"),
        body("float x = a[0];\n  View v;\n  v.p = &x;\n  a[0] = *v.p;", "struct View {\n  thread float* p;\n};"),
        POINTER,
        APPLE_ARTICLE,
        versions=UNTIL_4_0,
        later=410,
    ),
    Rule(
        "as05",
        body("float x = a[0];\n  a[0] = *same(&x);", "float* same(thread float* p) { return p; }"),
        body("float x = a[0];\n  a[0] = *same(&x);", "thread float* same(thread float* p) { return p; }"),
        POINTER,
        versions=UNTIL_4_0,
        later=410,
    ),
    Rule(
        "as06",
        body("float x = a[0];\n  a[0] = get(&x);", "template <typename T> float get(T* p) { return *p; }"),
        settled=False,
    ),
    Rule(
        "as07",
        body("float x = a[0];\n  Place p = &x;\n  a[0] = *p;", "using Place = float*;"),
        body("float x = a[0];\n  Place p = &x;\n  a[0] = *p;", "using Place = thread float*;"),
        POINTER,
        versions=UNTIL_4_0,
        later=410,
    ),
    Rule(
        "as08",
        body("float x = a[0];\n  const auto& r = x;\n  a[0] = r + 1;"),
        body("float x = a[0];\n  const thread auto& r = x;\n  a[0] = r + 1;"),
        REFERENCE,
        versions=UNTIL_4_0,
        later=410,
    ),
    Rule("as09", accepted=body("device auto& r = a[i];\n  r = 1;"), evidence="SPIRV-Cross #2294"),
    Rule(
        "as10",
        body(
            "threadgroup const float* p[2] = {t, t + 1};\n  a[0] = first(p);",
            "float first(thread threadgroup const float* const* p) { return **p; }",
        ),
        body(
            "threadgroup const float* p[2] = {t, t + 1};\n  a[0] = first(p);",
            "float first(threadgroup const float* const thread* p) { return **p; }",
        ),
        "multiple address spaces specified for type",
        "clang, tilelang #2770",
    ),
    Rule(
        "as11",
        body("thread device float* p = a;\n  a[0] = p[1];"),
        body("device float* thread p = a;\n  a[0] = p[1];"),
        "multiple address spaces specified for type",
    ),
    Rule(
        "as12",
        accepted=body(
            "threadgroup const float* p = t;\n  a[0] = first(&p);",
            "float first(threadgroup const float* const thread* p) { return **p; }",
        ),
        evidence="SPIRV-Cross, reference shaders; slang's output",
    ),
    Rule(
        "as13",
        body("int x = 0;\n  device int* p = (device int*)&x;\n  n[0] = *p;"),
        body("device int* p = (device int*)a;\n  n[0] = *p;"),
        evidence=KS,
    ),
    Rule(
        "as14",
        body("int x = 0;\n  device int* p = reinterpret_cast<device int*>(&x);\n  n[0] = *p;"),
        body("device int* p = reinterpret_cast<device int*>(a);\n  n[0] = *p;"),
        evidence=KS,
    ),
    Rule("as15", body("device float* p = t;\n  p[0] = 1;"), body("threadgroup float* p = t;\n  p[0] = 1;")),
    Rule("as16", body("constant float* p = a;\n  a[1] = p[0];"), body("constant float* p = c;\n  a[1] = p[0];")),
    Rule(
        "as17",
        body("twice(a[0]);", "void twice(thread float& r) { r *= 2; }"),
        body("twice(a[0]);", "void twice(device float& r) { r *= 2; }"),
        evidence="SPIRV-Cross #643",
    ),
    Rule(
        "as18",
        body("a[0] = twice(c[0]);", "float twice(const thread float& r) { return 2 * r; }"),
        body("a[0] = twice(c[0]);", "float twice(constant float& r) { return 2 * r; }"),
        evidence="SPIRV-Cross #643",
    ),
    Rule(
        "as19",
        body("a[0] = twice(c[0]);", "float twice(constant float v) { return 2 * v; }"),
        body("a[0] = twice(c[0]);", "float twice(float v) { return 2 * v; }"),
        evidence=KS,
    ),
    Rule("as20", body("constant float x = 1;\n  a[0] = x;"), body("const float x = 1;\n  a[0] = x;"), evidence=MSLC),
    Rule(
        "as21", body("device float x;\n  x = 1;\n  a[0] = x;"), body("float x;\n  x = 1;\n  a[0] = x;"), evidence=MSLC
    ),
    Rule("as22", body("static float x = 1;\n  a[0] = x;"), body("float x = 1;\n  a[0] = x;"), evidence=f"{KS}; {MSLC}"),
    Rule(
        "as23",
        body("static constexpr int x = 1;\n  n[0] = x;"),
        body("constexpr int x = 1;\n  n[0] = x;"),
        evidence=MSLC,
    ),
    Rule("as24", accepted=body("constexpr int x = 4;\n  float y[x] = {};\n  a[0] = y[i];"), evidence="AliceO2 #15802"),
    Rule(
        "as25",
        body("a[0] = x;", "float x = 1;"),
        body("a[0] = x;", "constant float x = 1;"),
        "program scope variable must reside in constant address space",
        KS,
    ),
    Rule(
        "as26",
        body("n[0] = x;", "constexpr int x = 2;"),
        body("n[0] = x;", "constexpr constant int x = 2;"),
        "program scope variable must reside in constant address space",
        "AliceO2 #15802, AdaptiveCpp #864",
    ),
    Rule(
        "as27",
        body("a[0] = x;", "constant float x;"),
        body("a[0] = x;", "constant float x = 3;"),
        evidence="mlx #14",
    ),
    Rule(
        "as28",
        body("n[0] = x;", "const int x = 2;"),
        body("n[0] = x;", "constant const int x = 2;"),
        "program scope variable must reside in constant address space",
        KS,
    ),
    Rule(
        "as29",
        body("t[0] = x[0];", "threadgroup float x[4];"),
        body("threadgroup float x[4];\n  x[0] = t[0];"),
        evidence="slang #4045",
    ),
    Rule("as30", body("a[0] = x;", "thread float x = 1;"), body("thread float x = 1;\n  a[0] = x;"), evidence=KS),
    Rule(
        "as31",
        body("n[0] = Size::x;", "struct Size {\n  static constexpr int x = 2;\n};"),
        body("n[0] = Size::x;", "struct Size {\n  static constexpr constant int x = 2;\n};"),
    ),
    Rule(
        "as32",
        accepted=body(
            "n[0] = Size<3>::x;", "template <int k> struct Size {\n  static constant constexpr int x = k;\n};"
        ),
        evidence=MLX,
    ),
    Rule(
        "as33",
        "kernel void example(constant float& x) {\n  x = 1;\n}",
        "kernel void example(device float& x) {\n  x = 1;\n}",
        evidence=MSLC,
    ),
    Rule(
        "as34",
        COUNTER + "\nkernel void example(device Counter* s, device int* n) {\n  n[0] = s->get();\n}",
        COUNTER
        + "\nkernel void example(device Counter* s, device int* n) {\n  Counter x = s[0];\n  n[0] = x.get();\n}",
        evidence=f"SPIRV-Cross #832; {APPLE_ARTICLE}",
        versions=UNTIL_4_0,
        later=410,
    ),
    Rule(
        "as35",
        COUNTER + "\nkernel void example(threadgroup Counter& s, device int* n) {\n  n[0] = s.get();\n}",
        COUNTER
        + "\nkernel void example(threadgroup Counter& s, device int* n) {\n  Counter x = s;\n  n[0] = x.get();\n}",
        evidence=f"SPIRV-Cross #832; {APPLE_ARTICLE}",
        versions=UNTIL_4_0,
        later=410,
    ),
    Rule(
        "as36",
        COUNTER + "\nkernel void example(constant Counter& s, device int* n) {\n  n[0] = s.get();\n}",
        COUNTER + "\nkernel void example(constant Counter& s, device int* n) {\n  Counter x = s;\n  n[0] = x.get();\n}",
        evidence="ogre-next #323",
    ),
    Rule(
        "as37",
        accepted="struct Counter {\n  int x;\n  int get() const device { return x; }\n};\n"
        "kernel void example(device Counter* s, device int* n) {\n  n[0] = s->get();\n}",
        evidence=f"{APPLE_HEADERS}; {APPLE_ARTICLE}",
    ),
    Rule(
        "as38",
        accepted="struct Counter {\n  int x;\n  int get() const thread { return x; }\n"
        "  int get() const constant { return x; }\n};\n"
        "kernel void example(constant Counter& s, device int* n) {\n  Counter y = s;\n  n[0] = s.get() + y.get();\n}",
        evidence=APPLE_HEADERS,
    ),
    Rule("as39", accepted=body("float x = 2;\n  a[0] = i > 3 ? x : c[0];")),
    Rule(
        "as40",
        accepted="struct Pair {\n  float x, y;\n};\nkernel void example(constant Pair& s, device Pair* p) {\n"
        "  Pair local = s;\n  local.x = 2;\n  p[0] = local;\n  p[1] = s;\n}",
        evidence="clpeak #169; naga's output",
    ),
    Rule("as41", body("a[0] = *(i > 3 ? a : t);"), body("a[0] = *(i > 3 ? a : a + 1);")),
    Rule(
        "as42",
        body("float x[2] = {};\n  clear(x);\n  a[0] = x[1];", "void clear(float (&r)[2]) { r[1] = 1; }"),
        body("float x[2] = {};\n  clear(x);\n  a[0] = x[1];", "void clear(thread float (&r)[2]) { r[1] = 1; }"),
        REFERENCE,
        KS,
        versions=UNTIL_4_0,
        later=410,
    ),
    Rule(
        "as43",
        accepted=body(
            "float x[2] = {};\n  clear(x);\n  a[0] = x[1];", "void clear(thread float (&r)[2]) { r[1] = 1; }"
        ),
        evidence="SPIRV-Cross, reference shaders",
    ),
    Rule(
        "as44",
        body("a[0] = y;", "float next(float x) { return x + 1; }\nconstant float y = next(2);"),
        settled=False,
    ),
    Rule(
        "as45",
        body('const char* s = "ab";\n  n[0] = s[0];'),
        body("const thread int* s = (thread int*)&i;\n  n[0] = s[0];"),
        evidence="clang, slang #4129",
    ),
    Rule(
        "as47",
        accepted=body(
            "device const float* p = a;\n  step(p);\n  a[0] = *p;",
            "template <typename T> void step(const device T*& p) {\n  ++p;\n}",
        ),
        evidence="MLX, quantized.h",
    ),
    Rule(
        "as48",
        body(
            "Total s;\n  s.k = a[0];\n  s.grow();\n  a[0] = s.k;",
            "void twice(thread float& x) { x *= 2; }\nstruct Total {\n  float k;\n  void grow() { twice(k); }\n};",
        ),
        body(
            "Total s;\n  s.k = a[0];\n  s.grow();\n  a[0] = s.k;",
            "void twice(thread float& x) { x *= 2; }\nstruct Total {\n  float k;\n"
            "  void grow() thread { twice(k); }\n};",
        ),
        evidence="mlx #3963, executorch #22981",
        versions=(410,),
    ),
    Rule(
        "as49",
        body(
            "Pair s;\n  a[0] = s.one.k;",
            "struct One {\n  float k;\n  One() thread { k = 1; }\n};\nstruct Pair {\n  One one;\n  Pair() {}\n};",
        ),
        body(
            "Pair s;\n  a[0] = s.one.k;",
            "struct One {\n  float k;\n  One() thread { k = 1; }\n};\nstruct Pair {\n  One one;\n"
            "  Pair() thread {}\n};",
        ),
        evidence="executorch #22981",
        versions=(410,),
    ),
    Rule(
        "as50",
        accepted=body(
            "Total s;\n  s.k = a[0];\n  s.grow();\n  a[0] = s.k;",
            "void twice(thread float& x) { x *= 2; }\nstruct Total {\n  float k;\n  void grow() { twice(k); }\n};",
        ),
        evidence="mlx #3963",
        versions=UNTIL_4_0,
    ),
    Rule("as46", accepted=body('constant const char* s = "ab";\n  n[0] = s[0];'), settled=False),
]

NO_CONSTRUCTOR = "constructor"

THREADGROUP_VARIABLES = [
    Rule(
        "tg01",
        body("share(a);", "void share(device float* a) {\n  threadgroup float x[4];\n  x[0] = a[0];\n}"),
        body("threadgroup float x[4];\n  x[0] = a[0];"),
        evidence="vertex-language/vcx",
    ),
    Rule("tg02", accepted=body("if (i < 4) {\n    threadgroup float x[4];\n    x[i] = a[i];\n  }"), settled=False),
    Rule(
        "tg03",
        body("threadgroup float x = 1;\n  a[0] = x;"),
        body("threadgroup float x;\n  x = 1;\n  a[0] = x;"),
        evidence="Vulkan-Portability #33, slang #4838",
    ),
    Rule(
        "tg04",
        body("threadgroup half4x4 x[4];\n  x[0][0][0] = a[0];"),
        body("threadgroup half4 x[16];\n  x[0][0] = a[0];"),
        NO_CONSTRUCTOR,
        "llama.cpp #26646, LocalAI #11624",
    ),
    Rule(
        "tg05",
        body("threadgroup Frame x;\n  x.m[0][0] = a[0];", "struct Frame {\n  float3x2 m;\n};"),
        body("threadgroup Frame x;\n  x.m[0][0] = a[0];", "struct Frame {\n  float2 m[3];\n};"),
        NO_CONSTRUCTOR,
        "SPIRV-Cross #1770",
    ),
    Rule(
        "tg06",
        body("threadgroup Sum x;\n  x.s = a[0];", "struct Sum {\n  float s;\n  Sum() { s = 0; }\n};"),
        body("threadgroup Sum x;\n  x.s = a[0];", "struct Sum {\n  float s;\n};"),
        NO_CONSTRUCTOR,
        "clang, SPIRV-Cross #1770",
    ),
    Rule(
        "tg07",
        body("threadgroup Sum x;\n  x.s = a[0];", "struct Sum {\n  float s = 0;\n};"),
        body("threadgroup Sum x;\n  x.s = a[0];", "struct Sum {\n  float s;\n};"),
        NO_CONSTRUCTOR,
        "clang, SPIRV-Cross #1770",
    ),
    Rule(
        "tg08",
        body("threadgroup simdgroup_float8x8 x;\n  simdgroup_load(x, a, 8);"),
        body("simdgroup_float8x8 x;\n  simdgroup_load(x, a, 8);"),
        NO_CONSTRUCTOR,
        "clang, SPIRV-Cross #1770",
        header=HEADER + "#include <metal_simdgroup_matrix>\n",
    ),
    Rule(
        "tg09",
        accepted=body(
            "threadgroup Pair x[2];\n  x[i] = Pair{a[0], n[0]};\n  a[0] = x[0].v;",
            "struct Pair {\n  float v;\n  int k;\n};",
        ),
        evidence="SPIRV-Cross #1647",
    ),
    Rule(
        "tg10",
        accepted="template <typename T, int k>\n"
        "kernel void example(device T* a, uint i [[thread_index_in_threadgroup]]) {\n"
        "  threadgroup T x[2 * k];\n  x[i] = a[i];\n}\n"
        'template [[host_name("f")]] kernel void example<float, 8>(device float*, uint);',
        evidence="MLX, llama.cpp",
    ),
]

SIGNATURES = [
    Rule(
        "ks01",
        "kernel int example(device int* n) {\n  return n[0];\n}",
        kernel("device int* n", "n[0] = 1;"),
        evidence=KS,
    ),
    Rule(
        "ks02",
        kernel("device int* n, int k", "n[0] = k;"),
        kernel("device int* n, constant int& k", "n[0] = k;"),
        "invalid type 'int' for input declaration in a kernel function",
        KS,
    ),
    Rule(
        "ks03",
        kernel("device int* n, int3 i [[thread_position_in_grid]]", "n[0] = i.x;"),
        kernel("device int* n, uint3 i [[thread_position_in_grid]]", "n[0] = i.x;"),
        evidence="slang #4288",
    ),
    Rule(
        "ks04",
        kernel("device int* n, ulong i [[thread_position_in_grid]]", "n[0] = i;"),
        kernel("device int* n, ushort i [[thread_position_in_grid]]", "n[0] = i;"),
    ),
    Rule(
        "ks05",
        kernel(
            "device int* n, uint3 g [[threadgroup_position_in_grid]], uint k [[thread_position_in_threadgroup]]",
            "n[k] = g.x;",
        ),
        kernel(
            "device int* n, uint3 g [[threadgroup_position_in_grid]], uint k [[thread_index_in_threadgroup]]",
            "n[k] = g.x;",
        ),
        SAME_ELEMENTS,
        "triton-msl #10",
    ),
    Rule(
        "ks06",
        kernel(
            "device int* n, uint2 i [[thread_position_in_grid]], uint3 s [[threads_per_threadgroup]]", "n[i.x] = s.x;"
        ),
        kernel(
            "device int* n, uint2 i [[thread_position_in_grid]], uint2 s [[threads_per_threadgroup]]", "n[i.x] = s.x;"
        ),
        SAME_ELEMENTS,
        "triton-msl #10",
    ),
    Rule(
        "ks07",
        accepted=kernel(
            "device int* n, ushort3 i [[thread_position_in_threadgroup]], uint3 g [[threadgroup_position_in_grid]]",
            "n[i.x] = g.x;",
        ),
        settled=False,
    ),
    Rule(
        "ks08",
        kernel("device int* n, uint2 k [[thread_index_in_simdgroup]]", "n[0] = k.x;"),
        kernel("device int* n, uint k [[thread_index_in_simdgroup]]", "n[0] = k;"),
        evidence="vertex-language/vcx",
    ),
    Rule(
        "ks09",
        kernel("device int* n, uint w [[thread_execution_width]], uint s [[threads_per_simdgroup]]", "n[0] = w + s;"),
        kernel("device int* n, uint s [[threads_per_simdgroup]]", "n[0] = s;"),
        "kernel function cannot have input declarations with 'thread_execution_width' and 'threads_per_simdgroup' "
        "attributes",
        "larsgeb/m1-gpu-cpp #4",
    ),
    Rule(
        "ks10",
        kernel("device int* n [[buffer(0)]], device int* m [[buffer(0)]]", "n[0] = m[0];"),
        kernel("device int* n [[buffer(0)]], device int* m [[buffer(1)]]", "n[0] = m[0];"),
        "cannot reserve 'buffer' resource location at index 0",
        KS,
    ),
    Rule(
        "ks11",
        kernel("device int* n [[buffer(31)]]", "n[0] = 1;"),
        kernel("device int* n [[buffer(30)]]", "n[0] = 1;"),
        "'buffer' attribute parameter is out of bounds: must be between 0 and 30",
        KS,
    ),
    Rule(
        "ks12",
        kernel("device int* n [[buffer(-1)]]", "n[0] = 1;"),
        kernel("device int* n [[buffer(2 - 1)]]", "n[0] = 1;"),
        "'buffer' attribute parameter is out of bounds: must be between 0 and 30",
        KS,
    ),
    Rule(
        "ks13",
        kernel("device int* n [[buffer]]", "n[0] = 1;"),
        kernel("device int* n [[buffer(0)]]", "n[0] = 1;"),
        "'buffer' attribute takes one argument",
        KS,
    ),
    Rule(
        "ks14",
        kernel("device uint* n, uint k [[buffer(1)]]", "n[0] = k;"),
        kernel("device uint* n, constant uint& k [[buffer(1)]]", "n[0] = k;"),
        "type 'uint' is not valid for attribute 'buffer'",
        KS,
    ),
    Rule(
        "ks15",
        kernel("threadgroup float* t [[buffer(0)]]", "t[0] = 1;"),
        kernel("threadgroup float* t [[threadgroup(0)]]", "t[0] = 1;"),
        "invalid address space qualification for buffer pointee type",
        KS,
    ),
    Rule(
        "ks16",
        kernel("thread float* a [[buffer(0)]]", "a[0] = 1;"),
        kernel("device float* a [[buffer(0)]]", "a[0] = 1;"),
        "invalid address space qualification for buffer pointee type",
        KS,
    ),
    Rule(
        "ks17",
        accepted=kernel("device float* a, threadgroup float* t", "a[0] = t[0];"),
        evidence="naga's output; wgpu #9465",
    ),
    Rule(
        "ks18",
        kernel("device float** a, device float* b", "b[0] = a[0][0];"),
        kernel("device float* a, device float* b", "b[0] = a[0];"),
        POINTER,
        "slang #4129, tvm #20101",
    ),
    Rule(
        "ks19",
        kernel("device float* device* a, device float* b", "b[0] = a[0][0];"),
        "struct Table {\n  device float* row;\n};\n"
        + kernel("device Table* a, device float* b", "b[0] = a[0].row[0];"),
        evidence="slang #11970",
    ),
    Rule(
        "ks20",
        kernel("device int* n, constant uint& i [[thread_position_in_grid]]", "n[0] = i;"),
        kernel("device int* n, uint i [[thread_position_in_grid]]", "n[0] = i;"),
        evidence=KS,
    ),
    Rule(
        "ks21",
        kernel("device int* n, uint i [[vertex_id]]", "n[0] = i;"),
        kernel("device int* n, uint i [[thread_position_in_grid]]", "n[0] = i;"),
        evidence=KS,
    ),
    Rule(
        "ks22",
        kernel("device int* n [[bufer(0)]]", "n[0] = 1;"),
        kernel("device int* n [[buffer(0)]]", "n[0] = 1;"),
    ),
    Rule(
        "ks23",
        "struct Holder {\n  kernel void example(device int* n) {\n    n[0] = 1;\n  }\n};",
        kernel("device int* n", "n[0] = 1;"),
        "kernel function cannot be a member function",
        KS,
    ),
    Rule(
        "ks24",
        kernel("device int* n, ...", "n[0] = 1;"),
        kernel("device int* n", "n[0] = 1;"),
        "invalid prototype, variadic arguments are not allowed in Metal qualified functions",
        KS,
    ),
    Rule(
        "ks25",
        kernel("device int* n", "n[0] = 1;") + "\nkernel void other(device int* n) {\n  example(n);\n}",
        "void one(device int* n) {\n  n[0] = 1;\n}\n" + kernel("device int* n", "one(n);"),
        evidence=SPECIFICATION,
    ),
    Rule(
        "ks26",
        body("main(n);", "void main(device int* n) {\n  n[0] = 1;\n}"),
        body("one(n);", "void one(device int* n) {\n  n[0] = 1;\n}"),
        "function cannot be called 'main'",
        f"MoltenVK; {MSLC}",
    ),
    Rule(
        "ks27",
        kernel("threadgroup int* t [[threadgroup(31)]]", "t[0] = 1;"),
        kernel("threadgroup int* t [[threadgroup(30)]]", "t[0] = 1;"),
        "'threadgroup' attribute parameter is out of bounds: must be between 0 and 30",
        KS,
    ),
    Rule(
        "ks28",
        accepted=kernel("device bool* b, constant long* n, constant bool& k", "b[0] = k && n[0] > 0;"),
        evidence="PyTorch's kernels",
    ),
    Rule(
        "ks29",
        body("a[0] = k.x;", "struct Pair {\n  int x, y;\n};\nconstant Pair k [[function_constant(0)]];"),
        body("a[0] = k.x;", "constant int2 k [[function_constant(0)]];"),
        evidence=SPECIFICATION,
    ),
    Rule(
        "ks30",
        body("n[0] = k;", "constant int k [[function_constant(0)]] = 2;"),
        body("n[0] = k;", "constant int k [[function_constant(0)]];"),
        evidence=SPECIFICATION,
    ),
    Rule(
        "ks31",
        body("float x[k];\n  x[0] = a[0];\n  a[1] = x[i];", "constant int k [[function_constant(0)]];"),
        body("float x[k];\n  x[0] = a[0];\n  a[1] = x[i];", "constant int k = 4;"),
        "variable length arrays are not supported in Metal",
        "llama.cpp #12612",
    ),
    Rule(
        "ks32",
        body(
            "n[0] = Plus<k>().x;",
            "template <int m> struct Plus {\n  int x = m;\n};\nconstant int k [[function_constant(0)]];",
        ),
        body("n[0] = Plus<k>().x;", "template <int m> struct Plus {\n  int x = m;\n};\nconstant int k = 4;"),
        "non-type template argument is not a constant expression",
        "SPIRV-Cross #2511",
    ),
    Rule(
        "ks33",
        body("n[0] = k + l;", "constant int k [[function_constant(0)]];\nconstant float l [[function_constant(0)]];"),
        body("n[0] = k + l;", "constant int k [[function_constant(0)]];\nconstant float l [[function_constant(1)]];"),
    ),
    Rule(
        "ks34",
        body("n[0] = k;", "constant int k [[function_constant(65536)]];"),
        body("n[0] = k;", "constant int k [[function_constant(65535)]];"),
        evidence=SPECIFICATION,
    ),
    Rule(
        "ks35",
        accepted="template <typename T>\n[[kernel]] void example(device T* a) {\n  a[0] = T(1);\n}\n"
        'template [[host_name("of_float")]] [[kernel]] void example<float>(device float*);\n'
        'template [[host_name("of_int")]] [[kernel]] decltype(example<int>) example<int>;',
        evidence=MLX,
    ),
    Rule(
        "ks36",
        "template <typename T> kernel void example(device T* a) {\n  a[0] = T(1);\n}\n"
        'template [[host_name("f")]] kernel void example<float>(device float*);\n'
        'template [[host_name("f")]] kernel void example<int>(device int*);',
        "template <typename T> kernel void example(device T* a) {\n  a[0] = T(1);\n}\n"
        'template [[host_name("f")]] kernel void example<float>(device float*);\n'
        'template [[host_name("g")]] kernel void example<int>(device int*);',
    ),
]

LANGUAGE = [
    Rule(
        "la01",
        body("goto done;\n  n[0] = 1;\ndone:\n  n[1] = 2;"),
        body("n[0] = 1;\n  n[1] = 2;"),
        "goto",
        f"mcc; {KS}",
    ),
    Rule(
        "la02",
        body("again:\n  n[0] = 1;"),
        body(
            "switch (i) {\n    case 0:\n      n[0] = 1;\n      break;\n    default:\n      n[1] = i > 0 ? 2 : 3;\n  }"
        ),
        "labeled statements are not supported in Metal",
        KS,
    ),
    Rule("la03", body('asm("nop");\n  n[0] = 1;'), body("n[0] = 1;"), evidence=f"{KS}; Draw Things"),
    Rule("la04", body("register int x = 1;\n  n[0] = x;"), body("int x = 1;\n  n[0] = x;"), "register", KS),
    Rule("la05", body("if (i > 3) throw 1;\n  n[0] = 1;"), body("if (i > 3) return;\n  n[0] = 1;"), evidence=KS),
    Rule("la06", body("try {\n    n[0] = 1;\n  } catch (...) {\n  }"), body("{\n    n[0] = 1;\n  }"), evidence=KS),
    Rule("la07", body("thread int* p = new int(1);\n  n[0] = *p;"), body("int p = int(1);\n  n[0] = p;"), "'new'", KS),
    Rule(
        "la08",
        body("n[0] = One().get();", "struct One {\n  virtual int get() { return 1; }\n};"),
        body("n[0] = One().get();", "struct One {\n  int get() { return 1; }\n};"),
        "virtual",
        KS,
    ),
    Rule(
        "la09",
        body("int x = 1;\n  n[0] = typeid(x) == typeid(i);"),
        body("int x = 1;\n  n[0] = is_same<decltype(x), uint>::value;"),
        evidence=KS,
    ),
    Rule("la10", body("thread_local int x = 1;\n  n[0] = x;"), body("thread int x = 1;\n  n[0] = x;"), evidence=KS),
    Rule(
        "la11",
        body("int k = n[0];\n  float x[k];\n  x[0] = 1;\n  a[0] = x[0];"),
        body("const int k = 3;\n  float x[k];\n  x[0] = 1;\n  a[0] = x[0];"),
        "variable length arrays are not supported in Metal",
        "llama.cpp #12612",
    ),
    Rule("la12", body("float x[0];\n  a[0] = sizeof(x);"), body("float x[1];\n  a[0] = sizeof(x);"), "zero", KS),
    Rule(
        "la13",
        body("double x = 1;\n  a[0] = x;"),
        body("float x = 1;\n  a[0] = x;"),
        "'double' is not supported in Metal",
        COMMON,
    ),
    Rule(
        "la14",
        body("long long x = 1;\n  n[0] = x;"),
        body("long x = 1;\n  n[0] = x;"),
        "'long long' is not supported in Metal",
        KS,
    ),
    Rule("la15", body("long double x = 1;\n  a[0] = x;"), body("float x = 1;\n  a[0] = x;"), evidence=SPECIFICATION),
    Rule("la16", body("n[0] = 1ull > i;"), settled=False),
    Rule("la17", body("n[0] = first(1, 2);", "int first(int x, ...) { return x; }"), settled=False),
    Rule(
        "la18",
        body("auto twice = [](int x) { return 2 * x; };\n  n[0] = twice(3);"),
        body("n[0] = 6;"),
        "lambda expressions are not supported in Metal",
        KS,
        versions=BEFORE_3_2,
        later=320,
    ),
    Rule(
        "la19",
        accepted=body(
            "n[0] = size<int>();",
            "template <typename T> int size() {\n  if constexpr (sizeof(T) > 4) {\n    return 8;\n  }\n  return 4;\n}",
        ),
        evidence=f"kagurasumusun/metal; {MLX}",
    ),
    Rule(
        "la20",
        accepted=body("Pair p{1, 2};\n  auto [x, y] = p;\n  n[0] = x + y;", "struct Pair {\n  int x, y;\n};"),
        evidence="kagurasumusun/metal",
    ),
    Rule(
        "la21",
        accepted=body("n[0] = sum(1, 2, 3);", "template <typename... T> int sum(T... x) { return (x + ...); }"),
        evidence="kagurasumusun/metal",
    ),
    Rule(
        "la22",
        body("n[0] = small<int>;", "template <typename T> concept small = sizeof(T) < 8;"),
        body("n[0] = small<int>;", "template <typename T> constant constexpr bool small = sizeof(T) < 8;"),
        evidence="kagurasumusun/metal",
    ),
    Rule(
        "la23",
        "#include <vector>\n" + body("n[0] = 1;"),
        "#include <metal_math>\n" + body("n[0] = 1;"),
        "file not found",
        "mlx",
    ),
    Rule("la24", body("a[0] = std::sqrt(a[1]);"), body("a[0] = metal::sqrt(a[1]);"), "'std'"),
    Rule(
        "la25", accepted=body("n[0] = sum(3);", "int sum(int k) { return k < 1 ? 0 : k + sum(k - 1); }"), settled=False
    ),
    Rule(
        "la26",
        accepted=body("Bits b;\n  b.f = a[0];\n  n[0] = b.k;", "union Bits {\n  float f;\n  int k;\n};"),
        evidence=MLX,
    ),
    Rule(
        "la27",
        accepted=body(
            "Two x;\n  x.k = 1;\n  n[0] = x.k;", "struct One {\n  int k;\n};\nstruct Two : One {\n  int l;\n};"
        ),
        evidence=MLX,
    ),
    Rule(
        "la28",
        accepted=body("n[0] = One().get();", "struct One {\n  constexpr int get() const noexcept { return 1; }\n};"),
        evidence=MLX,
    ),
    Rule(
        "la29",
        body("sampler s;\n  s.k = 1;\n  n[0] = s.k;", "struct sampler {\n  int k;\n};"),
        body("Sampler s;\n  s.k = 1;\n  n[0] = s.k;", "struct Sampler {\n  int k;\n};"),
        "reference to 'sampler' is ambiguous",
    ),
    Rule(
        "la30",
        body("assert(n);", "void assert(device int* n) {\n  n[0] = 1;\n}"),
        body("ensure(n);", "void ensure(device int* n) {\n  n[0] = 1;\n}"),
        evidence="wgpu #5347",
    ),
    Rule(
        "la31",
        body("float2 v = a[0];\n  thread float* p = &v.x;\n  a[1] = *p;"),
        body("float2 v = a[0];\n  thread float2* p = &v;\n  a[1] = p->x;"),
        evidence="gpuweb/WSL #231",
    ),
    Rule(
        "la32",
        body("float2 v = a[0];\n  clear(v.y);\n  a[1] = v.y;", "void clear(thread float& r) { r = 0; }"),
        body("float2 v = a[0];\n  clear(v);\n  a[1] = v.y;", "void clear(thread float2& r) { r.y = 0; }"),
        "non-const reference cannot bind to vector element",
    ),
    Rule(
        "la33",
        body("float x = a[0], y = a[1];\n  a[0] = x % y;"),
        body("a[0] = fmod(a[1], a[2]);"),
        "invalid operands to binary expression ('float' and 'float')",
        MSLC,
    ),
    Rule(
        "la34", body("n[0] = a[1] & 1;"), body("n[0] = int(a[1]) & 1;"), "invalid operands to binary expression", MSLC
    ),
    Rule(
        "la35",
        body("switch (a[0]) {\n    case 0:\n      n[0] = 1;\n  }"),
        body("switch (int(a[0])) {\n    case 0:\n      n[0] = 1;\n  }"),
    ),
    Rule(
        "la36",
        body("switch (i) {\n    case 1:\n      n[0] = 1;\n    case 1:\n      n[1] = 1;\n  }"),
        body("switch (i) {\n    case 1:\n      n[0] = 1;\n    case 2:\n      n[1] = 1;\n  }"),
        "duplicate case value",
        KS,
    ),
    Rule(
        "la37",
        body("const int x = 1;\n  x = 2;\n  n[0] = x;"),
        body("int x = 1;\n  x = 2;\n  n[0] = x;"),
        "cannot assign to variable 'x' with const-qualified type",
        MSLC,
    ),
    Rule(
        "la38",
        body(
            "a[0] = first(a);",
            "struct Pair {\n  float x;\n};\nfloat first(device float* a) {\n  Pair p{a[0]};\n  return p;\n}",
        ),
        body(
            "a[0] = first(a);",
            "struct Pair {\n  float x;\n};\nfloat first(device float* a) {\n  Pair p{a[0]};\n  return p.x;\n}",
        ),
    ),
    Rule("la39", body('printf("%d", n[0]);'), body("n[0] = 1;")),
    Rule(
        "la40",
        "struct {\n  int x;\n};\n" + body("n[0] = 1;"),
        body("Two s;\n  s.x = 1;\n  n[0] = s.x;", "struct Two {\n  struct {\n    int x;\n  };\n};"),
        evidence=KS,
    ),
    Rule(
        "la41",
        accepted=body("int (*f)(int) = twice;\n  n[0] = f(2);", "int twice(int x) { return 2 * x; }"),
        evidence=KS,
    ),
    Rule(
        "la42",
        body("unsigned half x = 1;\n  a[0] = x;"),
        body("half x = 1;\n  a[0] = x;"),
        evidence=MSLC,
    ),
]

MAX_AMBIGUOUS = "call to 'max' is ambiguous"

CONVERSIONS = [
    Rule("cv01", body("n[0] = max(n[1], i);"), body("n[0] = max(n[1], int(i));"), MAX_AMBIGUOUS),
    Rule(
        "cv02",
        body("size_t k = i;\n  n[0] = min(k, n[1]);"),
        body("size_t k = i;\n  n[0] = min(int(k), n[1]);"),
        "call to 'min' is ambiguous",
    ),
    Rule(
        "cv03",
        body("n[0] = max(-2147483648, n[1]);"),
        body("n[0] = max(int(-2147483648), n[1]);"),
        MAX_AMBIGUOUS,
        "tinygrad #5838",
    ),
    Rule(
        "cv04",
        body("a[0] = clamp(a[1], -1, 1);"),
        body("a[0] = clamp(a[1], -1.0f, 1.0f);"),
        "call to 'clamp' is ambiguous",
        "halley #79",
    ),
    Rule("cv05", body("a[0] = max(a[1], 1);"), body("a[0] = max(a[1], 1.0f);"), MAX_AMBIGUOUS),
    Rule("cv06", body("half h = a[0];\n  a[0] = min(h, a[1]);"), body("half h = a[0];\n  a[0] = min(float(h), a[1]);")),
    Rule("cv07", accepted=body("a[0] = pow(a[1], 2);")),
    Rule("cv08", body("n[0] = clamp(n[1], i, 3);"), body("n[0] = clamp(n[1], int(i), 3);")),
    Rule("cv09", body("ushort x = i;\n  n[0] = max(x, 1);"), body("ushort x = i;\n  n[0] = max(x, ushort(1));")),
    Rule("cv10", body("long x = n[0];\n  n[0] = max(x, n[1]);"), body("long x = n[0];\n  n[0] = max(x, long(n[1]));")),
    Rule("cv11", accepted=body("n[0] = select(n[1], n[2], n[3]);")),
    Rule(
        "cv12",
        body("const bfloat x = a[0];\n  a[1] = x;"),
        body("const bfloat x = bfloat(a[0]);\n  a[1] = x;"),
        "",  # "cannot initialize a variable of type 'const bfloat' with an rvalue of type 'float'"
        "cubecl #1522",
        (310, 320, 400, 410),
    ),
    Rule(
        "cv13",
        kernel("device bfloat* b, device float* a", "bfloat x = b[0];\n  x = a[0];\n  b[1] = x;"),
        kernel("device bfloat* b, device float* a", "bfloat x = b[0];\n  x = bfloat(a[0]);\n  b[1] = x;"),
        "",  # "assigning to 'bfloat16_t' (aka 'bfloat') from incompatible type 'float'"
        "mlx-lm #814",
        (310, 320, 400, 410),
    ),
    Rule(
        "cv14",
        accepted=kernel("device bfloat* b, device float* a", "float x = b[0];\n  a[0] = x;"),
        evidence=MLX,
        versions=(310, 320, 400, 410),
    ),
    Rule(
        "cv15",
        kernel("device bfloat* b, uint i [[thread_position_in_grid]]", "b[0] = i > 2 ? b[1] : -INFINITY;"),
        kernel("device bfloat* b, uint i [[thread_position_in_grid]]", "b[0] = i > 2 ? b[1] : bfloat(-INFINITY);"),
        "",
        "mlx-lm #814, outlines-core #228",
        (310, 320, 400, 410),
    ),
    Rule(
        "cv16",
        body("float4 v = a[0];\n  float3 w = v;\n  a[1] = w.x;"),
        body("float4 v = a[0];\n  float3 w = v.xyz;\n  a[1] = w.x;"),
        evidence=KS,
    ),
    Rule(
        "cv17",
        body("int2 v = n[0];\n  float2 w = v;\n  a[1] = w.x;"),
        body("int2 v = n[0];\n  float2 w = float2(v);\n  a[1] = w.x;"),
    ),
    Rule(
        "cv18",
        body("float4 v = a[0];\n  half4 w = v;\n  a[1] = w.x;"),
        body("float4 v = a[0];\n  half4 w = half4(v);\n  a[1] = w.x;"),
    ),
    Rule(
        "cv19",
        body("float4 v = a[0];\n  int4 w = n[0];\n  a[1] = (v + w).x;"),
        body("float4 v = a[0];\n  int4 w = n[0];\n  a[1] = (v + float4(w)).x;"),
        evidence=MSLC,
    ),
    Rule(
        "cv20",
        body("int4 w = n[0];\n  n[1] = (w * a[0]).x;"),
        body("int4 w = n[0];\n  n[1] = (w * n[2]).x;"),
        evidence=MSLC,
    ),
    Rule("cv21", accepted=body("half4 h = half(a[0]);\n  half4 k = h * 2.0f;\n  a[1] = k.x;")),
    Rule(
        "cv22",
        body("bool4 b = i > 2;\n  float4 v = b;\n  a[0] = v.x;"),
        body("bool4 b = i > 2;\n  float4 v = float4(b);\n  a[0] = v.x;"),
    ),
    Rule("cv23", body("float4 v = a[0];\n  if (v > 0) a[1] = 1;"), body("float4 v = a[0];\n  if (v.x > 0) a[1] = 1;")),
    Rule("cv24", accepted=body("float4 v = a[0];\n  if (all(v > 0)) a[1] = 1;"), evidence=COMMON),
    Rule(
        "cv25",
        body("float4 v = float4(1, 2, 3);\n  a[0] = v.x;"),
        body("float4 v = float4(1, 2, 3, 4);\n  a[0] = v.x;"),
    ),
    Rule("cv26", body("float2 v = float2(1, 2, 3);\n  a[0] = v.x;"), body("float2 v = float2(1, 2);\n  a[0] = v.x;")),
    Rule(
        "cv27",
        body("int x[2] = {n[0], a[0]};\n  n[1] = x[i];"),
        body("int x[2] = {n[0], int(a[0])};\n  n[1] = x[i];"),
        "cannot be narrowed to 'int' in initializer list",
        "cubecl #1163",
    ),
    Rule(
        "cv28",
        body("One x{i};\n  n[1] = x.k;", "struct One {\n  int k;\n};"),
        body("One x{int(i)};\n  n[1] = x.k;", "struct One {\n  int k;\n};"),
        NARROWED,
        MSLC,
    ),
    Rule("cv29", body("int x{1.0f};\n  n[0] = x;"), body("int x{1};\n  n[0] = x;"), NARROWED, MSLC),
    Rule("cv30", body("float x{16777217};\n  a[0] = x;"), body("float x{16777216};\n  a[0] = x;"), NARROWED, MSLC),
    Rule("cv31", body("int x{a[0]};\n  n[0] = x;"), body("int x{int(a[0])};\n  n[0] = x;"), NARROWED, MSLC),
    Rule("cv32", body("half x{70000.0f};\n  a[0] = x;"), body("half x{7.0f};\n  a[0] = x;"), NARROWED, MSLC),
    Rule(
        "cv33",
        body("n[0] = as_type<uint>(4294967296);"),
        body("n[0] = as_type<uint>(1.0f);"),
        "",
        "slangpy #201",
    ),
    Rule(
        "cv34",
        body("float2 v = as_type<float2>(a[0]);\n  a[1] = v.x;"),
        body("half2 v = as_type<half2>(a[0]);\n  a[1] = v.x;"),
        evidence=KS,
    ),
    Rule(
        "cv35",
        body("One x{n[0]};\n  a[0] = as_type<float>(x);", "struct One {\n  int k;\n};"),
        body("One x{n[0]};\n  a[0] = as_type<float>(x.k);", "struct One {\n  int k;\n};"),
        "is not allowed",
        f"{KS}; mlx #2729",
    ),
    Rule(
        "cv36",
        body("half x[2] = {1, 2};\n  a[0] = as_type<float>(x);"),
        body("half2 x = {1, 2};\n  a[0] = as_type<float>(x);"),
    ),
    Rule("cv37", body("char x = 1;\n  n[0] = as_type<bool>(x);"), settled=False),
    Rule(
        "cv38",
        kernel("device packed_float3* p", "p[0].x = 1;"),
        settled=False,
    ),
    Rule(
        "cv39",
        kernel("device packed_float3* p", "p[0].xy = float2(1, 2);"),
        kernel("device float3* p", "p[0].xy = float2(1, 2);"),
        evidence=f"SPIRV-Cross #581; {KS}",
    ),
    Rule("cv40", accepted=kernel("device packed_float3* p", "p[0][1] = p[1][2];"), evidence=COMMON),
    Rule(
        "cv41",
        body("float2 v = a[0];\n  v.xx = float2(1, 2);\n  a[0] = v.x;"),
        body("float2 v = a[0];\n  v.yx = float2(1, 2);\n  a[0] = v.x;"),
    ),
    Rule(
        "cv42",
        body("float4 v = a[0];\n  a[1] = v.xg.x;"),
        body("float4 v = a[0];\n  a[1] = v.rg.x;"),
        evidence=SPECIFICATION,
    ),
    Rule("cv43", body("float2 v = a[0];\n  a[1] = v.z;"), body("float3 v = a[0];\n  a[1] = v.z;")),
    Rule(
        "cv44",
        body("float4x4 m(a[0]);\n  m *= m;\n  a[1] = m[0][0];"),
        body("float4x4 m(a[0]);\n  m = m * m;\n  a[1] = m[0][0];"),
        "no viable overloaded '*='",
        MSLC,
    ),
    Rule(
        "cv45",
        body("float4x4 m(a[0]);\n  m = m * 2;\n  a[1] = m[0][0];"),
        body("float4x4 m(a[0]);\n  m = m * 2.0f;\n  a[1] = m[0][0];"),
        "",
        MSLC,
    ),
    Rule(
        "cv46",
        body("a[0] = m[0][0];", "constexpr constant float4x4 m(1.0f);"),
        body("float4x4 m(1.0f);\n  a[0] = m[0][0];"),
        "must be initialized by a constant expression",
        "naga #703",
    ),
    Rule(
        "cv47",
        body("char4 v = char(n[0]);\n  n[1] = dot(v, v);"),
        body("half4 v = half(n[0]);\n  n[1] = dot(v, v);"),
        "dot",
        "notes on the M1",
    ),
    Rule(
        "cv48",
        body("float4 v = a[0];\n  bool b = v == v;\n  n[0] = b;"),
        body("float4 v = a[0];\n  bool4 b = v == v;\n  n[0] = b.x;"),
    ),
    Rule(
        "cv49", body("float4 v = a[0];\n  a[1] = v[a[2]];"), body("float4 v = a[0];\n  a[1] = v[n[2]];"), "", "mslc #54"
    ),
    Rule("cv50", body("float4 v = a[0];\n  bool4 b = !v;\n  n[0] = b.x;"), settled=False),
]

ATOMICS = "device atomic_uint* k, device atomic_float* f, device uint* u"

BUILT_INS = [
    Rule(
        "bi01",
        "kernel void example(threadgroup atomic_float* t [[threadgroup(0)]]) {\n"
        "  atomic_fetch_add_explicit(t, 1.0f, memory_order_relaxed);\n}",
        kernel(ATOMICS, "atomic_fetch_add_explicit(f, 1.0f, memory_order_relaxed);"),
        evidence="Atomix.jl #59, SPIRV-Cross #2611",
    ),
    Rule(
        "bi02",
        kernel(ATOMICS, "atomic_fetch_add_explicit(k, 1u, memory_order_seq_cst);"),
        kernel(ATOMICS, "atomic_fetch_add_explicit(k, 1u, memory_order_relaxed);"),
        "memory_order_seq_cst",
        "futhark, rts/metal",
        UNTIL_4_0,
    ),
    Rule(
        "bi03",
        kernel(ATOMICS, "atomic_fetch_add_explicit(u, 1u, memory_order_relaxed);"),
        kernel(ATOMICS, "atomic_fetch_add_explicit((device atomic_uint*)u, 1u, memory_order_relaxed);"),
        "no matching function for call to 'atomic_fetch_add_explicit'",
    ),
    Rule(
        "bi04",
        kernel("device atomic<ulong>* k", "atomic_fetch_add_explicit(k, 1ul, memory_order_relaxed);"),
        kernel("device atomic<uint>* k", "atomic_fetch_add_explicit(k, 1u, memory_order_relaxed);"),
        evidence=SPECIFICATION,
    ),
    Rule(
        "bi05",
        kernel(ATOMICS, "k[0] = 1;"),
        kernel(ATOMICS, "atomic_store_explicit(k, 1u, memory_order_relaxed);"),
    ),
    Rule(
        "bi06",
        body("simdgroup_matrix<int, 8, 8> m;\n  simdgroup_load(m, n, 8);"),
        body("simdgroup_matrix<float, 8, 8> m;\n  simdgroup_load(m, a, 8);"),
        evidence="clpeak #169",
        header=HEADER + "#include <metal_simdgroup_matrix>\n",
    ),
    Rule(
        "bi07",
        body("simdgroup_matrix<float, 16, 16> m;\n  simdgroup_load(m, a, 8);"),
        body("simdgroup_matrix<float, 8, 8> m;\n  simdgroup_load(m, a, 8);"),
        evidence=SPECIFICATION,
        header=HEADER + "#include <metal_simdgroup_matrix>\n",
    ),
    Rule(
        "bi08",
        body("simdgroup_half8x8 m;\n  simdgroup_load(m, t, 8);"),
        body("simdgroup_float8x8 m;\n  simdgroup_load(m, t, 8);"),
        header=HEADER + "#include <metal_simdgroup_matrix>\n",
    ),
    Rule(
        "bi09",
        body("One x{n[0]};\n  n[1] = simd_shuffle_xor(x, 1).k;", "struct One {\n  int k;\n};"),
        body("One x{n[0]};\n  n[1] = simd_shuffle_xor(x.k, 1);", "struct One {\n  int k;\n};"),
    ),
    Rule(
        "bi10",
        accepted=body("half h = a[0];\n  float4 v = a[1];\n  a[0] = simd_sum(h) + simd_sum(v).x;"),
        evidence=COMMON,
    ),
    Rule("bi11", body("long x = n[0];\n  n[0] = simd_sum(x);"), body("int x = n[0];\n  n[0] = simd_sum(x);")),
    Rule("bi12", body("threadgroup_barrier();"), body("threadgroup_barrier(mem_flags::mem_none);")),
    Rule("bi13", accepted=body("a[0] = fma(a[1], a[2], 1);")),
    Rule("bi14", body("a[0] = sin(n[0]);"), body("a[0] = sin(float(n[0]));")),
    Rule("bi15", body("__syncthreads();"), body("threadgroup_barrier(mem_flags::mem_threadgroup);")),
    Rule("bi16", body("a[0] = fabsf(a[1]);"), body("a[0] = fabs(a[1]);")),
    Rule(
        "bi17",
        accepted=body("half h = 1.0h;\n  float x = 1.0f;\n  bfloat b = 1.0bf;\n  a[0] = h + x + b;"),
        evidence=SPECIFICATION,
        versions=(310, 320, 400, 410),
    ),
    Rule("bi18", body("a[0] = 1.0l;"), body("a[0] = 1.0f;")),
    Rule(
        "bi19",
        accepted=body('static_assert(is_same<decltype(1.0), float>::value, "float");\n  a[0] = max(a[1], 1.0);'),
        evidence=f"vertex-language/vcx; {MLX}",
    ),
    Rule(
        "bi20",
        accepted=body('static_assert(sizeof(long) == 8 && alignof(float3) == 16 && sizeof(bool) == 1, "sizes");'),
        evidence=SPECIFICATION,
    ),
    Rule(
        "bi21",
        accepted="#if __METAL__ != 1 || __METAL_VERSION__ < 300 || __METAL_VERSION__ > 410 || !defined(__AIR64__)\n"
        "#error macros\n#endif\n" + body("n[0] = __METAL_VERSION__;"),
        evidence=f"{KS}; kagurasumusun/metal",
    ),
    Rule(
        "bi22",
        accepted="#ifndef __HAVE_BFLOAT__\n#error bfloat\n#endif\n" + body("n[0] = 1;"),
        versions=(310, 320, 400, 410),
    ),
    Rule(
        "bi23",
        '#include "own.h"\n' + body("n[0] = 1;"),
        "#include <metal_stdlib>\n" + body("n[0] = 1;"),
        "file not found",
        "whisper.cpp",
    ),
    Rule("bi24", "#error no\n" + body("n[0] = 1;"), "#pragma unknown\n" + body("n[0] = 1;")),
    Rule(
        "bi25",
        accepted="#warning something\n"
        + body(
            '_Pragma("unroll") for (int k = 0; k < 3; ++k) n[k] = __LINE__;\n'
            "#pragma unroll(4)\n  for (int k = 0; k < 8; ++k) a[k] = 0;"
        ),
        evidence=f"PyTorch's kernels; {MLX}",
    ),
]

MORE = [
    Rule(
        "s01",
        body("ulong x = i;\n  n[0] = simd_shuffle_down(x, 1);"),
        body("uint x = i;\n  n[0] = simd_shuffle_down(x, 1);"),
        "no matching function for call to 'simd_shuffle_down'",
        "zkMetal",
    ),
    Rule(
        "s02",
        body("long x = i;\n  n[0] = simd_shuffle_xor(x, 1);"),
        body("int x = i;\n  n[0] = simd_shuffle_xor(x, 1);"),
        "no matching function for call to 'simd_shuffle_xor'",
        "zkMetal",
    ),
    Rule(
        "s03",
        kernel("device bfloat* b", "b[0] = max((bfloat)0.0, b[1]);"),
        kernel("device bfloat* b", "b[0] = bfloat(max(0.0f, float(b[1])));"),
        MAX_AMBIGUOUS,
        "ocannl",
        (310, 320, 400),
    ),
    Rule(
        "s04",
        kernel("device bfloat* b", "b[0] = fma(b[1], b[2], b[3]);"),
        kernel("device bfloat* b", "b[0] = bfloat(fma(float(b[1]), float(b[2]), float(b[3])));"),
        "",
        "ocannl",
        (310, 320, 400),
    ),
    Rule(
        "s05",
        body("long x = n[0];\n  n[0] = floor(x);"),
        body("long x = n[0];\n  n[0] = floor(float(x));"),
        "call to 'floor' is ambiguous",
        COMMON,
    ),
    Rule(
        "s06",
        kernel("device bfloat* b", "b[0] = exp(b[1]);"),
        kernel("device bfloat* b", "b[0] = bfloat(exp(float(b[1])));"),
        "",
        "mlx, bf16_math.h",
        (310, 320, 400),
    ),
    Rule(
        "s07",
        "kernel void example(device int* n) [[max_total_threads_per_threadgroup(64)]] {\n  n[0] = 1;\n}",
        "[[max_total_threads_per_threadgroup(64)]] kernel void example(device int* n) {\n  n[0] = 1;\n}",
        "'max_total_threads_per_threadgroup' attribute cannot be applied to types",
        "what Apple's compiler said of an n-body kernel",
    ),
    Rule(
        "s08",
        accepted="[[max_total_threads_per_threadgroup(32)]]\nkernel void example(device int* n) {\n  n[0] = 1;\n}",
        evidence="torch, inductor's output",
    ),
    Rule(
        "s09",
        accepted="template <typename T>\n"
        "[[kernel, max_total_threads_per_threadgroup(32)]] void example(device T* a) {\n"
        '  a[0] = 1;\n}\ntemplate [[host_name("f")]] [[kernel]] void example<float>(device float*);',
        evidence=MLX,
    ),
    Rule(
        "s10",
        body("float half = 2;\n  a[0] = half;"),
        body("float one_half = 2;\n  a[0] = one_half;"),
        "cannot combine with previous",
        "zkMetal",
    ),
    Rule(
        "s11",
        kernel("device float* restrict a", "a[0] = 1;"),
        kernel("device float* a", "a[0] = 1;"),
        "",
        COMMON,
    ),
    Rule("s12", accepted=kernel("device float* __restrict a", "a[0] = 1;")),
    Rule(
        "s13",
        body("a[0] = max(a[1], a[2]);", "float max(float x, float y) { return x > y ? x : y; }"),
        body("a[0] = larger(a[1], a[2]);", "float larger(float x, float y) { return x > y ? x : y; }"),
        MAX_AMBIGUOUS,
        MSLC,
    ),
    Rule(
        "s14",
        body("bool4 b = i > 2;\n  uint4 v = b;\n  n[0] = v.x;"),
        body("bool4 b = i > 2;\n  uint4 v = uint4(b);\n  n[0] = v.x;"),
        "",  # "cannot initialize a variable of type 'uint4' with an rvalue of type ..."
        "what Apple's compiler said of an n-body kernel",
    ),
    Rule(
        "s15",
        body("int x = 1, y = 2;\n  int* p[2] = {&x, &y};\n  n[0] = *p[i];"),
        body("int x = 1, y = 2;\n  thread int* p[2] = {&x, &y};\n  n[0] = *p[i];"),
        POINTER,
        "what Apple's compiler said of a Keccak kernel",
        versions=UNTIL_4_0,
        later=410,
    ),
    Rule(
        "s16",
        accepted=kernel("device bfloat* b, device int* n", "bfloat x = 0;\n  x = n[0];\n  b[0] = x;"),
        evidence="MLX, softmax.h",
        versions=(310, 320, 400, 410),
    ),
    Rule(
        "s17",
        kernel("device bfloat* b", "b[0] = 1.0f;"),
        kernel("device bfloat* b", "b[0] = bfloat(1.0f);"),
        "",
        "mlx-lm #814",
        (310, 320, 400, 410),
    ),
    Rule(
        "s18",
        kernel("device bfloat* b, device float* a", "b[0] += a[0];"),
        kernel("device bfloat* b, device float* a", "b[0] += bfloat(a[0]);"),
        versions=(310, 320, 400, 410),
    ),
    Rule("s19", accepted=body("half h = a[0];\n  h = a[1];\n  a[0] = h;"), evidence=COMMON),
    Rule("s20", accepted=body("half h = 2;\n  float x = h;\n  a[0] = h * a[1] + x;"), evidence=COMMON),
    Rule(
        "s21",
        body("a[0] = x[i];", "constexpr float x[2] = {1, 2};"),
        body("a[0] = x[i];", "constexpr constant float x[2] = {1, 2};"),
        "program scope variable must reside in constant address space",
        "what Apple's compiler said of a lattice Boltzmann kernel",
    ),
    Rule("s22", accepted=body("a[0] = x[i];", "constant float x[2] = {1, 2};"), evidence=COMMON),
    Rule(
        "s23",
        kernel(ATOMICS, "u[0] = atomic_load_explicit(k, memory_order_acquire);"),
        kernel(ATOMICS, "u[0] = atomic_load_explicit(k, memory_order_relaxed);"),
        "use of undeclared identifier 'memory_order_acquire'",
        "what Apple's compiler said of a hash table",
        UNTIL_4_0,
    ),
    Rule(
        "s24",
        kernel("constant atomic_uint* k", "atomic_fetch_add_explicit(k, 1u, memory_order_relaxed);"),
        kernel("device atomic_uint* k", "atomic_fetch_add_explicit(k, 1u, memory_order_relaxed);"),
    ),
    Rule(
        "s25",
        body("atomic_uint k;\n  atomic_store_explicit(&k, 1u, memory_order_relaxed);"),
        body("threadgroup atomic_uint k;\n  atomic_store_explicit(&k, 1u, memory_order_relaxed);"),
        evidence=KS,
    ),
    Rule(
        "s26", accepted=kernel("device bfloat* b", "b[0] = b[1] + b[2];"), evidence=MLX, versions=(310, 320, 400, 410)
    ),
    Rule(
        "s27",
        body("float2 v = a[0];\n  (v + v).x = 1;\n  a[0] = v.x;"),
        body("float2 v = a[0];\n  v.x = 1;\n  a[0] = v.x;"),
    ),
    Rule(
        "s28",
        body("vec<float, 5> v;\n  v[0] = a[0];\n  a[1] = v[0];"),
        body("vec<float, 4> v;\n  v[0] = a[0];\n  a[1] = v[0];"),
    ),
    Rule(
        "s29",
        accepted=body(
            "vec<float, 4> v = a[0];\n  vec<bfloat, 4> w = vec<bfloat, 4>(v);\n  vec<bool, 2> b = i > 2;\n"
            "  a[0] = w.x + v.x + b.x;"
        ),
        evidence=MLX,
        versions=(310, 320, 400, 410),
    ),
    Rule(
        "s30",
        body("vec<One, 2> v;\n  v.x.k = n[0];\n  n[1] = v.x.k;", "struct One {\n  int k;\n};"),
        body("vec<int, 2> v;\n  v.x = n[0];\n  n[1] = v.x;", "struct One {\n  int k;\n};"),
    ),
    Rule(
        "s31",
        body("float4x4 m = {1, 2, 3, 4};\n  a[0] = m[0][0];"),
        body("float4x4 m = {float4(1), float4(2), float4(3), float4(4)};\n  a[0] = m[0][0];"),
    ),
    Rule(
        "s32",
        "#include <metal_no_such_header>\n" + body("n[0] = 1;"),
        "#include <metal_math>\n" + body("n[0] = 1;"),
        "file not found",
    ),
    Rule(
        "s33",
        accepted="#include <metal_stdlib>\n#include <metal_math>\n#include <simd/simd.h>\n" + body("n[0] = 1;"),
        evidence="naga's and SPIRV-Cross's output",
    ),
    Rule(
        "s34",
        "kernel void example(device int* n) {\n  kernel void inner(device int* n) {\n    n[0] = 1;\n  }\n}",
        "void inner(device int* n) {\n  n[0] = 1;\n}\nkernel void example(device int* n) {\n  inner(n);\n}",
        "function definition is not allowed here",
        KS,
    ),
    Rule(
        "s35",
        body("float x = a[0];\n  View v{x};\n  a[1] = v.r;", "struct View {\n  float& r;\n};"),
        body("float x = a[0];\n  View v{x};\n  a[1] = v.r;", "struct View {\n  thread float& r;\n};"),
        REFERENCE,
        versions=UNTIL_4_0,
        later=410,
    ),
    Rule(
        "s36",
        accepted=body("View v{a[0]};\n  v.r = 1;", "struct View {\n  device float& r;\n};"),
        evidence="SPIRV-Cross",
    ),
    Rule(
        "s37",
        body(
            "n[0] = get<One>();",
            "struct One {\n  typedef int type;\n};\ntemplate <typename T> int get() {\n  T::type x = 1;\n"
            "  return x;\n}",
        ),
        body(
            "n[0] = get<One>();",
            "struct One {\n  typedef int type;\n};\ntemplate <typename T> int get() {\n"
            "  typename T::type x = 1;\n  return x;\n}",
        ),
    ),
    Rule(
        "s38",
        body(
            "One s;\n  n[0] = get(s);",
            "struct One {\n  template <int k> int times() const { return k; }\n};\n"
            "template <typename T> int get(T s) {\n  return s.times<2>();\n}",
        ),
        body(
            "One s;\n  n[0] = get(s);",
            "struct One {\n  template <int k> int times() const { return k; }\n};\n"
            "template <typename T> int get(T s) {\n  return s.template times<2>();\n}",
        ),
    ),
    Rule(
        "s39",
        kernel("device int* n, uint i [[thread_position_in_grid]] = 0", "n[i] = 1;"),
        kernel("device int* n, uint i [[thread_position_in_grid]]", "n[i] = 1;"),
    ),
    Rule(
        "s40",
        body("n[0] = next(2);", "int next(constant int& x) { return x + 1; }"),
        body("n[0] = next(2);", "int next(const thread int& x) { return x + 1; }"),
    ),
    Rule("s41", body("n[0] = a == t;"), body("n[0] = a == a + 1;")),
    Rule(
        "s42",
        body("float x[2] = {1, 2}, y[2];\n  y = x;\n  a[0] = y[i];"),
        body("float x[2] = {1, 2}, y[2];\n  y[1] = x[1];\n  a[0] = y[1];"),
    ),
    Rule(
        "s43",
        "typedef float Row[2];\nRow row(float x) {\n  Row r = {x, x};\n  return r;\n}\n" + body("a[0] = row(a[1])[0];"),
        "struct Row {\n  float at[2];\n};\nRow row(float x) {\n  Row r = {{x, x}};\n  return r;\n}\n"
        + body("a[0] = row(a[1]).at[0];"),
    ),
    Rule("s44", body("bool b{2};\n  n[0] = b;"), body("bool b{true};\n  n[0] = b;"), NARROWED),
    Rule(
        "s45",
        body("n[0] = id(i);", "int id(uint k) { return {k}; }"),
        body("n[0] = id(i);", "int id(uint k) { return k; }"),
        NARROWED,
        MSLC,
    ),
    Rule(
        "s46",
        body("size_t k = i;\n  int x[1] = {k};\n  n[0] = x[0];"),
        body("size_t k = i;\n  int x[1] = {int(k)};\n  n[0] = x[0];"),
        NARROWED,
        MSLC,
    ),
    Rule("s47", accepted=body("int x{sizeof(float)};\n  n[0] = x;"), evidence=MSLC),
    Rule(
        "s48",
        body("long k = n[0];\n  One x = {k};\n  n[1] = x.k;", "struct One {\n  int k;\n};"),
        body("long k = n[0];\n  One x = {int(k)};\n  n[1] = x.k;", "struct One {\n  int k;\n};"),
        NARROWED,
        MSLC,
    ),
    Rule(
        "s49",
        body(
            "switch (n[0]) {\n    case one:\n      n[1] = 1;\n    case 1:\n      n[2] = 1;\n  }",
            "enum Number { one = 1, two };",
        ),
        body(
            "switch (n[0]) {\n    case one:\n      n[1] = 1;\n    case 2:\n      n[2] = 1;\n  }",
            "enum Number { one = 1, two };",
        ),
        "duplicate case value",
    ),
    Rule(
        "s50",
        body("a[0] = *to(t);", "device float* to(threadgroup float* p) { return p; }"),
        body("a[0] = *to(t);", "threadgroup float* to(threadgroup float* p) { return p; }"),
    ),
    Rule(
        "s51",
        body("set(One());", "struct One {\n  int k;\n};\nvoid set(thread One& x) { x.k = 1; }"),
        body("One x;\n  set(x);", "struct One {\n  int k;\n};\nvoid set(thread One& x) { x.k = 1; }"),
    ),
    Rule(
        "s52",
        accepted=body(
            "n[0] = get(One{2});", "struct One {\n  int k;\n};\nint get(const thread One& x) { return x.k; }"
        ),
    ),
    Rule(
        "s53",
        body("One x = n[0];\n  n[1] = x.k;", "struct One {\n  int k;\n  explicit One(int l) : k(l) {}\n};"),
        body("One x(n[0]);\n  n[1] = x.k;", "struct One {\n  int k;\n  explicit One(int l) : k(l) {}\n};"),
    ),
    Rule(
        "s54",
        body("One x{1};\n  x.k = 2;\n  n[1] = x.k;", "struct One {\n  const int k;\n};"),
        body("One x{1};\n  n[1] = x.k;", "struct One {\n  const int k;\n};"),
    ),
    Rule("s55", accepted=body("static_assert(sizeof(int) == 4);\n  n[0] = 1;")),
    Rule(
        "s56",
        body("n[0] = value<4294967296>();", "template <int k> int value() { return k; }"),
        body("n[0] = value<4294967>();", "template <int k> int value() { return k; }"),
    ),
    Rule("s57", body("n[0] = missing(1);", "int missing(int k);"), settled=False),
    Rule(
        "s58",
        body("n[0] = get(1);", "int get(int k) {\n  return;\n}"),
        body("n[0] = get(1);", "int get(int k) {\n  return k;\n}"),
    ),
    Rule(
        "s59",
        kernel("device int* n", "n[0] = 1;") + "\n" + kernel("device int* n", "n[0] = 2;"),
        kernel("device int* n", "n[0] = 1;") + "\nkernel void other(device int* n) {\n  n[0] = 2;\n}",
        "redefinition of",
    ),
    Rule(
        "s60",
        '[[host_name("f")]] void one(device int* n) {\n  n[0] = 1;\n}\n' + body("one(n);"),
        '[[host_name("f")]] kernel void one(device int* n) {\n  n[0] = 1;\n}',
        "",
        KS,
    ),
]

RULES = ADDRESS_SPACES + THREADGROUP_VARIABLES + SIGNATURES + LANGUAGE + CONVERSIONS + BUILT_INS + MORE


def main() -> None:
    from mps_simulator._C import check_shader

    counts: Counter[str] = Counter()
    for rule in RULES:
        found = disagreements(rule, check_shader) if rule.settled else []
        kinds = {kind for kind, _ in found} or {"agrees" if rule.settled else "not settled"}
        counts.update(kinds)
        for kind, example in found:
            print(f"{rule.id}: {kind}. {example}")
    for kind, n in sorted(counts.items()):
        print(f"{kind:12} {n:4}")


if __name__ == "__main__":
    main()
