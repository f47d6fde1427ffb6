"""read: some bytes of an image."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from .arguments import ImageArgument, parse_size
from .exit_codes import BROKEN_PIPE, naming
from .straight import catalog_for

if TYPE_CHECKING:
    from ..formats.reader import ImageReader

_STDOUT = 1
_PIECE_SIZE = 1 << 20
_HEX_PIECE_SIZE = 1 << 16
_COLUMNS = ("START", "LENGTH", "KIND", "OFFSET")


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

    with catalog_for([image]) as catalog:
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
