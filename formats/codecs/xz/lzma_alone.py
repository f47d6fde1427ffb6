"""lzma: the format before xz. One stream without any seek point but its beginning."""

from __future__ import annotations

import lzma
from typing import TYPE_CHECKING

from ...errors import CorruptImageError, TruncatedImageError
from ..cursor import Feed
from ..seek_points import SeekPoint
from . import layout as xz_layout

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ...progress import Progress
    from ...sources.byte_source import ByteSource
    from ..seek_points import ScanMarks

NAME = "lzma"
LIBRARY = f"liblzma, Python's lzma {lzma.FORMAT_ALONE}"
_WEIGHT = 12 << 20
"""Bytes that a decoder takes beside its dictionary, with what it has decoded and nobody took."""

STRUCTURE = "lzma.stream"

_PIECE = 1 << 20


def scan(
    stored: ByteSource,
    marks: ScanMarks,
    *,
    spacing: int | None = None,  # noqa: ARG001 - there is nothing to space
    progress: Progress | None = None,
) -> Iterator[bytes]:
    """Decode the whole stream; see `Codec.scan`. It has no checksum, so nothing vouches for it."""
    marks.points.append(SeekPoint(0, 0))
    return decode(stored, marks.points[0], progress)


def weight(stored: ByteSource, point: SeekPoint) -> int:  # noqa: ARG001
    """Return the bytes that a decoder takes; see `Codec.weight`."""
    return _WEIGHT + int.from_bytes(stored.read_at(1, 4), "little")


def decode(
    stored: ByteSource, point: SeekPoint, progress: Progress | None = None
) -> Iterator[bytes]:
    """Yield the plain pieces from a seek point on; see `Codec.decode`."""
    feed = Feed(stored, point.stored_offset, structure=STRUCTURE)
    decompressor = lzma.LZMADecompressor(lzma.FORMAT_ALONE, memlimit=xz_layout.MEMORY_MAX)
    known = int.from_bytes(stored.read_at(5, 8), "little", signed=True)
    plain = 0
    try:
        while not decompressor.eof:
            data = feed.take_some() if decompressor.needs_input else b""
            if decompressor.needs_input and not data:
                # A stream of known size may leave out the mark at its end.
                if plain == known:
                    return
                raise TruncatedImageError(STRUCTURE, feed.offset, "it is cut off here")
            piece = decompressor.decompress(data, _PIECE)
            plain += len(piece)
            if piece:
                yield piece
            if progress is not None:
                progress(feed.offset)
    except lzma.LZMAError as error:
        raise xz_layout.failure(STRUCTURE, feed.offset, error) from error
    if decompressor.unused_data or feed.left:
        raise CorruptImageError(STRUCTURE, feed.offset, "something follows the end of the stream")
