"""Holds the Metal headers of the simulator against Apple's metal-cpp: name by name, type by type, value by value."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field

from declarations import Headers, Place, Selector
from metal_cpp import MetalCpp, canonical_block

# Apple's Metal framework exports these; metal-cpp, which uses only some of the error domains, does not name them.
UNNAMED_CONSTANTS = {"MTLCommandBufferErrorDomain", "MTLLibraryErrorDomain"}
# Enumerators of macOS 27, of which there is no metal-cpp in a wheel yet; the values are those of Apple's SDK.
MACOS_27 = {"MTLLanguageVersion4_1": (4 << 16) + 1}
# What every Objective-C class has from NSObject, and metal-cpp from a template.
NSOBJECT = {"alloc", "copy", "init", "new"}
# Inline functions of Apple's C headers, which metal-cpp has as members: MTLSizeMake is MTL::Size::Make.
INLINE_FUNCTION = re.compile(r"(MTL\w+?)Make\w*")


@dataclass(frozen=True)
class Mismatch:
    place: Place
    message: str

    def __str__(self) -> str:
        return f"{self.place}: {self.message}"


@dataclass
class Comparison:
    counts: Counter[str] = field(default_factory=Counter)
    mismatches: list[Mismatch] = field(default_factory=list)

    def hold(self, what: str, place: Place, problem: str | None) -> None:
        self.counts[what] += 1
        if problem:
            self.mismatches.append(Mismatch(place, problem))


def compare(ours: Headers, apple: MetalCpp) -> Comparison:
    result = Comparison()
    for name, place in ours.classes.items():
        result.hold("classes", place, _container(name, "class", apple.classes, apple.protocols))
    for name, place in ours.protocols.items():
        result.hold("protocols", place, _container(name, "protocol", apple.protocols, apple.classes))
    for name, parents in ours.parents.items():
        for parent in sorted(parents):
            if parent.startswith("MTL"):
                place = ours.classes.get(name) or ours.protocols[name]
                right = parent in apple.ancestors(name)
                result.hold(
                    "inheritances", place, None if right else f"{name} does not inherit from {parent} in metal-cpp"
                )
    for selector in ours.selectors:
        result.hold("selectors", selector.place, _selector(selector, apple))
    for name, (kind, place) in ours.enums.items():
        result.hold("enums", place, _same(f"underlying type of {name}", canonical_block(kind), apple.enums.get(name)))
    for name, (value, place) in ours.enumerators.items():
        result.hold("enum values", place, _same(name, value, (apple.enumerators | MACOS_27).get(name)))
    for name, (fields, place) in ours.structs.items():
        spelt = [(label, canonical_block(kind)) for label, kind in fields]
        result.hold("structs", place, _same(f"struct {name}", spelt, apple.structs.get(name)))
    for name, (meaning, place) in ours.typedefs.items():
        _typedef(name, meaning, place, apple, result)
    for name, (kind, place) in ours.functions.items():
        result.hold("functions", place, _function(name, kind, apple))
    for name, place in ours.constants.items():
        result.hold(
            "constants",
            place,
            None if name in apple.constants | UNNAMED_CONSTANTS else f"metal-cpp knows no constant {name}",
        )
    return result


def compare_known(ours: Headers, apple: MetalCpp) -> Comparison:
    """Holds only those selectors and enumerators which metal-cpp has: of Foundation it wraps a part."""
    result = Comparison()
    for selector in ours.selectors:
        if apple.find(selector.owner, selector.name):
            result.hold("selectors", selector.place, _selector(selector, apple))
        else:
            result.counts["selectors unknown to metal-cpp"] += 1
    for name, (value, place) in ours.enumerators.items():
        if name in apple.enumerators:
            result.hold("enum values", place, _same(name, value, apple.enumerators[name]))
    return result


def _container(name: str, kind: str, right: set[str], wrong: set[str]) -> str | None:
    if name in right:
        return None
    return f"{name} is not a {kind} in metal-cpp" if name in wrong else f"metal-cpp knows no {kind} {name}"


def _same(what: str, ours: object, apple: object) -> str | None:
    if apple is None:
        return f"metal-cpp knows no {what}"
    return None if ours == apple else f"{what} is {ours}; metal-cpp says {apple}"


def _expand(type_text: str, apple: MetalCpp) -> str:
    spelt = canonical_block(type_text)
    match = re.fullmatch(r"(\w+)(\**)", spelt)
    if match and match.group(1) in apple.typedefs and match.group(1) not in ("NSInteger", "NSUInteger"):
        return apple.typedefs[match.group(1)] + match.group(2)
    return spelt


def _selector(ours: Selector, apple: MetalCpp) -> str | None:
    label = f"-[{ours.owner} {ours.name}]"
    if not apple.knows(ours.owner):
        return None  # said already of the class itself
    candidates = apple.find(ours.owner, ours.name)
    if ours.name in NSOBJECT and ours.owner in apple.classes:
        return None
    if not candidates:
        if ours.name not in apple.selectors:
            return f"{label}: metal-cpp knows no selector {ours.name}"
        return f"{label}: metal-cpp has the selector, but not in {ours.owner}"
    instance = f"{ours.owner}*" if ours.returns.split()[0] == "instancetype" else ours.returns
    spelt = [_expand(text, apple) for text in (instance, *ours.arguments)]
    known = [[_expand(text, apple) for text in (found.returns, *found.arguments)] for found in candidates]
    if any(_agree(spelt, types) for types in known):
        return None
    return f"{label} is {_signature(spelt)}; metal-cpp says {_signature(known[0])}"


def _agree(ours: list[str], apple: list[str]) -> bool:
    return len(ours) == len(apple) and all(a == b or ("id" in (a, b) and "*" in a + b) for a, b in zip(ours, apple))


def _signature(types: list[str]) -> str:
    return f"{types[0]} ({', '.join(types[1:])})"


def _typedef(name: str, meaning: str, place: Place, apple: MetalCpp, result: Comparison) -> None:
    if name in apple.enums:
        spelt = canonical_block(meaning)
        if spelt != name:  # a set of options: in C++ its type is the integer
            result.hold("enums", place, _same(f"underlying type of {name}", spelt, apple.enums[name]))
    else:
        result.hold("typedefs", place, _same(f"type {name}", canonical_block(meaning), apple.typedefs.get(name)))


def _function(name: str, kind: str, apple: MetalCpp) -> str | None:
    if match := INLINE_FUNCTION.fullmatch(name):
        known = match.group(1) in apple.structs
        return None if known else f"metal-cpp knows no struct {match.group(1)} for {name} to make"
    if not apple.functions.get(name):
        return f"metal-cpp knows no function {name}"
    return _same(f"function {name}", canonical_block(kind), apple.functions[name])
