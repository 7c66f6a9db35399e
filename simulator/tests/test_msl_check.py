"""`python -m mps_simulator.msl check`: both readings of files, and what they include."""

from __future__ import annotations

import pytest

from mps_simulator.msl import readings
from mps_simulator.msl.__main__ import main

GOOD = """#include <metal_stdlib>
using namespace metal;
kernel void f(device float* x, uint i [[thread_position_in_grid]]) { x[i] = SCALE; }
"""
# The first reading refuses line 3, the second that and line 4.
BAD = """#include <metal_stdlib>
kernel void f(device float* x) {
  thread float* p = x;
  metal::vec<float, 2>* q;
}
"""


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def write(**files: str) -> None:
    for name, text in files.items():
        with open(name.replace("__", "."), "w") as file:
            file.write(text)


def test_a_good_file(capsys):
    write(good__metal=GOOD)
    assert main(["check", "-D", "SCALE=2", "good.metal"]) == 0
    assert capsys.readouterr() == ("", "")


def test_a_bad_file(capsys):
    write(good__metal=GOOD, bad__metal=BAD)
    assert main(["check", "good.metal", "bad.metal", "-DSCALE=1", "--std=metal3.2"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("bad.metal:3:") and line.endswith("[first reading]") for line in lines)
    assert any(line.startswith("bad.metal:3:") and line.endswith("[second reading]") for line in lines)
    assert all(line.split(": ")[1] == "error" for line in lines if "first" in line.split("[")[-1])


def test_what_both_say_is_said_once(capsys):
    write(bad__metal=GOOD.replace("SCALE", "no_such_name"))
    assert main(["check", "bad.metal"]) == 1
    assert capsys.readouterr().out == (
        "bad.metal:3:77: error: use of undeclared identifier 'no_such_name' [first and second readings]\n"
    )


def test_lines_are_those_of_the_source(capsys):
    """Whatever #line says: a shader that was made of several files is looked for in one."""
    text = GOOD.replace("SCALE", "no_such_name").replace("kernel", '  # line 90 "here"\nkernel')
    write(bad__metal=f'#line 1 "elsewhere.h"\n{text}')
    assert main(["check", "bad.metal"]) == 1
    assert capsys.readouterr().out == (
        "bad.metal:5:77: error: use of undeclared identifier 'no_such_name' [first and second readings]\n"
    )


def test_the_first_reading_decides(capsys, monkeypatch):
    write(good__metal=GOOD)
    refused = [readings.Diagnostic(3, 1, "no")]
    monkeypatch.setitem(readings.READINGS, "second", lambda *_: refused)
    assert main(["check", "-DSCALE=1", "good.metal"]) == 0
    assert capsys.readouterr().out == "good.metal:3:1: warning: no [second reading]\n"
    assert main(["check", "-DSCALE=1", "--both", "good.metal"]) == 1
    assert capsys.readouterr().out == "good.metal:3:1: error: no [second reading]\n"


def test_includes_are_joined(capsys, tmp_path):
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "scale.h").write_text(
        '#pragma once\n#include "twice.h"\nconstant float scale = TWICE(no_such_name);\n'
    )
    (tmp_path / "far" / "twice.h").write_text("#pragma once\n#define TWICE(x) (2 * x)\n")
    write(a__metal='#include "scale.h"\n#include "twice.h"\n' + GOOD.replace("SCALE", "TWICE(scale)"))
    assert main(["check", "a.metal"]) == 1
    assert "'scale.h' file not found" in capsys.readouterr().out
    assert main(["check", "-I", "far", "a.metal"]) == 1
    said = capsys.readouterr()
    assert said.out.startswith("far/scale.h:3:30: error: use of undeclared identifier 'no_such_name' [first and second")
    assert 'a.metal:1:1: note: "scale.h" and 2 more joined to the source: newLibraryWithSource has no' in said.err


def test_the_version_is_told(capsys):
    write(a__metal="#if __METAL_VERSION__ < 400\n#error too old\n#endif\n")
    assert main(["check", "a.metal"]) == 1
    assert main(["check", "--std", "metal4.0", "a.metal"]) == 0


def test_what_cannot_be_read(capsys):
    assert main(["check", "none.metal"]) == 2
    write(a__h='#include "b.h"\n', b__h='#include "a.h"\n')
    assert main(["check", "a.h"]) == 2
    assert "includes itself" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        main(["check", "--std", "metal1.0", "a.h"])


def test_readings_are_kept(monkeypatch):
    write(good__metal=GOOD)
    assert main(["check", "-DSCALE=1", "good.metal"]) == 0
    for reading in readings.READINGS:
        monkeypatch.setitem(readings.READINGS, reading, None)
    assert main(["check", "-DSCALE=1", "good.metal"]) == 0
    with pytest.raises(TypeError):
        main(["check", "-DSCALE=2", "good.metal"])
