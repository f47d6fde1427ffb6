"""Image names: how a file's name becomes one, and what one may be."""

from __future__ import annotations

import dataclasses
import fnmatch
import os
import re
from typing import TYPE_CHECKING

from ..formats.text import printable
from .errors import NameTakenError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_PACKAGING = re.compile(
    r"\.(img|pcl|pc|partclone|raw|dd|uncomp|gz|bz2|xz|lzma|zst|zstd|lz4|a{2,8}|0{2,8}|0{1,7}1)$",
    re.IGNORECASE,
)
_NAME_MAX = 255
"""Bytes that the kernel allows in one component of a path."""

_TOTAL_MAX = 2048
"""Bytes in a name. The kernel takes paths of 4096: the mount point's must have room too."""

_DEPTH_MAX = 64
"""Parts of a name."""

_ID_DIGITS = 20
"""Digits that no 64-bit number has."""

_SHOWN_MOST = 80
"""Characters of an impossible name that a message repeats."""


def name_of_file(path: str) -> str:
    """Return the name for the image in a file: its base name without packaging suffixes."""
    base = os.path.basename(path)
    name = base
    while (shorter := _PACKAGING.sub("", name)) not in {name, "", ".", ".."}:
        name = shorter
    return name


@dataclasses.dataclass(frozen=True, slots=True)
class NameSource:
    """How new images get their names.

    Attributes:
        root: the directory that is searched: below it, directories go into the name; None where
            files are named one by one.
        prefix: a folder that all names begin with, "" for none.
    """

    root: str | None = None
    prefix: str = ""

    def of_file(self, path: str) -> str:
        """Return the name for the image in a file."""
        return self._name(os.path.dirname(path), name_of_file(path))

    def of_directory(self, path: str) -> str:
        """Return the folder for the images of an image directory."""
        return self._name(os.path.dirname(path), os.path.basename(path))

    def _name(self, directory: str, name: str) -> str:
        parts = [self.prefix, name]
        if self.root is not None:
            way = os.path.relpath(directory, self.root)
            if way != os.curdir and way.split(os.sep)[0] != os.pardir:
                parts.insert(1, way)
        whole = "/".join(part for part in parts if part)
        # Too long, or too deep: then without the way to it.
        return whole if _impossible(whole) is None else name


USUAL_NAMES = NameSource()
"""Names are those of the files."""


def check_name(name: str) -> None:
    """Check that `name` can be a path below a mount point; ``/`` makes directories.

    Raises:
        NameTakenError: it cannot; the message says why.
    """
    if (reason := _impossible(name)) is not None:
        shown = name if len(name) <= _SHOWN_MOST else f"{name[:_SHOWN_MOST]}…"
        raise NameTakenError(f"{shown!r} cannot be a name: {reason}")


def _impossible(name: str) -> str | None:
    """Return why nothing can have the name, None if something can."""
    if len(os.fsencode(name)) > _TOTAL_MAX:
        return f"it is over {_TOTAL_MAX} bytes"
    parts = name.split("/")
    if len(parts) > _DEPTH_MAX:
        return f"it is over {_DEPTH_MAX} parts deep"
    for part in parts:
        if part in {"", ".", ".."} or "\0" in part:
            return "empty, '.' and '..' parts are not"
        if len(os.fsencode(part)) > _NAME_MAX:
            return f"a part is over {_NAME_MAX} bytes"
    return None


def free_name(name: str, taken: Callable[[str], bool]) -> str:
    """Return `name`, or one of ``name (2)``, ``name (3)``, … that is not taken.

    It is the first of them where those that are taken follow each other. Whether one is taken is
    asked about twice as often as the number has bits, not as often as there are names before it.
    """
    if not taken(name):
        return name
    last_taken, free = 1, 2
    while taken(_numbered(name, free)):
        last_taken, free = free, 2 * free
    while free - last_taken > 1:
        middle = (last_taken + free) // 2
        if taken(_numbered(name, middle)):
            last_taken = middle
        else:
            free = middle
    return _numbered(name, free)


def _numbered(name: str, number: int) -> str:
    suffix = f" ({number})"
    head, slash, last = name.rpartition("/")
    short = os.fsdecode(os.fsencode(last)[: _NAME_MAX - len(suffix)])
    return f"{head}{slash}{short}{suffix}"


def file_name(value: str | bytes) -> str:
    """Return a file name as Python's file functions take it: what is not UTF-8 is kept as bytes."""
    return os.fsdecode(value) if isinstance(value, bytes) else value


def stored_name(name: str) -> str | bytes:
    """Return what a file name is in the catalog: TEXT where it is valid UTF-8, else a BLOB."""
    raw = os.fsencode(name)
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw


def legible(words: str) -> str:
    r"""Return words, which are no name, with ``\xff`` for each byte that is not UTF-8."""
    return words.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


class Tokens:
    """What users may write for images: names, ids, paths, patterns.

    Args:
        known: id, name and path of every image, by name.
    """

    def __init__(self, known: Iterable[tuple[int, str, str | None]]) -> None:
        known = list(known)
        self._by_name = {name: image_id for image_id, name, _path in known}
        self._by_path = {path: image_id for image_id, _name, path in known if path is not None}
        self._ids = set(self._by_name.values())

    def find(self, token: str, *, globs: bool = True, directory: str | None = None) -> list[int]:
        """Return the ids of the images that a token names; none if it names nothing.

        It is a name before it is an id, a path, and a name as it is printed, with its control
        characters escaped; last, it is a pattern over names.

        Args:
            token: what was written.
            globs: whether it may be a pattern.
            directory: where relative paths begin, the current one if None.
        """
        exact = self._by_name.get(token)
        if exact is None and token.isdecimal() and len(token) < _ID_DIGITS:
            exact = int(token) if int(token) in self._ids else None
        if exact is None:
            path = os.path.normpath(os.path.join(directory or os.getcwd(), token))
            exact = self._by_path.get(path)
        if exact is not None:
            return [exact]
        printed = self._as_printed(token) if "\\" in token else []
        if printed or not globs:
            return printed
        return [
            image_id for name, image_id in self._by_name.items() if fnmatch.fnmatchcase(name, token)
        ]

    def _as_printed(self, token: str) -> list[int]:
        """Return the one image whose name is printed as the token; none if several are."""
        found = [
            image_id
            for name, image_id in self._by_name.items()
            if not name.isprintable() and printable(name) == token
        ]
        return found if len(found) == 1 else []
