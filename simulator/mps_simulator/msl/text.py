"""A text made of tokens: what is written for each, and where brackets close."""

from __future__ import annotations

from mps_simulator.msl.tokens import Token


class Text:
    """Each token stands on a line of its own: line n is token n - 1."""

    def __init__(self, tokens: list[Token]) -> None:
        self.tokens = tokens
        self.written = [token.text for token in tokens]

    @property
    def text(self) -> str:
        return "\n".join(self.written) + "\n"

    def _at(self, i: int) -> str:
        return self.tokens[i].text if 0 <= i < len(self.tokens) else ""

    def _erase(self, begin: int, end: int) -> None:
        self.written[begin:end] = [""] * (end - begin)

    def _closing(self, i: int) -> int:
        """The bracket that closes the one at i; i itself where none opens there."""
        depth = 0
        for j in range(i, len(self.tokens)):
            depth += (self._at(j) in ("(", "[", "{")) - (self._at(j) in (")", "]", "}"))
            if depth <= 0:
                return j
        return len(self.tokens) - 1

    def _closing_angle(self, i: int) -> int:
        depth, j = 0, i
        while j < len(self.tokens):
            text = self._at(j)
            if text != "<" or self.tokens[j - 1].is_name:  # a template's, not a comparison
                depth += {"<": 1, ">": -1, ">>": -2}.get(text, 0)
            if depth <= 0:
                return j
            if text in (";", "{", "}"):
                return i
            j = self._closing(j) + 1
        return i

    def _next(self, i: int, *texts: str) -> int:
        """The next token that is one of these, outside of brackets and of other `? :`."""
        nested = 0
        while i < len(self.tokens) and (nested or self._at(i) not in texts):
            nested += {"?": 1, ":": -1}.get(self._at(i), 0)
            if self._at(i) in ("(", "[", "{"):
                i = self._closing(i)
            i += 1
        return i
