"""diff: what is different between two backups."""

from __future__ import annotations

import stat
import sys
from collections import Counter
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from .arguments import JsonOption
from .completion import complete_images
from .files import TYPES
from .settings import complain, open_catalog, settings

if TYPE_CHECKING:
    import sqlite3

    from ..catalog.files.asking import Backup, Backups, Row
    from ..catalog.files.differing import Difference
    from ..catalog.store import Catalog
    from .found import Getting

_SAME, _DIFFERENT = 0, 5


def diff(
    old: Annotated[
        str,
        typer.Argument(metavar="IMAGE", help="The first.", autocompletion=complete_images),
    ],
    new: Annotated[
        str,
        typer.Argument(metavar="IMAGE", help="The second.", autocompletion=complete_images),
    ],
    path: Annotated[
        str, typer.Argument(metavar="[PATH]", help="What is looked at is this, or below it.")
    ] = "/",
    as_json: JsonOption = False,
) -> None:
    """Tell what was added, removed, changed and moved between two backups, from the catalog.

    Both must be indexed. A file is changed where its type, mode, size or time is another: one that
    was written anew with its old size and time is not seen. Behind each is the command that gets
    what it was, or, of what was added, what it is.

    \b
    Examples:
      imgcat diff laptop-may laptop-june
      imgcat diff laptop-may laptop-june /home/anna
      imgcat diff laptop-may laptop-june --json
    """
    from ..catalog.files.asking import Backups
    from ..catalog.files.differing import differences
    from ..filesystems.names import typed
    from .found import Getting

    with open_catalog() as catalog:
        first, second = _backup(catalog, old), _backup(catalog, new)
        for each in (first, second):
            if each.problems:
                complain(
                    f"{each.name}: {each.problems} things could not be read when it was indexed:"
                    " what is missing may be there"
                )
            if each.caveat:
                complain(f"{each.name}: {each.caveat}")
        getting = Getting(catalog)
        with catalog.database.reading() as connection:
            found = differences(connection, first, second, typed(path))
            backups = Backups(connection)
            sources = _Sources(first, second, backups, getting)
            told = [_fields(connection, each, first, second, sources) for each in found if as_json]
        if as_json:
            from .render import write_json

            write_json(told)
        else:
            _write(found, sources)


def _backup(catalog: Catalog, token: str) -> Backup:
    from ..catalog.errors import ImageNotFoundError
    from .found import backups_like

    found = backups_like(catalog, token)
    if len(found) != 1:
        raise ImageNotFoundError(f"{token}: {len(found)} backups are meant, and one is wanted")
    return found[0]


class _Source(NamedTuple):
    """What a difference is got from: what it was, or, of what was added, what it is."""

    backup: Backup
    path: bytes
    row: Row


class _Sources:
    """Tells what differences are got from.

    Args:
        first: the first backup.
        second: the second.
        backups: all that there are: others may have the same, and can be read.
        getting: tells which of them are best.
    """

    def __init__(self, first: Backup, second: Backup, backups: Backups, getting: Getting) -> None:
        self._first, self._second = first, second
        self._backups = backups
        self._getting = getting

    def of(self, each: Difference) -> _Source:
        """Return what a difference is got from."""
        if each.old is not None and each.old_path is not None:
            return self._best(self._first, each.old_path, each.old)
        assert each.new is not None
        return self._best(self._second, each.path, each.new)

    def command(self, source: _Source) -> str:
        """Return the command that gets it."""
        return self._getting.command(*source)

    def _best(self, backup: Backup, path: bytes, row: Row) -> _Source:
        if not self._getting.is_best(backup):
            # Of equals, the one that was asked about.
            others = [each for each in self._backups.having(row) if each != backup]
            backup = self._getting.best([*others, backup])
        return _Source(backup, path, row)


def _write(found: list[Difference], sources: _Sources) -> None:
    from ..filesystems.names import shown

    for each in found:
        words = shown(each.path)
        if each.old_path is not None and each.old_path != each.path:
            words = f"{shown(each.old_path)} -> {words}"
        if each.old is not None and each.new is not None:
            words += _in_words(each.old, each.new)
        command = sources.command(sources.of(each))
        sys.stdout.write(f"{each.change:<9} {words}  # {command}\n")
    if not settings.quiet:
        counts = Counter(each.change.value for each in found)
        told = ", ".join(f"{count} {what}" for what, count in sorted(counts.items()))
        sys.stdout.write(f"{told or 'no differences'}\n")


def _in_words(old: Row, new: Row) -> str:
    """Return what is different about a file, as far as a line tells it."""
    before, after = TYPES.get(stat.S_IFMT(old.mode)), TYPES.get(stat.S_IFMT(new.mode))
    if before != after:
        # Their sizes tell nothing: a directory's is that of its names, a link's of its target.
        return f": type changed ({before} -> {after})"
    return f" ({old.size} -> {new.size} bytes)" if old.size != new.size else ""


def _fields(
    connection: sqlite3.Connection,
    each: Difference,
    first: Backup,
    second: Backup,
    sources: _Sources,
) -> dict[str, Any]:
    from ..catalog.files.hashes import hash_of
    from ..filesystems.names import shown
    from .found import fields_of, place_of

    def fields(backup: Backup, path: bytes, row: Row | None) -> dict[str, Any] | None:
        return None if row is None else fields_of(path, row, hash_of(connection, backup, row))

    source = sources.of(each)
    return {
        "change": each.change.value,
        "path": shown(each.path),
        "old_path": None if each.old_path is None else shown(each.old_path),
        "old": fields(first, each.old_path or each.path, each.old),
        "new": fields(second, each.path, each.new),
        "image": source.backup.name,
        "place": place_of(source.backup, source.path),
        "command": sources.command(source),
    }
