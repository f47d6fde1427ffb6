"""diff: what is different between two backups."""

from __future__ import annotations

import sys
from collections import Counter
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .arguments import JsonOption
from .completion import complete_images
from .exit_codes import BROKEN_PIPE
from .settings import complain, open_catalog, settings

if TYPE_CHECKING:
    import sqlite3

    from ..catalog.files.asking import Backup, Row
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
            told = [_fields(connection, each, first, second, getting) for each in found if as_json]
        if as_json:
            from .render import write_json

            write_json(told)
        else:
            _write(found, first, second, getting)


def _backup(catalog: Catalog, token: str) -> Backup:
    from ..catalog.errors import ImageNotFoundError
    from .found import backups_like

    found = backups_like(catalog, token)
    if len(found) != 1:
        raise ImageNotFoundError(f"{token}: {len(found)} backups are meant, and one is wanted")
    return found[0]


def _write(found: list[Difference], first: Backup, second: Backup, getting: Getting) -> None:
    from ..filesystems.names import shown

    try:
        for each in found:
            words = shown(each.path)
            if each.old_path is not None and each.old_path != each.path:
                words = f"{shown(each.old_path)} -> {words}"
            if each.old is not None and each.new is not None and each.old.size != each.new.size:
                words += f" ({each.old.size} -> {each.new.size} bytes)"
            command = _command(each, first, second, getting)
            sys.stdout.write(f"{each.change:<9} {words}  # {command}\n")
        if not settings.quiet:
            counts = Counter(each.change.value for each in found)
            told = ", ".join(f"{count} {what}" for what, count in sorted(counts.items()))
            sys.stdout.write(f"{told or 'no differences'}\n")
    except BrokenPipeError as error:
        raise typer.Exit(BROKEN_PIPE) from error


def _command(each: Difference, first: Backup, second: Backup, getting: Getting) -> str:
    if each.old is not None and each.old_path is not None:
        return getting.command(first, each.old_path, each.old)
    assert each.new is not None
    return getting.command(second, each.path, each.new)


def _fields(
    connection: sqlite3.Connection,
    each: Difference,
    first: Backup,
    second: Backup,
    getting: Getting,
) -> dict[str, Any]:
    from ..catalog.files.hashes import hash_of
    from ..filesystems.names import shown
    from .found import fields_of, place_of

    def fields(backup: Backup, path: bytes, row: Row | None) -> dict[str, Any] | None:
        return None if row is None else fields_of(path, row, hash_of(connection, backup, row))

    return {
        "change": each.change.value,
        "path": shown(each.path),
        "old_path": None if each.old_path is None else shown(each.old_path),
        "old": fields(first, each.old_path or each.path, each.old),
        "new": fields(second, each.path, each.new),
        "image": second.name if each.old_path is None else first.name,
        "place": place_of(second, each.path)
        if each.old_path is None
        else place_of(first, each.old_path),
        "command": _command(each, first, second, getting),
    }
