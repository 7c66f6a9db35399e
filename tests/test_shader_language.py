"""The kernels in every version of the language that a Mac may compile them in, as one source for each element type."""

from __future__ import annotations

import re
import subprocess
import sysconfig
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> str:
    """What the build embeds."""
    listed = re.search(r"set\(metal_sources(.*?)\)", (REPOSITORY / "CMakeLists.txt").read_text(), re.DOTALL)
    assert listed
    sources = listed.group(1).replace("${CMAKE_SOURCE_DIR}", str(REPOSITORY)).split()
    embedded = tmp_path_factory.mktemp("shader") / "shader_source.cpp"
    cmake = Path(sysconfig.get_path("scripts")) / "cmake"
    script = REPOSITORY / "cmake" / "embed_metal.cmake"
    subprocess.run(
        [cmake, f"-DSOURCES={';'.join(sources)}", f"-DOUTPUT={embedded}", "-P", script], check=True, cwd=REPOSITORY
    )
    return embedded.read_text().split('R"METAL(')[1].split(')METAL"')[0]


@pytest.mark.parametrize(
    ("version", "element"),
    [(v, e) for v in (300, 310, 320, 400, 410) for e in ("float", "half", "bfloat") if e != "bfloat" or v >= 310],
)
def test_kernels_compile(source, version, element):
    native = pytest.importorskip("mps_simulator._C", reason="the simulator compiles them")
    assert native.check_shader(f"#define ELEMENT {element}\n{source}", version) == ""


def test_a_generic_this_is_seen(source):
    """What Metal 4.1 refuses and 4.0 accepts, so that the versions above are told apart."""
    native = pytest.importorskip("mps_simulator._C", reason="the simulator compiles them")
    unqualified = source.replace("add_to_total() thread {", "add_to_total() {")
    assert unqualified != source
    assert native.check_shader(f"#define ELEMENT float\n{unqualified}", 400) == ""
    assert "'this' is generic" in native.check_shader(f"#define ELEMENT float\n{unqualified}", 410)
