"""map and read: where an image's bytes are, and what they are."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from .arguments import ImageArgument, JsonOption
from .settings import open_catalog

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..formats.extent import Extent
    from ..formats.reader import ImageReader

_STDOUT = 1
_PIECE_SIZE = 1 << 20
_HEX_PIECE_SIZE = 1 << 16
_SUFFIXES = {"": 0, "K": 10, "M": 20, "G": 30, "T": 40}
_COLUMNS = ("START", "LENGTH", "KIND", "OFFSET")


def parse_size(text: str) -> int:
    """Return the bytes that a user means by ``4096``, ``0x1000`` or ``4K``.

    Raises:
        typer.BadParameter: it means none.
    """
    digits, suffix = text, ""
    if text[-1:].upper() in _SUFFIXES:
        digits, suffix = text[:-1], text[-1:].upper()
    base = 16 if digits[:2].lower() == "0x" else 10
    try:
        value = int(digits, base)
    except ValueError:
        value = -1
    if value < 0:
        raise typer.BadParameter(f"{text!r} is no number of bytes such as 4096, 0x1000 or 4K")
    return value << _SUFFIXES[suffix]


def map_extents(image: ImageArgument, as_json: JsonOption = False) -> None:
    """Show which bytes of the partition are stored, and which are zeros because nobody used them.

    The JSON is that of `qemu-img map --output=json`; `offset` is where the first byte lies in the
    image, unpacked if it is compressed. Checksums may lie between the bytes of one piece.

    \b
    Examples:
      imgcat map sda1
      imgcat map --json sda1
    """
    from ..catalog.opening.open import open_image
    from ..formats.extent import merged

    with open_catalog() as catalog:
        opened = open_image(catalog, catalog.resolve(image))
        try:
            size = opened.reader.size
            extents = merged(opened.reader.extents(0, size))
            if as_json:
                _write_map_json(extents)
            else:
                _write_map_table(extents, size)
        finally:
            opened.close()


def _write_map_json(extents: Iterable[Extent]) -> None:
    """Write the array an object at a time: there may be millions."""
    separator = "["
    for extent in extents:
        is_data = extent.source_offset >= 0
        fields = {
            "start": extent.start,
            "length": extent.length,
            "depth": 0,
            "present": is_data,
            "zero": not is_data,
            "data": is_data,
        }
        if is_data:
            fields["offset"] = extent.source_offset
        sys.stdout.write(f"{separator}{json.dumps(fields)}")
        separator = ",\n"
    sys.stdout.write("]\n" if separator != "[" else "[]\n")


def _write_map_table(extents: Iterable[Extent], size: int) -> None:
    width = max(len(str(size)), *map(len, _COLUMNS))
    start, length, kind, offset = _COLUMNS
    sys.stdout.write(f"{start:>{width}}  {length:>{width}}  {kind}  {offset:>{width}}\n")
    for extent in extents:
        offset = str(extent.source_offset) if extent.source_offset >= 0 else "-"
        sys.stdout.write(
            f"{extent.start:>{width}}  {extent.length:>{width}}  {extent.kind.value}  "
            f"{offset:>{width}}\n"
        )


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

    N may be decimal, hexadecimal with 0x, and have one of the suffixes K, M, G and T.

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
            if as_hex:
                _write_hex(opened.reader, offset, length)
            else:
                _write_bytes(opened.reader, offset, length)
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
