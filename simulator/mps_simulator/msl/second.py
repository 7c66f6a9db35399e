"""The second reading of a shader: through clang as C++ for OpenCL, whose address spaces are strict and distinct.

It shares nothing with the reading that executes shaders: not the lexer, not the headers, not clang's mode. Of Metal's
library it knows declarations alone (include/metal_declared).
"""

from __future__ import annotations

import functools
import itertools
import os
import re
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from mps_simulator.msl.diagnostics import Diagnostic, Refused
from mps_simulator.msl.opencl import GENERIC, LAMBDAS, Program
from mps_simulator.msl.tokens import tokens
from mps_simulator.msl.toolchain import HEADERS, NAME, cache, clang, clang_on, keep

_EXTENSIONS = ("program_scope_global_variables", "device_enqueue", "pipes", "fp64")
_FLAGS = [
    *("-x", "clcpp", "-cl-std=clc++2021", "-target", "x86_64-unknown-linux", "-undef", "-cl-no-stdinc", "-fdeclspec"),
    *("-cl-single-precision-constant", "-fno-elide-type", "-ferror-limit=100", "-Werror=zero-length-array"),
    *("-Xclang", "-fno-pch-timestamp", f"-I{HEADERS}"),
    *("-Xclang", "-cl-ext=-cl_khr_fp64," + ",".join(f"-__opencl_c_{name}" for name in _EXTENSIONS)),
]
_MESSAGE = re.compile(r"(?P<file>[^:]+):(?P<line>\d+):\d+: (?P<severity>\w+(?: error)?): (?P<text>.*)")
_VECTOR = r"'[^']*\bvec<[^']*'(?: \(aka '[^']*'\))?"
_OPERANDS = re.compile(rf"incompatible operand types \({_VECTOR} and {_VECTOR}\)")
_TO_BFLOAT = re.compile(r"__bf16' <FloatingCast>(?! part_of_explicit_cast)|__bf16' lvalue .*ComputeResultTy='float'")
_SAID = (
    (re.compile(r" \[-W[^]]*\]$"), ""),
    (re.compile(r"(\*|&)__private"), r"\1"),
    (re.compile(r"__private "), "thread "),
    (re.compile(r"__global "), "device "),
    (re.compile(r"__local "), "threadgroup "),
    (re.compile(r"__constant "), "constant "),
    (re.compile(r"__generic "), ""),
    (re.compile(r"__bf16"), "bfloat"),
    (re.compile(r"('[^']*') \(aka \1\)"), r"\1"),
    (re.compile(r"(?:non-kernel function|function scope) variable cannot be declared in \w+ address space"),
     "automatic variable qualified with an address space"),
    (re.compile(r"(?:C\+\+ for )?OpenCL(?: version 2021)?"), "Metal"),
)  # fmt: skip
_TEMPORARY = re.compile(r".*cannot bind reference in default address space to object in .* in (\d+)\w\w argument")
_NOBODYS = re.compile(r".* cannot be used to construct an object in address space unqualified|'.*' declared here")
# What Metal accepts: a reference that is bound to a temporary, and conversions between half and bfloat.
_ACCEPTED = re.compile(
    r"binding reference of type 'const __private ([^']*)' to value of type '\1'.*"
    r"|\w+ from '.*(?:half.*bfloat|bfloat.*half)[^']*' (?:\(aka '[^']*'\) )?is not allowed"
)
# In clang's syntax tree: a node with its kind, its places, and the rest from the first type on.
_NODE = re.compile(r"[| `]*-(\w+) 0x\w+ ([^']*)('.*)?")
_PLACE = re.compile(r"<<[^>]*>>|([\w./]+):(\d+)(?::\d+)?")
_FUNCTIONS = ("FunctionDecl", "CXXMethodDecl", "CXXConversionDecl")
_DECLARED = (
    *("VarDecl", "ParmVarDecl", "FieldDecl", *_FUNCTIONS, "TypedefDecl", "TypeAliasDecl"),
    *("CStyleCastExpr", "CXXReinterpretCastExpr", "CXXStaticCastExpr", "CXXFunctionalCastExpr"),
)


def read(source: str, version: int, macros: dict[str, str]) -> list[Diagnostic]:
    """What it refuses."""
    try:
        program = Program(tokens(source, version, macros), version)
    except Refused as refused:
        return refused.diagnostics
    output = _clang(program)
    for _ in range(8):  # what this clang refuses and Metal accepts is written in another way, and read again
        if not sum(_rewrite(program, error) for error in _errors(output.stderr)):
            break
        output = _clang(program)
    found = [*program.errors, *_in_tree(program, output.stdout)]
    taken = {(d.line, d.column) for d in program.errors}
    for error in _errors(output.stderr):
        diagnostic = _diagnostic(program, error.token, error.text)
        if (diagnostic.line, diagnostic.column) not in taken and not _ACCEPTED.fullmatch(error.text):
            found.append(diagnostic)
    return sorted(set(found))


def tree(source: str, version: int, macros: dict[str, str]) -> str:
    """clang's syntax tree of a source that is not refused, each token of it on a line of its own."""
    return _clang(Program(tokens(source, version, macros), version)).stdout


def _clang(program: Program) -> subprocess.CompletedProcess[str]:
    library = str(_prelude(program.version))
    tree = ("-fsyntax-only", "-Xclang", "-ast-dump")
    return clang_on(program.text, [*_FLAGS, *tree, "-include-pch", library])


def _diagnostic(program: Program, token: int, message: str) -> Diagnostic:
    for theirs, ours in _SAID:
        message = theirs.sub(ours, message)
    where = program.tokens[min(token, len(program.tokens) - 1)]
    return Diagnostic(where.line, where.column, message)


@dataclass
class _Error:
    """What clang says, and the token it says it of; -1 while that is not known."""

    token: int
    text: str
    notes: list[tuple[int, str]] = field(default_factory=list)


def _errors(output: str) -> list[_Error]:
    """An error within the headers is the fault of whoever used them."""
    found: list[_Error] = []
    for message in map(_MESSAGE.fullmatch, output.splitlines()):
        if not message or message["severity"] == "warning":
            continue
        token = int(message["line"]) - 1 if message["file"] == NAME else -1
        if message["severity"] != "note":
            found.append(_Error(token, message["text"]))
        elif found:
            found[-1].notes.append((token, message["text"]))
            if found[-1].token < 0:
                found[-1].token = token
    return [error for error in found if error.token >= 0]


def _rewrite(program: Program, error: _Error) -> bool:
    # Vectors are classes here, and classes in different address spaces have no common type in `c ? a : b`.
    if _OPERANDS.match(error.text):
        return program.as_values(error.token)
    # A reference to a thread's constant takes a temporary, and a constructor of the thread's makes one.
    arguments = {int(match[1]) for _, note in error.notes if (match := _TEMPORARY.fullmatch(note))}
    constructors = {token for token, note in error.notes if _NOBODYS.fullmatch(note)}
    done = [program.as_stored(error.token, n) for n in arguments]
    return any(done + [program.construct_values(token) for token in constructors])


def _in_tree(program: Program, tree: str) -> list[Diagnostic]:
    """What clang accepts, by its syntax tree."""
    found = []
    line, file = 0, ""
    for node in map(_NODE.fullmatch, tree.splitlines()):
        if not node:
            continue
        kind, places, types = node.groups("")
        for place in _PLACE.finditer(places):
            if place[1] and place[1] not in ("line", "col"):
                file = place[1]
            if place[1] and place[1] != "col":
                line = int(place[2])
        if file == NAME and line and (message := _refused(program, kind, line - 1, places, types)):
            found.append(_diagnostic(program, line - 1, message))
    return found


def _refused(program: Program, kind: str, token: int, places: str, types: str) -> str:
    if kind == "LabelStmt":
        return "labeled statements are not supported in Metal"
    if kind == "LambdaExpr" and program.version < LAMBDAS:
        return "lambda expressions are not supported in Metal"
    if kind in ("ImplicitCastExpr", "CompoundAssignOperator") and _TO_BFLOAT.search(types):
        return "no viable conversion to 'bfloat'"
    # Where no address space was written clang has made one: the generic one.
    if kind in _DECLARED and "__generic" in types and program.version < GENERIC and " implicit" not in places:
        written = types.split("'")[1].replace("(__generic *", "(*")  # of a pointer to a function nothing is asked
        written = written.partition("(")[0] if kind in _FUNCTIONS else written
        # Metal's kernels in use take references to pointers without a word: `const device uint*& w`.
        written = written.replace("*__generic &", "*&")
        if "__generic" in written and not program.is_head(token):
            return f"{'reference' if '&' in written else 'pointer'} type must have explicit address space qualifier"
    return ""


def _prelude(version: int) -> Path:
    """The headers, compiled."""
    file = cache() / f"library-{version}.pch"
    if file.exists():
        os.utime(file)
        return file
    text = file.with_suffix(".h")  # clang looks for it whenever it reads what it has compiled
    keep(text, (_components() + '#include "names.h"\n#include "library.h"\n').encode())
    partial = file.with_suffix(f".{os.getpid()}")
    clang([*_FLAGS, f"-D__METAL_VERSION__={version}", "-c", "-Xclang", "-emit-pch", "-o", str(partial), str(text)])
    os.replace(partial, file)
    return file


@functools.cache
def _components() -> str:
    """Macros that declare the components of vectors, x to wzyx and r to abgr, each with how it is read and written."""
    text = ""
    for size in (2, 3, 4):
        text += f"#define COMPONENTS_{size}"
        for letters, count in itertools.product(("xyzw", "rgba"), (1, 2, 3, 4)):
            kind, how = (("T", "one"), ("vec<T, 2>", "two"), ("vec<T, 3>", "three"), ("vec<T, 4>", "four"))[count - 1]
            names = ["".join(n) for n in itertools.product(letters[:size], repeat=count)]
            once = [n for n in names if len(set(n)) == count]
            repeated = [n for n in names if len(set(n)) < count]
            if once:
                text += f" __declspec(property(get={how}, put=set_{how})) {kind} {', '.join(once)};"
            if repeated:
                text += f" __declspec(property(get={how})) {kind} {', '.join(repeated)};"
        text += "\n"
    return text
