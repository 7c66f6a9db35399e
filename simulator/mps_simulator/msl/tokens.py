"""A shader's tokens, as clang's preprocessor leaves them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from mps_simulator.msl.diagnostics import Diagnostic, Refused
from mps_simulator.msl.toolchain import HEADERS, NAME, clang_on

VERSIONS = {"metal3.0": 300, "metal3.1": 310, "metal3.2": 320, "metal4.0": 400, "metal4.1": 410}

_TOKEN = re.compile(r"\w+ '(.*)'\t(?: \[\w+(?:='.*')?\])*\tLoc=<([^<>]*):(\d+):(\d+)(?: <Spelling=(.*):(\d+):(\d+)>)?>")
_LINE = re.compile(r"^[ \t]*#[ \t]*line\b.*", re.MULTILINE)
_ERROR = re.compile(rf"{NAME}:(\d+):(\d+): (?:fatal )?error: (.*)")


@dataclass(frozen=True)
class Token:
    """A token and where it stands in the source; what a macro made of itself stands where the macro is used."""

    text: str
    line: int
    column: int

    @property
    def is_name(self) -> bool:
        return self.text[0].isalpha() or self.text[0] == "_"


def tokens(source: str, version: int, macros: dict[str, str]) -> list[Token]:
    """Raises Refused where the preprocessor does: #error, a header that is missing.

    Lines are counted as they stand in the source, whatever its #line directives say of them.
    """
    defined = {"__METAL__": "1", "__METAL_MACOS__": "1", "__METAL_VERSION__": str(version), "__AIR64__": "1", **macros}
    done = clang_on(
        _LINE.sub("", source),
        [
            *("-x", "c++", "-std=c++17", "-undef", "-nostdinc", "-fsyntax-only", "-Xclang", "-dump-tokens"),
            *("-ivfsoverlay", str(HEADERS / "overlay.yaml"), f"-I{HEADERS / 'metal'}"),
            *(f"-D{name}={value}" for name, value in defined.items()),
        ],
    )
    found, errors = [], []
    for line in done.stderr.splitlines():
        token = _TOKEN.fullmatch(line)
        if token and token[2] == NAME and token[1]:
            place, spelled = (int(token[3]), int(token[4])), (int(token[6] or 0), int(token[7] or 0))
            # Behind the macro's name stand its arguments; before, its definition.
            found.append(Token(token[1], *(spelled if token[5] == NAME and spelled > place else place)))
        elif error := _ERROR.fullmatch(line):
            errors.append(Diagnostic(int(error[1]), int(error[2]), error[3]))
    if errors:
        raise Refused(errors)
    return found
