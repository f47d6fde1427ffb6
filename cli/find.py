"""find: where a file is, over all backups that are indexed."""

from __future__ import annotations

import itertools
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .arguments import JsonOption, parse_size
from .completion import complete_images
from .exit_codes import NOT_FOUND
from .settings import notify, open_catalog

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator

    from ..catalog.files.asking import Version
    from ..catalog.files.finding import Wanted
    from .found import Getting

_TYPES = {"f": 8, "d": 4, "l": 10, "p": 1, "s": 12, "c": 2, "b": 6}
_SECOND = 1_000_000_000


def find(
    pattern: Annotated[
        str,
        typer.Argument(
            help="A part of a name; or a pattern with *, ? and [; or of a path, with /."
        ),
    ],
    image: Annotated[
        list[str] | None,
        typer.Option(
            metavar="IMAGE",
            help="Only in these: names, ids, paths or globs; again for more.",
            autocompletion=complete_images,
        ),
    ] = None,
    size: Annotated[
        list[str] | None,
        typer.Option(metavar="[+-]SIZE", help="At least (+1G), at most (-4K), or just so large."),
    ] = None,
    newer: Annotated[
        str | None, typer.Option(metavar="TIME", help="Written behind this, e.g. 2026-11-29.")
    ] = None,
    older: Annotated[str | None, typer.Option(metavar="TIME", help="Written before this.")] = None,
    kind: Annotated[
        str | None,
        typer.Option(
            "--type", metavar="f|d|l|p|s|c|b", help="Files, directories, links and so on."
        ),
    ] = None,
    deleted: Annotated[
        bool,
        typer.Option("--deleted", help="Only what is not in the newest backup any more."),
    ] = False,
    has_case: Annotated[
        bool, typer.Option("--case", help="Tell capital letters from small ones.")
    ] = False,
    limit: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="End after so many.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Find files by their names or paths, over all backups that are indexed.

    A line for each version of a file, the newest first, and the command that gets it. A file that
    was not changed between two backups is one version. What `index` could not read is not found.

    \b
    Examples:
      imgcat find thesis
      imgcat find '*.odt' --newer 2026-01-01
      imgcat find 'home/*/.ssh/id_*' --image 'laptop-*'
      imgcat find .vmdk --size +1G
      imgcat find '*.jpg' --deleted --json | imgcat cp --from-find - /srv/restored
    """
    from ..catalog.files.finding import find as find_versions
    from ..catalog.files.patterns import parse_pattern
    from ..filesystems.names import typed
    from .found import Getting, check_is_indexed, generations_like

    if not pattern:
        raise typer.BadParameter("an empty pattern finds everything: '*' does too")
    try:
        parsed = parse_pattern(typed(pattern), has_case=has_case)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    with open_catalog() as catalog:
        check_is_indexed(catalog)
        wanted = _wanted(generations_like(catalog, image), size, newer, older, kind, deleted)
        getting = Getting(catalog)
        with catalog.database.reading() as connection:
            found = itertools.islice(find_versions(connection, parsed, wanted), limit)
            if as_json:
                from .render import write_json_rows

                count = write_json_rows(_fields(connection, each, getting) for each in found)
            else:
                count = _write(found, getting)
    if not count:
        notify("nothing is found")
        raise typer.Exit(NOT_FOUND)


def _write(found: Iterator[Version], getting: Any) -> int:  # noqa: ANN401
    from .found import in_words, line_of

    count = 0
    for version in found:
        count += 1
        command = getting.command(getting.best(version.backups), version.path, version.row)
        words = in_words(version.backups)
        sys.stdout.write(f"{line_of(version.row)}  {command}  # {words}\n")
    return count


def _fields(connection: sqlite3.Connection, version: Version, getting: Getting) -> dict[str, Any]:
    from ..catalog.files.hashes import hash_of
    from .found import backup_fields, fields_of, place_of

    best = getting.best(version.backups)
    return {
        **fields_of(version.path, version.row, hash_of(connection, best, version.row)),
        "lineage": version.row.lineage_id,
        "image": best.name,
        "place": place_of(best, version.path),
        "backups": [backup_fields(each) for each in version.backups],
        "command": getting.command(best, version.path, version.row),
    }


def _wanted(
    generations: frozenset[int] | None,
    sizes: list[str] | None,
    newer: str | None,
    older: str | None,
    kind: str | None,
    deleted: bool,
) -> Wanted:
    from ..catalog.files.finding import Wanted

    smallest, largest = 0, None
    for text in sizes or ():
        number = parse_size(text.lstrip("+-"))
        if text.startswith("-"):
            largest = number if largest is None else min(largest, number)
        else:
            smallest = max(smallest, number)
            if not text.startswith("+"):
                largest = number if largest is None else min(largest, number)
    if kind is not None and kind not in _TYPES:
        raise typer.BadParameter(f"{kind!r} is no type: f, d, l, p, s, c or b", param_hint="--type")
    return Wanted(
        generations=generations,
        type_bits=None if kind is None else _TYPES[kind],
        smallest=smallest,
        largest=largest,
        newer_than=_moment(newer, "--newer"),
        older_than=_moment(older, "--older"),
        deleted=deleted,
    )


def _moment(text: str | None, hint: str) -> int | None:
    import datetime as dt

    if text is None:
        return None
    try:
        return int(dt.datetime.fromisoformat(text).timestamp()) * _SECOND
    except ValueError as error:
        raise typer.BadParameter(
            f"{text!r} is no time: 2026-11-29, or 2026-11-29T10:00", param_hint=hint
        ) from error
