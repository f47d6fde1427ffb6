"""map and read: where an image's bytes are, and what they are."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .arguments import ImageArgument, JsonOption, parse_size
from .exit_codes import BROKEN_PIPE, DAMAGED, naming
from .settings import complain, open_catalog

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ..formats.extent import Extent
    from ..formats.reader import ImageReader

_STDOUT = 1
_PIECE_SIZE = 1 << 20
_HEX_PIECE_SIZE = 1 << 16
_COLUMNS = ("START", "LENGTH", "KIND", "OFFSET")


def map_extents(image: ImageArgument, as_json: JsonOption = False) -> None:
    """Show which bytes of the partition are stored, and which are zeros because nobody used them.

    The JSON is that of `qemu-img map --output=json`: `offset` is where the first byte lies in the
    file `filename`, or where that is compressed, in what unpacking it gives; checksums may lie
    between the bytes of one piece. `depth` counts the images that an image is made of others by.

    What cannot be read is named, and the exit code is then 5.

    \b
    Examples:
      imgcat map sda1
      imgcat map --json sda1
    """
    from ..catalog.opening.open import open_image
    from ..formats.extent import joined_in_place

    with open_catalog() as catalog:
        opened = open_image(catalog, catalog.resolve(image), at_any_cost=True)
        try:
            size = opened.reader.size
            watch = _Watch(joined_in_place(opened.reader.extents(0, size)))
            with naming(opened.spec.name):
                if as_json:
                    _write_map_json(watch)
                else:
                    _write_map_table(watch, size)
        finally:
            opened.close()
    sys.stdout.flush()
    for extent in watch.unreadable:
        complain(f"{opened.spec.name}: {unreadable_text(extent.start, extent.stop, extent.reason)}")
    if watch.unreadable:
        raise typer.Exit(DAMAGED)


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


def _write_map_table(extents: Iterable[Extent], size: int) -> None:
    width = max(len(str(size)), *map(len, _COLUMNS))
    start, length, kind, offset = _COLUMNS
    sys.stdout.write(f"{start:>{width}}  {length:>{width}}  {kind:<10}  {offset:>{width}}\n")
    for extent in extents:
        offset = str(_map_fields(extent).get("offset", "-"))
        sys.stdout.write(
            f"{extent.start:>{width}}  {extent.length:>{width}}  {extent.kind.value:<10}  "
            f"{offset:>{width}}\n"
        )


def unreadable_text(start: int, stop: int, reason: str) -> str:
    """Return what is said of guest bytes that cannot be read."""
    return f"guest bytes [{start}, {stop}) cannot be read: {reason}"


def read(
    image: ImageArgument,
    offset: Annotated[
        int,
        typer.Option(metavar="N", parser=parse_size, help="The first byte: 4096, 0x1000, 4K."),
    ],
    length: Annotated[
        int, typer.Option(metavar="N", parser=parse_size, help="How many bytes, written likewise.")
    ],
    as_hex: Annotated[bool, typer.Option("--hex", help="A hex dump, as xxd -g1 has it.")] = False,
) -> None:
    """Write some bytes of the partition to standard output.

    N may be decimal, hexadecimal with 0x, and have one of the suffixes K, M, G and T: 4K, 4KiB.

    \b
    Examples:
      imgcat read sda1 --offset 0 --length 512 --hex
      imgcat read sda1 --offset 1M --length 64K > piece
    """
    from ..catalog.opening.open import open_image

    with open_catalog() as catalog:
        opened = open_image(catalog, catalog.resolve(image))
        try:
            size = opened.reader.size
            if offset + length > size:
                raise typer.BadParameter(
                    f"bytes [{offset}, {offset + length}) are not all inside: the image has {size}",
                    param_hint="--offset, --length",
                )
            with naming(opened.spec.name):
                if as_hex:
                    _write_hex(opened.reader, offset, length)
                else:
                    _write_bytes(opened.reader, offset, length)
        except BrokenPipeError as error:
            raise typer.Exit(BROKEN_PIPE) from error
        finally:
            opened.close()


def _write_hex(reader: ImageReader, offset: int, length: int) -> None:
    from ..formats.stored.used_windows import read_guest
    from .hexdump import hexdump

    buffer = memoryview(bytearray(min(length, _HEX_PIECE_SIZE)))
    for start in range(offset, offset + length, _HEX_PIECE_SIZE):
        view = buffer[: min(_HEX_PIECE_SIZE, offset + length - start)]
        read_guest(reader, view, start)
        sys.stdout.write(hexdump(view, start))


def _write_bytes(reader: ImageReader, offset: int, length: int) -> None:
    from ..formats.passes.export import STDOUT_NAME, write_all
    from ..formats.stored.used_windows import read_guest

    sys.stdout.flush()
    buffer = memoryview(bytearray(min(length, _PIECE_SIZE)))
    for start in range(offset, offset + length, _PIECE_SIZE):
        view = buffer[: min(_PIECE_SIZE, offset + length - start)]
        read_guest(reader, view, start)
        write_all(_STDOUT, view, STDOUT_NAME)
