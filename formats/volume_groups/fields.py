"""Asking a section of LVM2's metadata for what must be there, each value checked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import CorruptImageError
from .metadata_area import TEXT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .config_text import Section

LARGEST = (1 << 63) - 1


class Fields:
    """A section of the text, and where it is in it.

    Args:
        path: the names that lead to it, for errors.
        section: what is in it.
        offset: where the text's area lies, for errors.
    """

    def __init__(self, path: str, section: Section, offset: int) -> None:
        self.path = path
        self._section = section
        self._offset = offset

    def number(
        self, name: str, least: int = 0, most: int = LARGEST, default: int | None = None
    ) -> int:
        """Return a number of the range from `least` to `most`.

        Raises:
            CorruptImageError: it is none, or another; or it is missing, and there is no default.
        """
        value = self._section.get(name, default)
        if not isinstance(value, int) or not least <= value <= most:
            raise self.error(f"{name} is {_shown(value)}, not a number from {least} to {most}")
        return value

    def text(self, name: str, default: str | None = None) -> str:
        """Return a string.

        Raises:
            CorruptImageError: it is none; or it is missing, and there is no default.
        """
        value = self._section.get(name, default)
        if not isinstance(value, str):
            raise self.error(f"{name} is {_shown(value)}, not a string")
        return value

    def items(self, name: str) -> tuple[str | int, ...]:
        """Return a list; an empty one where it is missing.

        Raises:
            CorruptImageError: it is none.
        """
        value = self._section.get(name, ())
        if not isinstance(value, tuple):
            raise self.error(f"{name} is {_shown(value)}, not a list")
        return value

    def section(self, name: str) -> Fields:
        """Return a section; an empty one where it is missing.

        Raises:
            CorruptImageError: it is none.
        """
        value = self._section.get(name, {})
        if not isinstance(value, dict):
            raise self.error(f"{name} is {_shown(value)}, not a section")
        return Fields(f"{self.path}/{name}", value, self._offset)

    def sections(self) -> Iterator[tuple[str, Fields]]:
        """Yield name and section of all that are in it."""
        for name, value in self._section.items():
            if isinstance(value, dict):
                yield name, self.section(name)

    def strings(self) -> Iterator[tuple[str, str]]:
        """Yield name and value of all strings that are in it, also in lists."""
        for name, value in self._section.items():
            for each in value if isinstance(value, tuple) else (value,):
                if isinstance(each, str):
                    yield name, each

    def error(self, detail: str) -> CorruptImageError:
        """Return the error that says what is wrong in this section."""
        return CorruptImageError(TEXT, self._offset, f"{self.path}: {detail}")


def _shown(value: object) -> str:
    if value is None:
        return "missing"
    return "a section" if isinstance(value, dict) else f"{value!r:.80}"
