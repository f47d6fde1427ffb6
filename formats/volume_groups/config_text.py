"""The text that LVM2 writes its metadata as: sections of names and values. Pure.

Source: LVM2, libdm/libdm-config.c, and what lib/format_text/export.c writes.
"""

from __future__ import annotations

import re
from typing import Union

from ..errors import CorruptImageError

Value = Union[str, int, tuple[str | int, ...], "Section"]
Section = dict[str, Value]

_DEPTH = 8
"""Sections within each other, at the most; LVM2 writes four."""

_BLANK = re.compile(r"(?:[ \t\r\n]+|#[^\n]*)*")
_NAME = re.compile(r"[A-Za-z0-9_.+@/:-]{1,255}")
_STRING = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_NUMBER = re.compile(r"[+-]?[0-9]{1,19}(?![0-9A-Za-z_.])")
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)


def parse_text(text: str, structure: str, offset: int) -> Section:
    """Return the outermost section of a text.

    Args:
        text: all of it.
        structure: what errors call it.
        offset: where it lies, for errors.

    Raises:
        CorruptImageError: it is no such text; a name is there twice; sections are too deep.
    """
    return _Parser(text, structure, offset).section(_DEPTH, "")


class _Parser:
    """A text, and how far it was understood."""

    def __init__(self, text: str, structure: str, offset: int) -> None:
        self._text = text
        self._structure = structure
        self._offset = offset
        self._at = 0

    def section(self, depth: int, end: str) -> Section:
        """Return what there is up to the sign that ends the section, "" for the text's own end."""
        found: Section = {}
        while (sign := self._next()) != end:
            name = self._name()
            if name in found:
                raise self._error(f"{name} is there twice")
            sign = self._next()
            self._at += 1
            if sign == "=":
                found[name] = self._value()
            elif sign == "{":
                if depth == 0:
                    raise self._error("sections are too deep")
                found[name] = self.section(depth - 1, "}")
            else:
                raise self._error(f"neither a value nor a section follows the name {name}")
        self._at += len(end)
        return found

    def _next(self) -> str:
        """Pass over blanks and comments; return the sign that follows, "" at the end."""
        blank = _BLANK.match(self._text, self._at)
        assert blank is not None
        self._at = blank.end()
        return self._text[self._at : self._at + 1]

    def _name(self) -> str:
        found = _NAME.match(self._text, self._at)
        if found is None:
            raise self._error("no name where one belongs")
        self._at = found.end()
        return found[0]

    def _value(self) -> Value:
        if self._next() != "[":
            return self._single()
        self._at += 1
        found: list[str | int] = []
        while self._next() != "]":
            found.append(self._single())
            if self._next() == ",":
                self._at += 1
            elif self._next() != "]":
                raise self._error("a list does not go on")
        self._at += 1
        return tuple(found)

    def _single(self) -> str | int:
        if self._next() == '"':
            string = _STRING.match(self._text, self._at)
            if string is None:
                raise self._error("a string does not end")
            self._at = string.end()
            return _ESCAPED.sub(r"\1", string[1])
        number = _NUMBER.match(self._text, self._at)
        if number is None:
            raise self._error("neither a number nor a string where a value belongs")
        self._at = number.end()
        return int(number[0])

    def _error(self, detail: str) -> CorruptImageError:
        line = self._text.count("\n", 0, self._at) + 1
        return CorruptImageError(self._structure, self._offset, f"line {line}: {detail}")
