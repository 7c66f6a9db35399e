"""What of Metal's library a source calls, with the types it is called with, from the second reading's syntax tree."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from mps_simulator.msl import second

# A vector's components, constructors and operators, and what the reading itself writes, are not calls.
_NOT_CALLED = re.compile(r"operator\b.*|one|two|three|four|set_\w+|threadgroup_variable|stored")
_CALLED = re.compile(r".*DeclRefExpr 0x\w+ [^']*'[^']*' .*(?:Function|CXXMethod) (0x\w+) '([^']*)' '([^']*)'.*")
_MEMBER = re.compile(r".*MemberExpr 0x\w+ [^']*'<bound member function type>' [.>-]+(\w+) (0x\w+).*")
_FLAG = re.compile(r"EnumConstant 0x\w+ '(\w+)'")
_DECLARED = re.compile(r"(?:Function|CXXMethod|CXXConversion|CXXConstructor)Decl (0x\w+)")


@dataclass(frozen=True, order=True)
class Use:
    """`types` are those of the arguments; of a member function that of its object."""

    name: str
    types: tuple[str, ...]
    result: str = ""  # where the arguments do not tell

    def __str__(self) -> str:
        result = f"<{self.result}>" if self.result else ""
        return f"{self.name}{result}({', '.join(self.types)})"


def used(sources: Iterable[str]) -> set[Use]:
    """By the kernels of these sources, in all of their types."""
    found: set[Use] = set()
    for source, element in itertools.product(sources, ("float", "half", "bfloat")):
        tree = second.tree(source, 310, {"ELEMENT": element}).splitlines()
        own = {match[1] for line in tree if (match := _DECLARED.search(line))}
        found.update(_uses(tree, own))
    return found


def _uses(tree: list[str], own: set[str]) -> Iterator[Use]:
    for i, line in enumerate(tree):
        if (member := _MEMBER.fullmatch(line)) and member[2] not in own and not _NOT_CALLED.fullmatch(member[1]):
            yield Use(member[1], (_plain(re.findall(r"'([^']*)'", tree[i + 1])[-1]),))
        if not (called := _CALLED.fullmatch(line)) or called[1] in own or _NOT_CALLED.fullmatch(called[2]):
            continue
        result, _, parameters = called[3].rstrip(")").partition("(")
        types = [_plain(t) for t in re.split(r",\s*(?![^<]*>)", parameters)]
        name = called[2]
        if name == "simdgroup_load":  # the transposition is the last argument
            types = types[:2]
            if _has_last_argument(tree, i):
                yield Use(name, (*types, "transposed"))
        if name == "threadgroup_barrier":
            flags = (re.search(r"EnumConstant 0x\w+ '(\w+)'", later) for later in tree[i:])
            types = [f"mem_flags::{next(flag[1] for flag in flags if flag)}"]
        # as_type<To>, whose return type is written `enable_if_t<..., To>`.
        to = _plain(result.rstrip()[: -len(">")].rpartition(">, ")[2]) if name == "as_type" else ""
        yield Use(name, tuple(types), to)


def _has_last_argument(tree: list[str], i: int) -> bool:
    """Whether the call whose function is named in this line gives its last argument, or leaves the default."""
    call = tree[i - 2].index("CallExpr")
    last = ""
    for line in tree[i + 1 :]:
        depth = len(line) - len(line.lstrip("| `").removeprefix("-"))
        if depth <= call:
            break
        last = line if depth == call + 2 else last
    return "CXXDefaultArgExpr" not in last


def _plain(name: str) -> str:
    """A type in Metal's words, as short as they are."""
    for pattern, word in (
        (r"\b__private |\b__generic |\bconst |metal::|__private$|&", ""),
        (r"__local ", "threadgroup "),
        (r"__global ", "device "),
        (r"__constant ", "constant "),
        (r"__bf16", "bfloat"),
        (r"unsigned (\w+)", r"u\1"),
        (r"simdgroup_matrix<(\w+), 8, 8>", r"simdgroup_\g<1>8x8"),
        (r"\bvec<(\w+), (\d)>", r"\1\2"),
    ):
        name = re.sub(pattern, word, name)
    return name.strip(" >") if "<" not in name else name.strip()
