"""Finds and loads the compiled operators, _bridge/torch_<major>_<minor>.so, of which a package may have several."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import torch

PACKAGE = Path(__file__).parent
REINSTALL = "reinstall it: pip install --force-reinstall --no-deps mps-conv-transpose3d"
BUILD = (
    "update it: pip install --upgrade mps-conv-transpose3d; or build it beside this torch: pip install "
    "--force-reinstall --no-deps --no-build-isolation --no-binary=:all: mps-conv-transpose3d"
)


@dataclass(frozen=True)
class Bridge:
    """How loading went."""

    error: str | None  # why the compiled operators cannot be used, with what to do; None when they are loaded
    may_have_mps: bool  # whether this machine can have an `mps` device to serve


@dataclass(frozen=True)
class Binary:
    """What build.json says of a bridge."""

    file: str
    sha256: str
    torch: dict[str, str]  # the releases that it serves, and the commit that each was built from


@dataclass(frozen=True)
class Build:
    """What build.json says of the installed package."""

    missing: list[str]  # what a bridge would have needed
    bridges: list[Binary]

    @property
    def releases(self) -> list[str]:
        """Of torch, those that any bridge serves."""
        return [release for bridge in self.bridges for release in bridge.torch]


@functools.cache
def load() -> Bridge:
    """Load the operators into PyTorch, once. Raises nothing.

    Whether there is an `mps` device is not asked: PyTorch remembers its first answer for ever, and during
    `import torch` it may come too early. What can be known without asking: whether PyTorch was built for one, and
    whether Metal was there when this package was.
    """
    built_for_mps = torch.backends.mps.is_built()
    try:
        build = read_build()
    except (OSError, ValueError) as error:
        reason = f"not installed by pip ({PACKAGE / 'build.json'}: {error}); {REINSTALL}"
        return Bridge(reason, built_for_mps or (PACKAGE / "_bridge").exists())
    may_have_mps = built_for_mps or "METAL" not in build.missing
    if not build.bridges:
        reason = f"not built for want of {', '.join(build.missing) or PACKAGE / '_bridge'}"
        return Bridge(f"{reason}; {BUILD}" if may_have_mps else reason, may_have_mps)
    try:
        bridge = choose(build, str(torch.__version__), torch.version.git_version)
    except RuntimeError as error:
        return Bridge(f"{error}; {BUILD}", True)
    try:
        _load(bridge)
    except Exception as error:
        # PyTorch names the file, and the loader's words are in what it was raised from.
        words = f"{error}: {error.__cause__}" if error.__cause__ else str(error)
        return Bridge(f"{' '.join(words.split())}; {REINSTALL}", True)
    return Bridge(None, True)


def read_build() -> Build:
    """What build.json says. Raises OSError or ValueError."""
    record = json.loads((PACKAGE / "build.json").read_text(encoding="utf-8"))
    try:
        build = Build(list(record["missing"]), [Binary(**bridge) for bridge in record["bridges"]])
        releases = [word for bridge in build.bridges for release in bridge.torch.items() for word in release]
    except (AttributeError, KeyError, TypeError):
        raise ValueError("no record of a build") from None
    words = [*build.missing, *(word for bridge in build.bridges for word in (bridge.file, bridge.sha256)), *releases]
    if not all(isinstance(word, str) for word in words):
        raise ValueError("no record of a build")
    return build


def choose(build: Build, release: str, commit: str | None) -> Binary:
    """The bridge that was built with the headers of this torch. Raises RuntimeError if there is none.

    A bridge has offsets of torch's members compiled in: what it was not held against when it was built is not tried,
    be it newer, a nightly, or built by somebody from other sources.
    """
    for bridge in build.bridges:
        if release in bridge.torch:
            if bridge.torch[release] != str(commit):
                raise RuntimeError(f"this torch {release} is a build of its own (of {commit})")
            return bridge
    raise RuntimeError(f"built for torch {', '.join(build.releases)}, but this is torch {release}")


def _load(bridge: Binary) -> None:
    """Raises OSError or RuntimeError."""
    library = PACKAGE / "_bridge" / bridge.file
    # A file that was cut short, or replaced, can end the process once the loader maps it.
    if hashlib.sha256(library.read_bytes()).hexdigest() != bridge.sha256:
        raise RuntimeError(f"{library}: not the file that was installed")
    if sys.platform == "darwin":
        check_libtorch(loaded_images("libtorch_cpu.dylib"), Path(torch.__file__).parent / "lib" / "libtorch_cpu.dylib")
    torch.ops.load_library(str(library))


def check_libtorch(images: list[Path], own: Path) -> None:
    """Raises RuntimeError unless the one libtorch in this process is torch's own.

    dyld gives a bridge the image that was loaded first under the name @rpath/libtorch_cpu.dylib, and looks into folders
    only if there is none (tools/mac/README.md). A second libtorch would register its operators again, and that ends the
    process.
    """
    if len(images) != 1 or not (own.exists() and images[0].samefile(own)):
        found = ", ".join(map(str, images)) or "none"
        raise RuntimeError(f"the libtorch that is loaded ({found}) is not that of {torch.__file__}")


def loaded_images(name: str) -> list[Path]:
    """Of the libraries in this process, those whose file has this name. macOS alone."""
    dyld = ctypes.CDLL(None)
    dyld._dyld_get_image_name.restype = ctypes.c_char_p
    images = [dyld._dyld_get_image_name(ctypes.c_uint32(i)) for i in range(dyld._dyld_image_count())]
    return [Path(os.fsdecode(image)) for image in images if image and image.endswith(f"/{name}".encode())]
