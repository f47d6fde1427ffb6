"""map: where an image's bytes are; as a table, as JSON, and as a picture of several images."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .arguments import ImagesArgument, JsonOption
from .exit_codes import DAMAGED, naming
from .inspect import unreadable_text
from .settings import complain, open_catalog, settings

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ..catalog.store import Catalog
    from ..formats.extent import Extent
    from .picture import Cells

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
    """
    with open_catalog() as catalog:
        ids = catalog.resolve_many(images)
        if png is not None or picture:
            _draw(catalog, ids, png, picture=picture, force=force)
            return
        if len(ids) > 1:
            raise typer.BadParameter("one image, or --png or --picture", param_hint="IMAGE...")
        _write_map(catalog, ids[0], as_json=as_json)


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
    from . import picture as drawing

    if picture:
        drawing.write_in_terminal(_cells(catalog, ids, drawing.cells_in_terminal()))
    if png is None:
        return
    from ..formats.files.new_file import TargetError, new_file

    image = drawing.draw_png(_cells(catalog, ids, drawing.cells_in_png()))
    try:
        with new_file(png, force=force) as fd, open(fd, "wb", closefd=False) as out:
            image.save(out, "PNG")
    except TargetError as error:
        raise typer.BadParameter(str(error), param_hint="--png") from None
    if not settings.quiet:
        from ..formats.text import printable

        sys.stdout.write(f"drawn     {printable(png)}\n")


def _cells(catalog: Catalog, ids: list[int], count: int) -> list[Cells]:
    from ..catalog.opening.open import open_image
    from .picture import cells_of

    found = []
    for image_id in ids:
        opened = open_image(catalog, image_id, at_any_cost=True)
        try:
            size = opened.reader.size
            with naming(opened.spec.name):
                found.append(
                    cells_of(opened.spec.name, size, opened.reader.extents(0, size), count)
                )
        finally:
            opened.close()
    return found


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
