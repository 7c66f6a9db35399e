"""Installing from source: on a Mac it succeeds whole or fails with what helps; elsewhere it always succeeds.

The real runs of pip are of a copy of the sources, in an environment that claims to be an Apple-silicon Mac.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ON_SIMULATOR

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ("setup.py", "pyproject.toml", "README.md", "CMakeLists.txt", "cmake", "csrc", "metal", "python")

spec = importlib.util.spec_from_file_location("setup", ROOT / "setup.py")
assert spec is not None and spec.loader is not None
setup = importlib.util.module_from_spec(spec)
spec.loader.exec_module(setup)

BESIDE_TORCH = 'pip install "torch>=2.4" setuptools cmake ninja pybind11 && pip install --no-build-isolation .'
COMMAND_LINE_TOOLS = "xcode-select --install"

# What setup.py, and nothing else, is told of the machine.
CLAIM = """
import platform, sys
def claim(name, answer):
    real = getattr(platform, name)
    def told():
        return answer if sys._getframe(1).f_globals.get("__file__", "").endswith("setup.py") else real()
    setattr(platform, name, told)
claim("system", "Darwin")
claim("machine", "arm64")
"""


@pytest.mark.parametrize(
    ("setting", "system", "machine", "bridge"),
    [
        (None, "Darwin", "arm64", "REQUIRED"),
        ("", "Darwin", "arm64", "REQUIRED"),
        ("0", "Darwin", "arm64", "NONE"),
        ("1", "Darwin", "arm64", "REQUIRED"),
        (None, "Darwin", "x86_64", "WHERE_POSSIBLE"),
        (None, "Linux", "x86_64", "WHERE_POSSIBLE"),
        (None, "Linux", "arm64", "WHERE_POSSIBLE"),
        (None, "Windows", "AMD64", "WHERE_POSSIBLE"),
        ("0", "Linux", "x86_64", "NONE"),
        ("1", "Windows", "AMD64", "REQUIRED"),
    ],
)
def test_what_is_required(setting, system, machine, bridge):
    environment = {} if setting is None else {"MPS_CONV_TRANSPOSE3D_BRIDGE": setting}
    assert setup.wanted(environment, system, machine).name == bridge


def test_another_setting_is_refused():
    with pytest.raises(SystemExit, match="MPS_CONV_TRANSPOSE3D_BRIDGE is 'yes'"):
        setup.wanted({"MPS_CONV_TRANSPOSE3D_BRIDGE": "yes"}, "Linux", "x86_64")


# What CMake, compilers, linkers and Apple's stand-ins for tools that are not installed say; the first error in it; and
# the line that mends it on a Mac.
FAILURES = {
    "no command-line tools": (
        """
-- The CXX compiler identification is unknown
CMake Error at CMakeLists.txt:6 (project):
  The CMAKE_CXX_COMPILER:

    /usr/bin/c++

  is not able to compile a simple test program.

  It fails with the following output:

    xcode-select: note: No developer tools were found, requesting install.

-- Configuring incomplete, errors occurred!
""",
        "CMake Error at CMakeLists.txt:6 (project): The CMAKE_CXX_COMPILER: /usr/bin/c++ is not able to compile a "
        "simple test program.",
        COMMAND_LINE_TOOLS,
    ),
    "command-line tools gone with an update": (
        """
xcrun: error: invalid active developer path (/Library/Developer/CommandLineTools), missing xcrun at: /Library/...
CMake Error at CMakeLists.txt:6 (project):
  No CMAKE_CXX_COMPILER could be found.
""",
        "xcrun: error: invalid active developer path (/Library/Developer/CommandLineTools), missing xcrun at: "
        "/Library/...",
        COMMAND_LINE_TOOLS,
    ),
    "no ninja": (
        """
CMake Error: CMake was unable to find a build program corresponding to "Ninja".  CMAKE_MAKE_PROGRAM is not set.  You \
probably need to select a different build tool.
CMake Error: CMAKE_CXX_COMPILER not set, after EnableLanguage
""",
        'CMake Error: CMake was unable to find a build program corresponding to "Ninja". CMAKE_MAKE_PROGRAM is not '
        "set. You probably need to select a different build tool.",
        BESIDE_TORCH,
    ),
    "no such name": (
        """
[1/2] Building OBJCXX object encoding.mm.o
FAILED: [code=1] encoding.mm.o
/usr/bin/clang++ -DCMAKE_CXX_COMPILER -Werror -c encoding.mm
In file included from encoding.mm:3:
kernels.h:10:3: error: unknown type name 'id'
   10 |   id<MTLDevice> device;
ninja: build stopped: subcommand failed.
""",
        "kernels.h:10:3: error: unknown type name 'id'",
        None,
    ),
    "no such symbol": (
        """
Undefined symbols for architecture arm64:
  "at::forgotten()", referenced from:
      f() in operators.cpp.o
ld: symbol(s) not found for architecture arm64
clang: error: linker command failed with exit code 1 (use -v to see invocation)
""",
        'Undefined symbols for architecture arm64: "at::forgotten()", referenced from:',
        None,
    ),
    "something else": ("configuring\nkilled\n", "killed", None),
}


@pytest.mark.parametrize("failure", FAILURES)
def test_the_first_error_and_what_helps(failure):
    output, error, remedy = FAILURES[failure]
    assert setup.first_error(output) == error
    told = setup.refusal(setup.NotBuilt(error, output), "Darwin").splitlines()
    assert told[0] == f"mps-conv-transpose3d was not built: {error}"
    assert [line.strip() for line in told if line.startswith("    ")] == ([] if remedy is None else [remedy])
    assert "MPS_CONV_TRANSPOSE3D_BRIDGE=0" in told[-1]
    assert COMMAND_LINE_TOOLS not in setup.refusal(setup.NotBuilt(error, output), "Linux")


@pytest.fixture
def install(tmp_path: Path) -> Callable[..., tuple[int, str, Path]]:
    """`install(*options, mac=True, **environment)`: pip's exit code, what it said, where it installs the package."""
    source, target, environment = tmp_path / "source", tmp_path / "installed", tmp_path / "environment"
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
        else:
            source.mkdir(exist_ok=True)
            shutil.copy(ROOT / name, source)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    python = environment / "bin" / "python"
    asked = [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    packages = Path(subprocess.check_output(asked, text=True).strip())

    def run(*options: str, mac: bool = True, **changes: str) -> tuple[int, str, Path]:
        claim = f"import sys; exec({CLAIM!r}, {{}})\n" if mac else ""
        (packages / "environment.pth").write_text(f"{sysconfig.get_path('purelib')}\n{claim}")
        command = [python, "-m", "pip", "install", "--no-deps", "--target", target, *options, source]
        env = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            # Neither package need be switched on while it is being built.
            "MPS_SIMULATOR": "0",
            "MPS_CONV_TRANSPOSE3D": "0",
            **changes,
        }
        done = subprocess.run(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        return done.returncode, done.stdout, target / "mps_conv_transpose3d"

    return run


@pytest.fixture
def toolchain() -> dict[str, str]:
    """The environment in which CMake finds Metal: nothing on a Mac, the simulator elsewhere."""
    if not ON_SIMULATOR:
        return {}
    command = [sys.executable, "-m", "mps_simulator", "toolchain"]
    return {"CMAKE_TOOLCHAIN_FILE": subprocess.check_output(command, text=True).strip()}


def refused_with(remedy: str | None, error: str, outcome: tuple[int, str, Path]) -> None:
    code, output, package = outcome
    assert code != 0, output
    assert f"mps-conv-transpose3d was not built: {error}" in output
    assert not package.exists()
    # pip indents what it repeats.
    said = [line.strip() for line in output.splitlines()]
    remedies = [line for line in (BESIDE_TORCH, COMMAND_LINE_TOOLS) if line in said]
    assert remedies == ([] if remedy is None else [remedy]), output


def test_mac_without_a_compiler(install):
    outcome = install("--no-build-isolation", CXX="/nonexistent")
    refused_with(COMMAND_LINE_TOOLS, "CMake Error at ", outcome)
    assert "Could not find the compiler specified in the environment variable CXX: /nonexistent." in outcome[1]


def test_mac_without_torch_in_isolation(install):
    refused_with(BESIDE_TORCH, "for want of Torch", install())


def test_mac_without_cmake(install, tmp_path):
    refused_with(BESIDE_TORCH, "[Errno 2]", install("--no-build-isolation", PATH=str(tmp_path)))


def test_mac_without_metal(install, simulator):
    refused_with(COMMAND_LINE_TOOLS, "for want of METAL, FOUNDATION", install("--no-build-isolation"))


def test_mac_with_a_fault_in_a_source(install, toolchain, tmp_path):
    planner = tmp_path / "source" / "csrc" / "planner" / "problem.cpp"
    planner.write_text(f"#error broken on purpose\n{planner.read_text()}")
    refused_with(None, f"{planner}:1:2: error: broken on purpose", install("--no-build-isolation", **toolchain))


def test_nothing_is_compiled_where_nobody_wants_it(install, tmp_path):
    settings = {"MPS_CONV_TRANSPOSE3D_BRIDGE": "0", "CXX": "/nonexistent", "PATH": str(tmp_path)}
    code, output, package = install("--no-build-isolation", **settings)
    assert code == 0, output
    assert list(package.rglob("*.so")) == []
    build = json.loads((package / "build.json").read_text())
    assert build == {"missing": ["MPS_CONV_TRANSPOSE3D_BRIDGE=1"], "bridges": []}


def test_elsewhere_it_is_installed_and_inert(install, run_python, simulator):
    code, output, package = install("--no-build-isolation", mac=False)
    assert code == 0, output
    assert json.loads((package / "build.json").read_text())["missing"] == ["METAL", "FOUNDATION"]
    assert [path.name.partition(".")[0] for path in package.rglob("*.so")] == ["_plan"]
    inert(package, run_python, "not built for want of METAL, FOUNDATION")


def test_elsewhere_without_a_compiler_it_is_installed_and_inert(install, run_python, simulator):
    code, output, package = install("--no-build-isolation", mac=False, CXX="/nonexistent")
    assert code == 0, output
    assert list(package.rglob("*.so")) == []
    inert(package, run_python, "not built for want of a build without errors (CMake Error at ")


def inert(package: Path, run_python: Callable[..., subprocess.CompletedProcess[str]], reason: str) -> None:
    program = """
import torch, mps_conv_transpose3d as m
m.enable()
print(m.__file__, m.is_enabled(), torch._C._dispatch_has_kernel_for_dispatch_key("aten::_convolution", "MPS"))
print(m.unavailable_reason())
"""
    result = run_python(program, PYTHONPATH=str(package.parent), PYTHONWARNINGS="always", MPS_SIMULATOR="0")
    assert result.stderr == ""
    assert result.stdout.startswith(f"{package / '__init__.py'} False False\n{reason}")


def test_elsewhere_it_can_be_required(install, simulator):
    outcome = install("--no-build-isolation", mac=False, MPS_CONV_TRANSPOSE3D_BRIDGE="1")
    refused_with(None, "for want of METAL, FOUNDATION", outcome)
