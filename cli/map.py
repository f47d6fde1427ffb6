"""map: where an image's bytes are; as a table, as JSON, and as a picture of several images."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..formats.text import printable
from .arguments import ImagesArgument, JsonOption
from .exit_codes import DAMAGED, OF_ONE_IMAGE, code_of, message_of, naming
from .inspect import unreadable_text
from .settings import complain, settings
from .signals import ending_on_signals
from .straight import catalog_for

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ..catalog.store import Catalog
    from ..formats.extent import Extent
    from .picture import Cells, Sheet

_COLUMNS = ("START", "LENGTH", "KIND", "OFFSET")


def map_extents(
    images: ImagesArgument,
    as_json: JsonOption = False,
    png: Annotated[
        str | None,
        typer.Option("--png", metavar="OUT", help="Draw the images side by side into this file."),
    ] = None,
    picture: Annotated[
        bool, typer.Option("--picture", help="Draw the images in the terminal.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace the file.")] = False,
    lineage: Annotated[
        bool,
        typer.Option(
            "--lineage",
            help="All indexed backups of the same file systems, in the order in which they were"
            " taken.",
        ),
    ] = False,
) -> None:
    """Show which bytes of the partition are stored, and which are zeros because nobody used them.

    The JSON is that of `qemu-img map --output=json`: `offset` is where the first byte lies in the
    file `filename`, or where that is compressed, in what unpacking it gives; checksums may lie
    between the bytes of one piece. `depth` counts the images that an image is made of others by.

    What cannot be read is named, and the exit code is then 5.

    \b
    Examples:
      imgcat map sda1
      imgcat map --json sda1
      imgcat map --picture 'laptop*'
      imgcat map --png shelf.png root home vm.qcow2
      imgcat map --lineage --png over-time.png laptop-june
    """
    with catalog_for(images) as catalog:
        ids = catalog.resolve_many(images)
        if lineage:
            ids = _of_lineages(catalog, ids)
        if png is not None or picture:
            if as_json:
                raise typer.BadParameter("not with --png or --picture", param_hint="--json")
            _draw(catalog, ids, png, picture=picture, force=force)
            return
        if len(ids) > 1:
            raise typer.BadParameter("one image, or --png or --picture", param_hint="IMAGE...")
        _write_map(catalog, ids[0], as_json=as_json)


def _of_lineages(catalog: Catalog, ids: list[int]) -> list[int]:
    """Return the backups of the file systems in images, each once, the oldest first.

    Raises:
        ImageNotFoundError: an image is not indexed.
    """
    from ..catalog.errors import ImageNotFoundError
    from ..catalog.files.asking import Backups

    with catalog.database.reading() as connection:
        backups = Backups(connection)
    found: dict[int, None] = {}
    for image_id in ids:
        backup = backups.of_image(image_id)
        if backup is None:
            name = catalog.name_of(image_id)
            raise ImageNotFoundError(
                f"{name}: its files are not in the catalog: `imgcat index` writes them there"
            )
        for each in backups.by_lineage[backup.lineage_id]:
            if each.image_id is not None:
                found[each.image_id] = None
    return list(found)


def _write_map(catalog: Catalog, image_id: int, *, as_json: bool) -> None:
    from ..catalog.opening.open import open_image
    from ..formats.extent import joined_in_place

    opened = open_image(catalog, image_id, at_any_cost=True)
    try:
        size = opened.reader.size
        watch = _Watch(joined_in_place(opened.reader.extents(0, size)))
        with naming(opened.spec.name):
            if as_json:
                _write_map_json(watch)
            else:
                write_map_table(watch, size)
    finally:
        opened.close()
    sys.stdout.flush()
    for extent in watch.unreadable:
        complain(f"{opened.spec.name}: {unreadable_text(extent.start, extent.stop, extent.reason)}")
    if watch.unreadable:
        raise typer.Exit(DAMAGED)


def _draw(catalog: Catalog, ids: list[int], png: str | None, *, picture: bool, force: bool) -> None:
    """Draw images; those that cannot be opened are named, and the others drawn all the same."""
    if png is None:
        worst = _draw_each(catalog, ids, None, picture=picture)
    else:
        worst = _draw_into(catalog, ids, png, picture=picture, force=force)
    if worst:
        raise typer.Exit(worst)


def _draw_into(catalog: Catalog, ids: list[int], png: str, *, picture: bool, force: bool) -> int:
    from ..catalog.upkeep.targets import check_no_image
    from ..formats.files.new_file import TargetError, new_file
    from .picture import Sheet

    try:
        check_no_image(catalog, png)
        with ending_on_signals(), new_file(png, force=force) as fd:
            sheet = Sheet(len(ids))
            worst = _draw_each(catalog, ids, sheet, picture=picture)
            image = sheet.finished()
            if image is None:
                # Nothing stays of the file.
                raise typer.Exit(worst)
            with open(fd, "wb", closefd=False) as out:
                image.save(out, "PNG")
    except TargetError as error:
        raise typer.BadParameter(str(error), param_hint="--png") from None
    if not settings.quiet:
        sys.stdout.write(f"drawn     {printable(png)}\n")
    return worst


def _draw_each(catalog: Catalog, ids: list[int], sheet: Sheet | None, *, picture: bool) -> int:
    """Draw images into a sheet and in the terminal; return the exit code of the worst."""
    from . import picture as drawing

    worst = 0
    for image_id in ids:
        name = catalog.get(image_id).row.name
        try:
            if picture:
                cells, lost = _cells(catalog, image_id, drawing.cells_in_terminal())
                drawing.write_in_terminal(cells)
            if sheet is not None:
                cells, lost = _cells(catalog, image_id, drawing.cells_in_png())
                sheet.add(cells)
        except BrokenPipeError:
            raise
        except OF_ONE_IMAGE as error:
            complain(f"{name}: {message_of(error)}")
            worst = max(worst, code_of(error))
            continue
        if lost:
            complain(f"{name}: {lost} bytes cannot be read: `imgcat map` lists them")
            worst = max(worst, DAMAGED)
    if picture:
        drawing.write_legend()
        sys.stdout.flush()
    return worst


def _cells(catalog: Catalog, image_id: int, count: int) -> tuple[Cells, int]:
    """Return an image as cells, and how many of its bytes cannot be read."""
    from ..catalog.opening.open import open_image
    from .picture import cells_of

    opened = open_image(catalog, image_id, at_any_cost=True)
    try:
        size = opened.reader.size
        watch = _Count(opened.reader.extents(0, size))
        return cells_of(opened.spec.name, size, watch, count), watch.unreadable
    finally:
        opened.close()


class _Count:
    """Extents, and the number of bytes of them that cannot be read."""

    def __init__(self, extents: Iterable[Extent]) -> None:
        self._extents = extents
        self.unreadable = 0

    def __iter__(self) -> Iterator[Extent]:
        for extent in self._extents:
            if extent.reason:
                self.unreadable += extent.length
            yield extent


class _Watch:
    """Extents, and those of them that cannot be read."""

    def __init__(self, extents: Iterable[Extent]) -> None:
        self._extents = extents
        self.unreadable: list[Extent] = []

    def __iter__(self) -> Iterator[Extent]:
        for extent in self._extents:
            if extent.reason:
                self.unreadable.append(extent)
            yield extent


def _write_map_json(extents: Iterable[Extent]) -> None:
    """Write the array an object at a time: there may be millions."""
    separator = "["
    for extent in extents:
        sys.stdout.write(f"{separator}{json.dumps(_map_fields(extent))}")
        separator = ",\n"
    sys.stdout.write("]\n" if separator != "[" else "[]\n")


def _map_fields(extent: Extent) -> dict[str, Any]:
    """Return what `qemu-img map --output=json` has of an extent, and why it cannot be read."""
    from ..formats.extent import ExtentKind
    from ..formats.sources.byte_source import ByteSource

    fields: dict[str, Any] = {
        "start": extent.start,
        "length": extent.length,
        "depth": 0,
        "present": extent.is_stored,
        "zero": not extent.is_stored,
        "data": extent.kind in {ExtentKind.DATA, ExtentKind.COMPRESSED},
        "compressed": extent.kind is ExtentKind.COMPRESSED,
    }
    if extent.kind is ExtentKind.UNREADABLE:
        return fields | {"unreadable": extent.reason}
    if not extent.is_stored:
        return fields
    origin = extent.origin
    assert isinstance(origin.source, ByteSource)
    place = origin.source.place(origin.offset)
    fields["depth"] = origin.depth
    fields["compressed"] = fields["compressed"] or place.is_compressed
    fields["offset"] = origin.offset if place.offset is None else place.offset
    if place.path is not None:
        fields["filename"] = place.path
    return fields


def write_map_table(extents: Iterable[Extent], size: int) -> None:
    """Write extents as a table; `size` is the image's, for the width of the columns."""
    width = max(len(str(size)), *map(len, _COLUMNS))
    start, length, kind, offset = _COLUMNS
    sys.stdout.write(f"{start:>{width}}  {length:>{width}}  {kind:<10}  {offset:>{width}}\n")
    for extent in extents:
        offset = str(_map_fields(extent).get("offset", "-"))
        sys.stdout.write(
            f"{extent.start:>{width}}  {extent.length:>{width}}  {extent.kind.value:<10}  "
            f"{offset:>{width}}\n"
        )
