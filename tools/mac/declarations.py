"""What our own headers declare, read from clang's syntax tree."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Place:
    path: str
    line: int

    def __str__(self) -> str:
        return f"{self.path}:{self.line}"


@dataclass(frozen=True)
class Selector:
    owner: str
    name: str
    returns: str
    arguments: tuple[str, ...]
    place: Place


@dataclass
class Headers:
    """Every declaration found in the folders asked for; types are spelt as written there."""

    classes: dict[str, Place] = field(default_factory=dict)
    protocols: dict[str, Place] = field(default_factory=dict)
    parents: dict[str, set[str]] = field(default_factory=dict)
    selectors: list[Selector] = field(default_factory=list)
    enums: dict[str, tuple[str, Place]] = field(default_factory=dict)
    enumerators: dict[str, tuple[int, Place]] = field(default_factory=dict)
    structs: dict[str, tuple[list[tuple[str, str]], Place]] = field(default_factory=dict)
    typedefs: dict[str, tuple[str, Place]] = field(default_factory=dict)
    functions: dict[str, tuple[str, Place]] = field(default_factory=dict)
    constants: dict[str, Place] = field(default_factory=dict)


def read(tree: str, folder: Path) -> Headers:
    """Reads clang's JSON tree of a source that includes the headers under `folder`."""
    headers = Headers()
    root = json.loads(tree)
    _Places(folder.resolve()).mark(root)
    for node in root.get("inner", []):
        _declaration(node, headers)
    return headers


class _Places:
    """Gives each node of the tree its place: clang writes a file or line only where it differs from the one before."""

    def __init__(self, folder: Path) -> None:
        self.folder = f"{folder}/"
        self.file = ""
        self.line = 0
        self.resolved: dict[str, str] = {}

    def mark(self, node: dict[str, Any]) -> None:
        for key, value in list(node.items()):
            if key == "loc":
                node["place"] = self._location(value)
            elif key == "range":
                for end in value.values():
                    self._location(end)
            elif key == "inner":
                for child in value:
                    self.mark(child)
            elif isinstance(value, dict):
                self.mark(value)

    def _location(self, location: dict[str, Any]) -> Place | None:
        if "spellingLoc" in location:
            self._location(location["spellingLoc"])
            return self._location(location["expansionLoc"])
        if not location:
            return None
        self.file = location.get("file", self.file)
        self.line = location.get("line", self.line)
        path = self.resolved.setdefault(self.file, str(Path(self.file).resolve()) if self.file else "")
        return Place(path, self.line) if path.startswith(self.folder) else None


def _declaration(node: dict[str, Any], headers: Headers) -> None:
    kind, name, place = node.get("kind"), node.get("name", ""), node.get("place")
    if kind == "LinkageSpecDecl":
        for child in node.get("inner", []):
            _declaration(child, headers)
    if place is None or node.get("isImplicit"):
        return
    if kind in ("ObjCInterfaceDecl", "ObjCProtocolDecl", "ObjCCategoryDecl"):
        _container(node, headers, place)
    elif kind == "EnumDecl" and node.get("inner"):
        if name:
            headers.enums[name] = (node.get("fixedUnderlyingType", {}).get("qualType", "int"), place)
        _enumerators(node, headers)
    elif kind == "CXXRecordDecl" and node.get("completeDefinition"):
        fields = [
            (child["name"], child["type"]["qualType"])
            for child in node.get("inner", [])
            if child["kind"] == "FieldDecl" and "name" in child
        ]
        headers.structs[name or node["id"]] = (fields, place)
    elif kind == "TypedefDecl":
        inner = node.get("inner") or [{}]
        owned = inner[0].get("ownedTagDecl", {})
        if owned.get("id") in headers.structs:
            headers.structs[name] = headers.structs.pop(owned["id"])
        else:
            headers.typedefs[name] = (node["type"]["qualType"], place)
    elif kind == "FunctionDecl":
        headers.functions[name] = (node["type"]["qualType"], place)
    elif kind == "VarDecl":
        headers.constants[name] = place


def _container(node: dict[str, Any], headers: Headers, place: Place) -> None:
    kind, name, children = node["kind"], node.get("name", ""), node.get("inner", [])
    bases = {base["name"] for base in [*node.get("protocols", []), node.get("super", {})] if "name" in base}
    if kind == "ObjCCategoryDecl":
        name = node["interface"]["name"]
    else:
        known = headers.protocols if kind == "ObjCProtocolDecl" else headers.classes
        if children or name not in known:  # of a definition and its forward declarations, the definition's place
            known[name] = place
    headers.parents.setdefault(name, set()).update(bases)
    for child in children:
        if child["kind"] == "ObjCMethodDecl":
            where = child.get("place") or place
            parameters = [part for part in child.get("inner", []) if part["kind"] == "ParmVarDecl"]
            arguments = tuple(part["type"]["qualType"] for part in parameters)
            headers.selectors.append(Selector(name, child["name"], child["returnType"]["qualType"], arguments, where))


def _enumerators(node: dict[str, Any], headers: Headers) -> None:
    value = -1
    for child in node["inner"]:
        if child["kind"] == "EnumConstantDecl":
            written = next(_constants(child), None)
            value = value + 1 if written is None else int(written)
            headers.enumerators[child["name"]] = (value, child["place"])


def _constants(node: dict[str, Any]) -> Iterator[str]:
    for child in node.get("inner", []):
        if child.get("kind") == "ConstantExpr":
            yield child["value"]
        else:
            yield from _constants(child)
