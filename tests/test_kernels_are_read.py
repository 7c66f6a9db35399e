"""The kernels as both readings of Metal sources see them, in every version of the language, and mistakes put into them.

Apple's compiler runs on Macs only. The compiler that executes the kernels here lets some pass that Apple's would not,
above all of address spaces: for these there is a second reading (simulator/docs/language.md).
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from shader_source import METAL, embed, kernel_files, kernels

VERSIONS = (300, 310, 320, 400, 410)
TYPES = [(version, t) for version in VERSIONS for t in ("float", "half", "bfloat") if (version, t) != (300, "bfloat")]

# Mistakes of every kind that the second reading knows: where one may be made, what it makes of that place, and what is
# said of it in Metal 3.1.
MISTAKES = {
    "a reference parameter without an address space": (r"\bthread (\w+&)", r"\1", "reference type must have explicit"),
    "a pointer without an address space": (r"\bdevice (T\* \w+ =)", r"\1", "pointer type must have explicit"),
    "a reference to another address space": (r"\(constant (\w+& )", r"(device \1", "no matching function"),
    "a pointer to another address space": (r"\bdevice (const T\* \w+ =)", r"threadgroup \1", "cannot initialize"),
    "two address spaces": (r"\b(device T\* \w+ =)", r"threadgroup \1", "multiple address spaces"),
    "two address spaces on an inner pointer": (
        r"threadgroup const (\w+)\* const thread\*",
        r"thread threadgroup const \1* const*",
        "multiple address spaces",
    ),
    "a cast between address spaces": (
        r"reinterpret_cast<threadgroup (\w+\*)>",
        r"reinterpret_cast<device \1>",
        "is not allowed",
    ),
    "a member function of another address space": (r"(void next\(.*\) )thread \{", r"\1device {", "object parameter"),
    "a constant taken as a thread's": (
        r"(METAL_FUNC [^{;]*constant (\w+)& (\w+)\) \{\n)",
        r"\1  thread const \2& copy = \3;\n",
        "changes address space",
    ),
    "a device variable": (r"\n( +float \w+ = 0;)", r"\ndevice \1", "automatic variable qualified with"),
    "a static variable": (r"\n( +float \w+ = 0;)", r"\nstatic \1", "static local variable"),
    "a program scope variable": (r"\nconstant (\w+ k\w+ =)", r"\nconstexpr \1", "must reside in constant"),
    "a threadgroup variable in a helper": (
        r"(METAL_FUNC void \w+\([^;{]*\) \{\n)",
        r"\1  threadgroup int shared[2];\n",
        "variables in the threadgroup address space",
    ),
    "a threadgroup variable with a value": (r"(threadgroup float2 \w+\[\w+\]);", r"\1 = {};", "initializer"),
    "a constructor in threadgroup memory": (
        r"threadgroup float2 (\w+\[\w+\];)",
        r"threadgroup CompensatedSum \1",
        "constructor",
    ),
    "a number that is narrowed": (r"return \{(\w+),", r"return {long(\1),", "narrowed"),
    "an ambiguous overload": (r"\bmax\(([^,()]+), 0\)", r"max(\1, 0u)", "ambiguous"),
    "a vector of another type": (r"\bconst float2 (\w+ =)", r"const int2 \1", "no viable conversion"),
    "a jump": (r"(METAL_FUNC void \w+\([^;{]*\) \{\n)", r"\1  goto end;\nend:\n", "'goto'"),
}  # fmt: skip


@pytest.mark.parametrize(("version", "element"), TYPES)
@pytest.mark.parametrize("file", kernel_files())
def test_both_readings_accept_the_kernels(simulator, file, version, element):
    from mps_simulator.msl import check

    assert check(kernels()[file], version, {"ELEMENT": element}) == []


@pytest.mark.parametrize("header", sorted(METAL.rglob("*.h")), ids=lambda path: path.stem)
def test_both_readings_accept_each_header_alone(simulator, header):
    from mps_simulator.msl import check, flatten

    assert check(flatten(header, []).text, 310) == []


@pytest.mark.parametrize("mistake", MISTAKES)
def test_the_second_reading_refuses_a_mistake(simulator, mistake):
    from mps_simulator.msl import second

    place, replacement, words = MISTAKES[mistake]
    changed = (re.subn(place, replacement, text, count=1) for text in kernels().values())
    source = next((text for text, made in changed if made), None)
    assert source, "the kernels have no such place"
    said = second.read(source, 310, {"ELEMENT": "float"})
    assert any(words in d.message for d in said), said


def test_member_functions_say_that_they_are_a_threads(simulator):
    """From Metal 4.1 on `this` is generic otherwise, and members bind to no reference to a thread's."""
    from mps_simulator.msl import second

    for file in ("forward_polyphase", "forward_tiled", "input_grad", "weight_grad"):
        source, made = re.subn(r"(\) (?:const )?)thread( [:{])", r"\1\2", kernels()[file])
        assert made
        assert second.read(source, 400, {"ELEMENT": "float"}) == []
        said = second.read(source, 410, {"ELEMENT": "float"})
        assert any("no matching function for call" in d.message for d in said), said


def test_a_missing_include_fails_the_build(tmp_path):
    source = tmp_path / "direct.metal"
    source.write_text('#include "coord.h"\n')
    result = embed([source], tmp_path)
    assert result.returncode != 0
    assert 'includes "coord.h", which is not there' in " ".join(result.stderr.split())
    (tmp_path / "coord.h").touch()
    assert embed([source], tmp_path).returncode == 0


def declared(header: Path) -> set[str]:
    """What a header brings: types and constants as words, functions and macros with parameters as `name(`."""
    text = header.read_text()
    functions = re.findall(r"^(?:METAL_FUNC|constexpr) [^(;]*?(\w+\()", text, re.MULTILINE)
    constants = re.findall(r"^constant [^=;[]*?(\w+)(?: =|;| \[\[)", text, re.MULTILINE)
    enumerators = re.findall(r"\b(k\w+) =", " ".join(re.findall(r"^enum[^}]*\}", text, re.MULTILINE)))
    macros = re.findall(r"^#define (\w+\(?)", text, re.MULTILINE)
    return {*functions, *constants, *enumerators, *macros, *re.findall(r"^struct (\w+)", text, re.MULTILINE)}


@pytest.mark.parametrize("file", sorted(METAL.rglob("*.[hm]*")), ids=lambda path: str(path.relative_to(METAL)))
def test_each_include_is_of_what_the_file_uses(file):
    text = re.sub(r"//.*", "", file.read_text())
    words = {*re.findall(r"\w+", text), *(f"{name}(" for name in re.findall(r"(\w+)(?:<[^<>;]*>)?\(", text))}
    included = {(file.parent / name).resolve() for name in re.findall(r'#include "(.*)"', text)}
    assert included == {path for path in METAL.rglob("*.h") if path != file and declared(path) & words}
