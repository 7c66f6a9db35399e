"""Apple's own list of Metal's names: read from metal-cpp, whose inline methods name every selector and type."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

# Enumerators whose value in metal-cpp is known to be wrong; the right one follows from the definition beside it.
# MTLResourceStorageModeMemoryless is MTLStorageModeMemoryless (3) << 4, as for the other storage modes.
ENUM_ERRATA = {"MTLResourceStorageModeMemoryless": 48}


@dataclass(frozen=True)
class Method:
    """One selector of one class, its types spelt as `canonical` spells them."""

    selector: str
    returns: str
    arguments: tuple[str, ...]


@dataclass
class MetalCpp:
    """Names as an Objective-C program writes them: `MTLBuffer`, not `MTL::Buffer`."""

    classes: set[str] = field(default_factory=set)
    protocols: set[str] = field(default_factory=set)
    selectors: set[str] = field(default_factory=set)
    metal_selectors: set[str] = field(default_factory=set)
    methods: dict[str, dict[str, list[Method]]] = field(default_factory=dict)
    parents: dict[str, str] = field(default_factory=dict)
    enums: dict[str, str] = field(default_factory=dict)
    enumerators: dict[str, int] = field(default_factory=dict)
    structs: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    typedefs: dict[str, str] = field(default_factory=dict)
    functions: dict[str, str] = field(default_factory=dict)
    constants: set[str] = field(default_factory=set)

    def find(self, owner: str, selector: str) -> list[Method]:
        """The typed declarations of `selector` in `owner` or the classes above it."""
        while owner:
            found = self.methods.get(owner, {}).get(selector)
            if found:
                return found
            owner = self.parents.get(owner, "")
        return []

    def ancestors(self, name: str) -> set[str]:
        above = set()
        while name := self.parents.get(name, ""):
            above.add(name)
        return above

    def knows(self, name: str) -> bool:
        return name in self.classes or name in self.protocols or name in self.methods


def canonical(type_text: str) -> str:
    """A type's spelling with all that Objective-C and C++ write differently taken away.

    `const MTL::Buffer* const`, `id<MTLBuffer> _Nonnull` -> `MTLBuffer*`; `NSArray<NSString *> *` -> `NSArray*`.
    """
    text = re.sub(r"\b(MTL4?|NS)::", r"\1", type_text)
    text = re.sub(
        r"\bstd::|\b(const|class|struct|enum|__autoreleasing|__strong|__kindof|__unsafe_unretained)\b", "", text
    )
    text = re.sub(r"\b(_Nonnull|_Nullable|_Null_unspecified|nonnull|nullable)\b", "", text)
    text = re.sub(r"\bid<(\w+)>", r"\1*", text)
    while re.search(r"\b(NS\w+)\s*<[^<>]*>", text):
        text = re.sub(r"\b(NS\w+)\s*<[^<>]*>", r"\1", text)
    text = re.sub(r"\bNS_RETURNS_\w+", "", text)
    text = re.sub(r"\b(NSObject|_Object)\s*\*|\b(Element|Key|Value)(<\w+>)?(?=[\s*]|$)", "id", text)
    text = text.replace("BOOL", "bool").replace("CFTimeInterval", "double").replace("NSTimeInterval", "double")
    text = re.sub(r"\bunsigned long long\b", "uint64_t", text)
    text = re.sub(r"\[\w*\]", "*", text)
    text = re.sub(r"\(\^\s*\w*\s*\)", "(^)", text)
    return re.sub(r"\s+", " ", re.sub(r"\s*([*(),^])\s*", r"\1", text)).strip()


def canonical_block(type_text: str) -> str:
    """As `canonical`, for a block: the names of its parameters are taken away too."""
    match = re.fullmatch(r"(.*?)\(\^\)\((.*)\)", canonical(type_text))
    if not match:
        return canonical(type_text)
    parameters = (re.sub(r"(?<=[\s*])(?!id$)[a-z]\w*$", "", part).strip() for part in split_arguments(match.group(2)))
    kept = ",".join(part for part in parameters if part not in ("", "void"))
    return f"{match.group(1)}(^)({kept})"


def split_arguments(text: str) -> list[str]:
    """Splits at the commas that stand in no bracket."""
    parts, depth, current = [], 0, ""
    for character in text:
        depth += character in "(<[{"
        depth -= character in ")>]}"
        if character == "," and depth == 0:
            parts.append(current.strip())
            current = ""
        else:
            current += character
    return [*parts, current.strip()] if current.strip() else parts


def _parameter(text: str) -> tuple[str, str]:
    """(name, type) of one C++ parameter."""
    if block := re.search(r"\(\^\s*(\w+)\s*\)", text):
        return block.group(1), text.replace(block.group(0), "(^)")
    match = re.fullmatch(r"(.*?)(\w+)\s*(\[\w*\])?", text.strip(), re.DOTALL)
    return (match.group(2), match.group(1) + ("*" if match.group(3) else "")) if match else (text, text)


class _Reader:
    """Fills a MetalCpp from the text of headers.

    `names` are the types that each namespace declares; `spelling` gives the selector for metal-cpp's name of it.
    """

    def __init__(self, api: MetalCpp, names: dict[str, set[str]], spelling: dict[tuple[str, str], str]) -> None:
        self.api = api
        self.names = names
        self.spelling = spelling

    def type(self, text: str, namespace: str) -> str:
        """Canonical, with the names that the namespace's own code leaves unqualified given their prefix."""
        text = re.sub(r"\bNS::Object\b", "NSObject", text)

        def qualify(match: re.Match[str]) -> str:
            name = match.group(0)
            return f"{namespace}{name}" if name in self.names[namespace] else name

        return canonical_block(re.sub(r"(?<![\w:])[A-Z]\w*\b(?!::)", qualify, text))

    def read(self, text: str, namespace: str) -> None:
        self._enums(text, namespace)
        self._types(text, namespace)
        self._methods(text)

    def _enums(self, text: str, namespace: str) -> None:
        for kind, name, body in re.findall(
            r"_(?:MTL|NS)_(?:ENUM|OPTIONS)\((\S+), (\w+)\)\s*\{(.*?)\};", text, re.DOTALL
        ):
            self.api.enums[namespace + name] = canonical(kind)
            value = -1
            for entry in re.sub(r"//[^\n]*", "", body).split(","):
                label, _, expression = (part.strip() for part in entry.partition("="))
                if not label:
                    continue
                value = self._evaluate(expression, namespace) if expression else value + 1
                self.api.enumerators[namespace + label] = value

    def _evaluate(self, expression: str, namespace: str) -> int:
        known = {
            name[len(namespace) :]: value for name, value in self.api.enumerators.items() if name.startswith(namespace)
        }
        known |= {"UIntegerMax": (1 << 64) - 1, "IntegerMax": (1 << 63) - 1}
        plain = re.sub(r"\b(?:NS|MTL4?)::", "", expression)
        plain = re.sub(r"\b(0x[0-9A-Fa-f]+|\d+)[uUlL]+\b", r"\1", plain)
        return int(eval(plain, {"__builtins__": {}}, known))

    def _types(self, text: str, namespace: str) -> None:
        for name, base in re.findall(
            r"^class (\w+) : public NS::(?:Referencing|Copying|SecureCoding)<(.*)>$", text, re.M
        ):
            parts = split_arguments(base)
            self.api.methods.setdefault(namespace + name, {})
            if len(parts) > 1:
                self.api.parents[namespace + name] = self.type(parts[1], namespace)
        for name, body in re.findall(r"^struct (\w+)\s*\{(.*?)^\}", text, re.M | re.S):
            fields = re.findall(r"^ {4}([\w:]+(?: [\w:]+)*)\s+(\w+)(\[\d+\])?;", body, re.M)
            self.api.structs[namespace + name] = [(label, self.type(kind, namespace)) for kind, label, _ in fields]
        for name, meaning in re.findall(r"^ *using (\w+)\s*=\s*([^;]+);", text, re.M):
            if "std::function" not in meaning:
                self.api.typedefs[namespace + name] = self.type(meaning, namespace)
        for returns, name, parameters in re.findall(r'^extern "C" (.+?)\s*(\w+)\((.*)\);', text, re.M):
            arguments = ",".join(self.type(part, namespace) for part in split_arguments(parameters))
            self.api.functions[name] = f"{self.type(returns, namespace)}({arguments})"
        for name in re.findall(r"MTL_DEF_FUNC\(\s*(\w+)", text):
            self.api.functions.setdefault(name, "")
        for name in re.findall(r"(?:_MTL|_NS)_(?:PRIVATE_DEF_\w+|CONST)\([\w:]+, (\w+)\)", text):
            self.api.constants.add(namespace + name)

    def _methods(self, text: str) -> None:
        definition = r"^_(?:MTL|NS)_INLINE .*?(MTL4?|NS)::(\w+)::\w+\((.*)\)(?: const)?\n\{\n([\s\S]*?)^\}"
        for namespace, owner, parameters, body in re.findall(definition, text, re.M):
            call = re.search(
                r"sendMessage(?:Safe)?<(.+?)>\((?:this|_\w+_PRIVATE_CLS\(\w+\)),\s*_\w+_PRIVATE_SEL\((\w+)\)(.*?)\);",
                body,
                re.S,
            )
            if not call:
                continue
            returns, accessor, passed = call.groups()
            types = dict(_parameter(part) for part in split_arguments(parameters))
            selector = self.spelling.get((namespace, accessor)) or self.spelling.get(("MTL", accessor), accessor)
            arguments = tuple(
                self.type(types.get(name, "?"), namespace) for name in split_arguments(passed.lstrip(", "))
            )
            method = Method(selector, self.type(returns, namespace), arguments)
            self.api.methods.setdefault(namespace + owner, {}).setdefault(selector, []).append(method)


def _without_preprocessor(text: str) -> str:
    return re.sub(r"^ *#(?:[^\n]*\\\n)*[^\n]*", "", text, flags=re.M)


def read(root: Path) -> MetalCpp:
    """Reads `root/Metal` and `root/Foundation`, the two folders of metal-cpp that matter here."""
    api = MetalCpp()
    texts = [
        (path, "NS" if folder == "Foundation" else "MTL", _without_preprocessor(path.read_text()))
        for folder in ("Foundation", "Metal")
        for path in sorted((root / folder).glob("*.hpp"))
    ]
    names: dict[str, set[str]] = {"MTL": set(), "MTL4": set(), "NS": set()}
    spelling: dict[tuple[str, str], str] = {}
    for path, framework, text in texts:
        namespace = "MTL4" if path.name.startswith("MTL4") else framework
        names[namespace] |= set(re.findall(r"^(?:class|struct) (\w+)\b(?! *;)", text, re.M))
        names[namespace] |= set(re.findall(r"^class (\w+) :", text, re.M))
        names[namespace] |= set(re.findall(r"_(?:MTL|NS)_(?:ENUM|OPTIONS)\(\S+, (\w+)\)", text))
        names[namespace] |= set(re.findall(r"^ *using (\w+)\s*=", text, re.M))
        for accessor, selector in re.findall(r'_PRIVATE_DEF_SEL\(\s*(\w+),\s*"([^"]+)"\)', text):
            spelling[(framework, accessor)] = selector
            api.selectors.add(selector)
            if framework == "MTL":
                api.metal_selectors.add(selector)
        api.classes |= set(re.findall(r"_PRIVATE_DEF_CLS\((\w+)\)", text))
        api.protocols |= set(re.findall(r"_PRIVATE_DEF_PRO\((\w+)\)", text))
    reader = _Reader(api, names, spelling)
    for path, framework, text in texts:
        reader.read(text, "MTL4" if path.name.startswith("MTL4") else framework)
    api.enumerators |= ENUM_ERRATA
    return api
