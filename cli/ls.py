"""ls: the images of the catalog, in a table that fits the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from .arguments import JsonOption
from .completion import complete_images
from .exit_codes import NOT_FOUND
from .images import fs_of, listed_fields
from .patience import look_at_images
from .settings import complain, notify, open_catalog, settings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ..catalog.records import ImageRow
    from .patience import Look


class _Column(NamedTuple):
    """A column of the table.

    Attributes:
        heading: what stands above it.
        text: an image's cell, given its status.
        key: what it is sorted by.
        is_number: aligned to the right.
    """

    heading: str
    text: Callable[[ImageRow, str], object]
    key: Callable[[ImageRow, str], object]
    is_number: bool = False


def _plain(heading: str, field: str, *, is_number: bool = False) -> _Column:
    def value(row: ImageRow, _status: str) -> object:
        return getattr(row, field)

    return _Column(heading, value, value, is_number)


def _size(heading: str, field: str) -> _Column:
    from .render import human_size

    return _Column(
        heading,
        lambda row, _status: human_size(getattr(row, field)),
        lambda row, _status: getattr(row, field),
        is_number=True,
    )


def _verified(row: ImageRow, _status: str) -> object:
    """Return when an image was verified, with what result, and what that is worth."""
    if row.verified_at is None:
        return row.verify_detail
    worth = (row.verify_detail or "").removeprefix("right: ")
    if worth.startswith("structure, "):
        worth = "structure only"
    said = f"{row.verified_at[:10]} {row.verify_result}"
    return f"{said} ({worth})" if worth else said


def _columns() -> dict[str, _Column]:
    return {
        "id": _plain("ID", "id", is_number=True),
        "name": _plain("NAME", "name"),
        "format": _plain("FORMAT", "format"),
        "fs": _Column("FS", lambda row, _status: fs_of(row), lambda row, _status: fs_of(row)),
        "size": _size("SIZE", "size_bytes"),
        "used": _size("USED", "used_bytes"),
        "stored": _size("STORED", "stored_bytes"),
        "compression": _plain("COMPRESSION", "compression"),
        "status": _Column("STATUS", lambda _row, status: status, lambda _row, status: status),
        "sealed": _Column(
            "SEALED",
            lambda row, _status: "yes" if row.sealed_at else "no",
            lambda row, _status: row.sealed_at,
        ),
        "verified": _Column("VERIFIED", _verified, lambda row, _status: row.verified_at),
        "path": _plain("PATH", "path"),
        "parent": _plain("PARENT", "parent"),
        "added": _plain("ADDED", "added_at"),
        "scanned": _plain("SCANNED", "scanned_at"),
        "checksum": _plain("CHECKSUM", "checksum"),
        "content": _plain("CONTENT", "content"),
    }


_USUAL = (
    "id", "name", "format", "fs", "size", "used", "stored", "compression", "status", "sealed",
    "verified", "path",
)  # fmt: skip

_DROPPED = ("sealed", "compression", "stored", "verified", "used", "path", "fs", "format")
"""Columns that a narrow terminal does without, in this order."""

_SHORTENED = {"path": 20, "name": 20}
"""Columns whose texts lose their middle first, and the cells that they keep."""

_USUAL_NAME = 40

_COLOURS = {"ready": "32", "live": "36", "needs-repack": "33", "stale": "33", "missing": "33"}
_RED = "31"


def ls(
    images: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[IMAGE...]",
            help="Names, ids, paths or globs.",
            autocompletion=complete_images,
        ),
    ] = None,
    sort: Annotated[
        str | None,
        typer.Option(metavar="COLUMN", help="Sort by a column; -COLUMN: the largest first."),
    ] = None,
    status: Annotated[
        list[str] | None,
        typer.Option(metavar="STATUS", help="Only those with this status; may be repeated."),
    ] = None,
    image_format: Annotated[
        list[str] | None,
        typer.Option(
            "--format", metavar="FORMAT", help="Only those of this format; may be repeated."
        ),
    ] = None,
    columns: Annotated[
        str | None,
        typer.Option(metavar="A,B,...", help="Which columns, and in which order."),
    ] = None,
    totals: Annotated[
        bool, typer.Option("--totals", help="Sum up what is listed in a last line.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """List the catalogued images. On a terminal, the table fits its width.

    Columns: id, name, format, fs, size, used, stored, compression, status, sealed, verified, path;
    and parent, added, scanned, checksum, content.

    \b
    Examples:
      imgcat ls
      imgcat ls 'laptop*' 7 /mnt/backups/sda1.img
      imgcat ls --status damaged --status missing
      imgcat ls --sort=-used --columns name,used,path --totals
      imgcat ls --json
    """
    table = _columns()
    wanted = _wanted(columns, table)
    with open_catalog() as catalog:
        observed = look_at_images(catalog)
    rows = observed.rows
    found, unknown = _named(rows, images or [])
    found = [
        row
        for row in found
        if (not status or observed.status(row.id) in status)
        and (not image_format or row.format in image_format)
    ]
    if sort is not None:
        found = _sorted(found, sort, table, observed)
    if as_json:
        from .render import write_json

        write_json([listed_fields(row, observed.status(row.id)) for row in found])
    elif found:
        _write(found, observed, wanted, is_fixed=columns is not None)
        if totals:
            _write_totals(found)
    if settings.verbose and not as_json:
        _say_why(found, observed)
    for token in unknown:
        complain(f"{token}: no image has this name, id or path")
    if not rows:
        notify("no images yet: `imgcat add IMAGE...` adds some")
    elif not found and not unknown:
        complain("no image is like that")
    if unknown or (rows and not found):
        raise typer.Exit(NOT_FOUND)


def _say_why(rows: Sequence[ImageRow], observed: Look) -> None:
    """Say of each image that is not as it should be what is wrong, and what is odd elsewhere."""
    for row in rows:
        status = observed.status(row.id)
        if status in {"ready", "live"}:
            continue
        detail = row.status_detail if status == row.status else None
        if detail is None and status == "missing":
            detail = f"{row.path} is not there"
        notify(f"{row.name}: {status}" + (f": {detail}" if detail else ": `imgcat rescan` looks"))
    images = "1 image" if len(rows) == 1 else f"{len(rows)} images"
    notify(f"{images}, by {settings.db or 'the usual catalog'}")


def _wanted(columns: str | None, table: Mapping[str, _Column]) -> tuple[str, ...]:
    if columns is None:
        return _USUAL
    names = tuple(name.strip().lower() for name in columns.split(","))
    _check_columns(names, table, "--columns")
    return names


def _check_columns(names: Sequence[str], table: Mapping[str, _Column], option: str) -> None:
    unknown = [name for name in names if name not in table]
    if unknown:
        raise typer.BadParameter(
            f"{unknown[0]!r} is none of: {', '.join(table)}", param_hint=option
        )


def _named(rows: Sequence[ImageRow], tokens: Sequence[str]) -> tuple[list[ImageRow], list[str]]:
    """Return the images that tokens name, each once, and the tokens that name none."""
    from ..catalog.names import Tokens

    if not tokens:
        return list(rows), []
    known = Tokens((row.id, row.name, row.path) for row in rows)
    found: set[int] = set()
    unknown = []
    for token in tokens:
        matching = known.find(token)
        found.update(matching)
        if not matching:
            unknown.append(token)
    return [row for row in rows if row.id in found], unknown


def _sorted(
    rows: list[ImageRow], sort: str, table: Mapping[str, _Column], observed: Look
) -> list[ImageRow]:
    """Return rows by a column; those that have nothing in it come last."""
    name = sort.removeprefix("-").lower()
    _check_columns([name], table, "--sort")
    key = table[name].key
    keys = {row.id: key(row, observed.status(row.id)) for row in rows}
    having = [row for row in rows if keys[row.id] is not None]
    having.sort(key=lambda row: keys[row.id], reverse=sort.startswith("-"))  # type: ignore[arg-type,return-value]
    return having + [row for row in rows if keys[row.id] is None]


def _write(
    rows: Sequence[ImageRow], observed: Look, wanted: Sequence[str], *, is_fixed: bool
) -> None:
    from .render import cell, has_colour, terminal_width, write_columns

    table = _columns()
    states = {row.id: observed.status(row.id) for row in rows}
    texts = {name: [cell(table[name].text(row, states[row.id])) for row in rows] for name in wanted}
    width = terminal_width()
    widths = {} if width is None else _fit(texts, table, width, is_fixed=is_fixed)

    def paint(heading: str, text: str) -> str:
        if heading != "STATUS":
            return text
        return f"\33[{_COLOURS.get(text.strip(), _RED)}m{text}\33[0m"

    write_columns(
        [(table[name].heading, texts[name]) for name in texts],
        right=frozenset(column.heading for column in table.values() if column.is_number),
        widths={table[name].heading: cells for name, cells in widths.items()},
        paint=paint if has_colour() else lambda _heading, text: text,
    )


def _fit(
    texts: dict[str, list[str]], table: Mapping[str, _Column], width: int, *, is_fixed: bool
) -> dict[str, int]:
    """Drop columns that a narrow terminal has no room for; return the widths of shortened ones."""
    from .render import width_of

    natural = {
        name: max(map(width_of, [table[name].heading, *cells])) for name, cells in texts.items()
    }
    least = {name: min(natural[name], _SHORTENED.get(name, natural[name])) for name in natural}
    for name in () if is_fixed else _DROPPED:
        if _line(least) <= width:
            break
        if name in texts:
            del texts[name], natural[name], least[name]
    widths = dict(least)
    # What room is left goes to names of a usual length, then to paths, then to long names.
    for name, most in (("name", _USUAL_NAME), ("path", width), ("name", width)):
        if name in widths:
            room = max(0, width - _line(widths))
            widths[name] = max(widths[name], min(natural[name], most, widths[name] + room))
    if _line(widths) > width and "name" in widths:
        widths["name"] = max(1, widths["name"] - (_line(widths) - width))
    return {name: widths[name] for name in _SHORTENED if name in widths}


def _line(widths: Mapping[str, int]) -> int:
    return sum(widths.values()) + 2 * (len(widths) - 1)


def _write_totals(rows: Sequence[ImageRow]) -> None:
    """Write how much all is; bytes are counted once: of a disk, those of its partitions."""
    import sys

    from .render import human_size

    own = [row for row in rows if row.path is not None]
    size, used, stored = (
        human_size(sum(getattr(row, field) for row in own))
        for field in ("size_bytes", "used_bytes", "stored_bytes")
    )
    images = "1 image" if len(rows) == 1 else f"{len(rows)} images"
    sys.stdout.write(f"{images}: {size}, {used} used, {stored} stored\n")
