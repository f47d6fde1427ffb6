"""A session of the shell: the image that it looks into, and running its commands."""

from __future__ import annotations

import shlex
import sys
from typing import TYPE_CHECKING, Self

import typer

from ...formats.text import printable
from ..exit_codes import BUG, NOT_FOUND, USAGE, code_of, message_of
from ..settings import complain

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ...catalog.opening.open import OpenImage
    from ...catalog.records import ImageRecord
    from ...catalog.store import Catalog

_ALIASES = {"exit": "quit"}


class Quit(Exception):  # noqa: N818 - no error
    """The user has had enough."""


class UsageError(Exception):
    """A command was not given what it takes; its text says what it is."""


class Session:
    """What a user looks at, one image after the other.

    Args:
        catalog: where the images are.
        image_id: the first one.

    Attributes:
        catalog: as given.
        record: what the catalog knows of the image.
        opened: the image, open.
        code: the exit code of the worst that happened.
    """

    def __init__(self, catalog: Catalog, image_id: int) -> None:
        self.catalog = catalog
        self.code = 0
        self._image_id = image_id
        self.record, self.opened = self._open(image_id)

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *exc: object) -> None:
        """Close the image."""
        self.opened.close()

    @property
    def name(self) -> str:
        """The image's name."""
        return self.record.row.name

    def use(self, token: str) -> None:
        """Look into another image: one of the catalog, ``pN`` of this disk, or ``..`` of this.

        Raises:
            ImageNotFoundError: there is none.
        """
        from ...catalog.errors import ImageNotFoundError

        image_id = self._image_id
        if token == "..":  # noqa: S105 - no password
            if self.record.row.parent is None:
                raise ImageNotFoundError(f"{self.name} is no part of another image")
            image_id = self.catalog.resolve(self.record.row.parent)
        elif (number := self._partition_number(token)) is not None:
            image_id = number
        else:
            image_id = self.catalog.resolve(token)
        record, opened = self._open(image_id)
        self.opened.close()
        self._image_id, self.record, self.opened = image_id, record, opened

    def run_script(self, text: str) -> bool:
        """Run the commands of a text, and tell whether one of them says to end."""
        try:
            for line in commands_of(text):
                self.run(line)
        except Quit:
            return True
        return False

    def run(self, line: str) -> None:
        """Run one command, and tell what goes wrong with it.

        Raises:
            Quit: the command says so.
            BrokenPipeError: nobody reads the results any more.
        """
        from .commands import COMMANDS, usage_of

        try:
            words = shlex.split(line)
        except ValueError as error:
            self._fail(f"{line}: {error}", USAGE)
            return
        if not words:
            return
        name = _ALIASES.get(words[0], words[0])
        command = COMMANDS.get(name)
        if command is None:
            self._fail(f"{name}: no such command; `help` lists them", USAGE)
            return
        try:
            command.run(self, words[1:])
            sys.stdout.flush()
        except UsageError as error:
            self._fail(f"{error}; {usage_of(name)}", USAGE)
        except typer.BadParameter as error:
            self._fail(f"{name}: {error.message}", USAGE)
        except typer.Exit as end:
            self.code = max(self.code, end.exit_code)
        except (Quit, BrokenPipeError):
            raise
        except Exception as error:
            code = code_of(error)
            if code == BUG:
                raise
            self._fail(f"{self.name}: {message_of(error)}", code)

    def look_again(self) -> None:
        """Ask the catalog again what it knows of the image."""
        self.record = self.catalog.get(self._image_id)

    def not_found(self, text: str) -> None:
        """Tell that there is nothing of what was asked for."""
        self._fail(text, NOT_FOUND)

    def _fail(self, text: str, code: int) -> None:
        sys.stdout.flush()
        complain(text)
        self.code = max(self.code, code)

    def _open(self, image_id: int) -> tuple[ImageRecord, OpenImage]:
        from ...catalog.opening.open import open_image

        record = self.catalog.get(image_id)
        return record, open_image(self.catalog, image_id, at_any_cost=True)

    def _partition_number(self, token: str) -> int | None:
        """Return the id of the image that ``pN`` of this disk is, None where there is none."""
        if not token.startswith("p") or not token[1:].isdecimal():
            return None
        for each in self.catalog.inside(self._image_id).partitions:
            if each.number == int(token[1:]):
                return each.image_id
        return None


def write(text: str = "") -> None:
    """Write a line of a result."""
    sys.stdout.write(f"{printable(text)}\n")


def write_fields(fields: dict[str, object]) -> None:
    """Write names and values, a line each."""
    width = max(map(len, fields), default=0)
    for name, value in fields.items():
        write(f"{name:<{width}}  {'-' if value is None else value}")


def commands_of(text: str) -> list[str]:
    """Return the commands of a text, separated by semicolons and lines.

    What is quoted, behind a backslash, or in a remark separates nothing.
    """
    return [each for line in text.split("\n") for each in _commands_of_line(line) if each]


def _commands_of_line(line: str) -> Iterator[str]:
    start, quote, position = 0, "", 0
    while position < len(line):
        letter = line[position]
        if letter == "\\" and quote != "'":
            position += 1
        elif quote:
            quote = "" if letter == quote else quote
        elif letter in "'\"":
            quote = letter
        elif letter == ";":
            yield line[start:position].strip()
            start = position + 1
        elif letter == "#" and (position == start or line[position - 1].isspace()):
            yield line[start:position].strip()
            return
        position += 1
    yield line[start:].strip()
