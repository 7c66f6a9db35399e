"""Metal's tokens as C++ for OpenCL.

clang knows the address spaces, the vectors' operators aside, as Metal does. What it lacks is written into the tokens:
attributes go, kernels become functions, `threadgroup` variables references, function constants `extern`, structs get
the copies out of `constant` that Metal has, and up to MSL 4.0 member functions say that their `this` is a thread's.
"""

from __future__ import annotations

from dataclasses import dataclass

from mps_simulator.msl.diagnostics import Diagnostic
from mps_simulator.msl.text import Text
from mps_simulator.msl.tokens import Token

SPACES = {"thread", "device", "threadgroup", "constant"}
GENERIC = 410  # since then a pointer, a reference or `this` without an address space is generic
LAMBDAS = 320

# What Metal leaves out of C++ and C++ for OpenCL has.
_BANNED = {
    "goto": "'goto' is not supported in Metal",
    "asm": "inline assembly is not supported in Metal",
    "__asm__": "inline assembly is not supported in Metal",
    "virtual": "virtual member functions are not supported in Metal",
    "wchar_t": "'wchar_t' is not supported in Metal",
}


@dataclass
class _Scope:
    kind: str  # "namespace", "record", "function"; "other": a list of initial values, an enumeration
    head: int  # the token that begins the present declaration or statement
    kernel: bool = False
    name: str = ""  # of the record


class Program(Text):
    """The tokens of a shader, rewritten, and what is refused on the way."""

    def __init__(self, tokens: list[Token], version: int) -> None:
        super().__init__(tokens)
        self.version = version
        self.errors: list[Diagnostic] = []
        self._attributes: dict[int, set[str]] = {}  # names, by the token that opens the list
        self._members: set[tuple[str, str]] = set()  # functions with `this`, by the names of struct and function
        # The thread's, by struct: where they begin, their parameters end, what follows and their bodies begin.
        self._constructors: dict[str, list[tuple[int, int, int, int]]] = {}
        self._variables = 0
        self._words()
        self._remove_attributes()
        self._structure()

    def as_values(self, question: int) -> bool:
        """Takes the operands of the `?` at this token as values; false if that is done already."""
        if self.written[question] != "?":
            return False
        colon = self._next(question + 1, ":")
        end = self._next(colon + 1, ")", "]", "}", ",", ";", ":")
        if end >= len(self.tokens):
            return False
        self.written[question] += " metal::AsValue() ||"
        if "?" not in (self._at(i) for i in range(colon, end)):
            self.written[colon] += " metal::AsValue() ||"
        return True

    def as_stored(self, call: int, n: int) -> bool:
        """Takes the nth argument of the call at this token, a temporary, as an object of the thread's."""
        begin = self._next(call, "(")
        close = self._closing(begin)
        for _ in range(n - 1):
            begin = self._next(begin + 1, ",")
        end = min(close, self._next(begin + 1, ","))
        if begin >= close or "stored" in self.written[begin]:
            return False
        self.written[begin] += " metal::stored("
        self.written[end] = ")" + self.written[end]
        return True

    def construct_values(self, token: int) -> bool:
        """Lets the constructors of the struct that this token names construct what is no variable: values, members.

        In Metal these are the thread's, and for clang in no address space: there are constructors for any.
        """
        constructors = self._constructors.pop(self._at(token), [])
        for head, close, after, end in constructors:
            written = " ".join(self.written[head:close]).removesuffix(" thread")
            if "constexpr" in (self._at(i) for i in range(head, close)) and self._at(end) == "{":
                written += " " + " ".join(self.written[after : self._closing(end) + 1])
            self.written[head] = f"{written}; {self.written[head]}"
        return bool(constructors)

    def is_head(self, i: int) -> bool:
        """Whether what stands at this token is a struct or a lambda, of which clang made something by itself."""
        records = ("struct", "class", "union")
        return self._at(i) in ("{", "[", *records) or self._at(i - 1) in records

    def _error(self, i: int, message: str) -> None:
        self.errors.append(Diagnostic(self.tokens[i].line, self.tokens[i].column, message))

    # --- words

    def _words(self) -> None:
        for i, token in enumerate(self.tokens):
            text = token.text
            if text in _BANNED:
                self._error(i, _BANNED[text])
            elif text == "long" and self._at(i + 1) == "long":
                self._error(i, "'long long' is not supported in Metal")
            elif text[0].isdigit() and text[-2:] in ("bf", "BF") and text[:2] not in ("0x", "0X"):
                self.written[i] = f"bfloat({text[:-2]}f)"
            elif text == "auto" and self.version < GENERIC:
                self._automatic(i)

    def _automatic(self, i: int) -> None:
        after, before = i + 1, i - 1
        while self._at(after) == "const":
            after += 1
        while self._at(before) in ("const", "constexpr", "static"):
            before -= 1
        declarator = self._at(after)
        if declarator in ("*", "&", "&&") and self._at(before) not in SPACES:
            self._error(i, f"{_noun(declarator)} type must have explicit address space qualifier")

    def _remove_attributes(self) -> None:
        i = 0
        while i < len(self.tokens):
            if self._at(i) == "[" and self._at(i + 1) == "[":
                end = self._closing(i)
                names, j = set(), i + 2
                while j < end:
                    names.add(self._at(j))
                    j += 1
                    while j < end and self._at(j) != ",":
                        j = self._closing(j) + 1
                    j += 1
                self._attributes[i] = names
                self._erase(i, end + 1)
                i = end
            i += 1

    def _has_attribute(self, begin: int, end: int, name: str) -> bool:
        return any(name in self._attributes.get(i, ()) for i in range(begin, end))

    # --- declarations

    def _structure(self) -> None:
        scopes = [_Scope("namespace", 0)]
        i = 0
        while i < len(self.tokens):
            scope, text = scopes[-1], self._at(i)
            if i in self._attributes:
                i = self._closing(i)
            elif text == "template" and self._at(i + 1) == "<":
                i = self._closing_angle(i + 1)
            elif text == "{":
                kind = self._kind(scope, i)
                if kind == "record":
                    self._copies(scope.head, i, local=scope.kind == "function")
                kernel = scope.kernel or self._is_kernel(scope.head, i)
                name = self._record_name(scope.head, i) if kind == "record" else ""
                scopes.append(_Scope(kind, i + 1, kernel, name or ""))
            elif text == "}":
                if len(scopes) > 1:
                    scopes.pop()
                if self._at(i + 1) not in (";", ",", ")", "}") and scopes[-1].kind != "other":
                    scopes[-1].head = i + 1
            elif text == ";":
                if self._has_attribute(scope.head, i, "function_constant"):
                    self._function_constant(scope.head, i)
                scope.head = i + 1
            elif text == ":" and scope.kind == "record" and i == scope.head + 1:
                scope.head = i + 1  # an access specifier
            elif text == "(" and scope.kind in ("record", "namespace"):
                i = self._parameters(scope, i)
            elif text == "threadgroup" and scope.kind == "function" and self._at(i - 1) in ("{", ";", "}", ")", ":"):
                self._threadgroup_variable(i, scope.kernel)
            i += 1

    def _kind(self, scope: _Scope, i: int) -> str:
        """What the brace at i opens."""
        begin = self._past_templates(scope.head)
        head = []
        while begin < i:
            head += [self._at(begin)] if self.written[begin] else []
            begin = self._closing(begin) + 1
        if "namespace" in head or head[:1] == ["extern"]:
            return "namespace"
        if "enum" in head or "=" in head or scope.kind == "other":
            return "other"
        return "record" if self._record_name(scope.head, i) is not None else "function"

    def _past_templates(self, i: int) -> int:
        while self._at(i) == "template" and self._at(i + 1) == "<":
            i = self._closing_angle(i + 1) + 1
        return i

    def _record_name(self, begin: int, end: int) -> str | None:
        """The name of the struct whose head this is; empty where it has none."""
        i = begin
        while i < end:
            if i in self._attributes or self._at(i) == "(":
                i = self._closing(i)
            elif self._at(i) == "template" and self._at(i + 1) == "<":
                i = self._closing_angle(i + 1)
            elif self._at(i) in ("alignas", "__attribute__", "__declspec"):
                i = self._closing(i + 1)
            elif self._at(i) in ("struct", "class", "union"):
                break
            i += 1
        else:
            return None
        name = ""
        for j in range(i + 1, end):
            if self._at(j) in (":", "<", "final"):
                break
            if self._at(j) == "(" and self._at(j - 1) not in ("alignas", "__attribute__"):
                return None  # a function that returns a struct
            if self.tokens[j].is_name and self._at(j) not in ("alignas", "__attribute__") and self.written[j]:
                name = self._at(j)
        return name

    def _is_kernel(self, begin: int, end: int) -> bool:
        return "kernel" in (self._at(j) for j in range(begin, end)) or self._has_attribute(begin, end, "kernel")

    def _copies(self, head: int, brace: int, local: bool) -> None:
        """Metal copies and assigns structs out of every address space; clang's OpenCL does so but for `constant`."""
        name = self._record_name(head, brace)
        if not name:
            return
        end, i, constructors = self._closing(brace), brace + 1, []
        while i < end:
            if self._at(i) == name and self._at(i + 1) == "(" and self._at(i - 1) != "~":
                constructors.append([self._at(j) for j in range(i + 2, self._closing(i + 1))])
            i = self._closing(i) + 1
        if any(name in parameters for parameters in constructors):
            return  # it has copies of its own
        added = "" if constructors else f"{name}() = default; "
        added += f"{name}(const {name}&) = default; {name}(const constant {name}&) = default; "
        if not local:  # which has no templates
            added += f"template <int = 0> {name}& operator=(const constant {name}&); "
        keyword = next(self._at(j) for j in range(head, brace) if self._at(j) in ("struct", "class", "union"))
        self.written[brace] += f" public: {added} private:" if keyword == "class" else f" {added}"

    def _parameters(self, scope: _Scope, i: int) -> int:
        """At a `(` outside of functions; gives the last token that is done with."""
        if self._at(i - 1) == "operator" and self._at(i + 1) == ")":
            i += 2
        close = self._closing(i)
        before = [self._at(j) for j in range(self._past_templates(scope.head), i)]
        is_function = (
            i > scope.head
            and self._at(i) == "("
            and (self.tokens[i - 1].is_name or "operator" in before)
            and self._at(i - 1)
            not in ("alignas", "__attribute__", "__declspec", "decltype", "static_assert", "explicit")
            and ("=" not in before or "operator" in before)
            and "using" not in before
        )
        if not is_function:
            return close
        end = close + 1
        while self._at(end) in ("const", "volatile", *SPACES):
            end += 1
        names_space = any(self._at(j) in SPACES for j in range(close, end))
        is_default = self._at(end) == "=" and self._at(end + 1) in ("default", "delete")
        is_constructor = scope.kind == "record" and self._at(i - 1) == scope.name and "~" not in before
        has_this = scope.kind == "record" and not {"static", "friend", "typedef", "~"}.intersection(before)
        if has_this:
            self._members.add((scope.name, self._at(i - 1)))
        elif self._at(i - 2) == "::":  # defined outside of its struct, `S::f` or `S<T>::f`
            owners = [before[j] for j in range(len(before) - 3) if before[j + 1] in ("::", "<")] + before[-3:-2]
            has_this = any((owner, self._at(i - 1)) in self._members for owner in owners)
        if has_this and not names_space and not is_default and self.version < GENERIC:
            self.written[end - 1] += " thread"
            names_space = True
        after = end
        if self._at(end) == "noexcept":
            end = self._closing(end + 1) + 1 if self._at(end + 1) == "(" else end + 1
        if self._at(end) == ":":  # a constructor's list of initial values, up to its body
            while end < len(self.tokens) and (
                self._at(end) != "{" or self.tokens[end - 1].is_name or self._at(end - 1) == ">"
            ):
                end = self._closing(end) + 1
        if is_constructor and names_space and not is_default and self._at(close + 1) in ("thread", *"{;:"):
            self._constructors.setdefault(scope.name, []).append((scope.head, close + 1, after, end))
        return end - 1

    def _function_constant(self, begin: int, end: int) -> None:
        for i in range(begin, end):
            if self._at(i) in ("static", "constexpr", "extern"):
                self._erase(i, i + 1)
            if self._at(i) == "=":
                self._error(i, "a function constant takes no initial value")
                return
        self.written[begin] = f"extern {self.written[begin]}"

    def _threadgroup_variable(self, i: int, in_kernel: bool) -> None:
        """`threadgroup T a[N], b;` becomes references: OpenCL has such variables in its own kernels alone."""
        name, commas, j = 0, [], i + 1
        while j < len(self.tokens) and self._at(j) != ";":
            text = self._at(j)
            if text in ("*", "&") and not name:
                return  # a pointer or a reference
            if text == "<" and not name:
                j = self._closing_angle(j)
            elif text in ("[", ",", "=", "{", "("):
                name = name or j - 1
                if text in ("=", "{", "("):
                    self._error(name, "variable in threadgroup address space cannot have an initializer")
                    return
                commas += [j] if text == "," else []
                j = self._closing(j)
            j += 1
        end = j
        name = name or end - 1
        if not in_kernel:
            self._error(
                name, "variables in the threadgroup address space cannot be declared in a non-qualified function"
            )
        type_name = " ".join(self.written[i + 1 : name])
        text = ""
        for begin, stop in zip([name] + [comma + 1 for comma in commas], [*commas, end]):
            self._variables += 1
            declared, alias = self._at(begin), f"threadgroup_type_{self._variables}"
            text += (
                f"typedef {type_name} {alias} {' '.join(self.written[begin + 1 : stop])}; "
                f'static_assert(__is_trivially_constructible({alias}), "a threadgroup variable has no constructor"); '
                f"threadgroup {alias}& {declared} = metal::threadgroup_variable<threadgroup {alias}>();"
            )
        self._erase(i, end + 1)
        self.written[i] = text


def _noun(declarator: str) -> str:
    return "pointer" if declarator == "*" else "reference"
