"""Where stored bytes lie: in which file, at which offset; and what of them is there at all."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ..extent import data, unreadable
from .distrusted import distrusted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..extent import Extent
    from .byte_source import ByteSource


class Place(NamedTuple):
    """Where a byte of a source is stored.

    Attributes:
        path: the file; None where it is in none.
        offset: its place in the file; None where it is in none of its own, being compressed.
        is_compressed: it must be decoded.
    """

    path: str | None = None
    offset: int | None = None
    is_compressed: bool = False


def stored(start: int, stop: int, source: ByteSource, offset: int) -> Iterator[Extent]:
    """Yield the extents of guest bytes that a source is to hold in one piece from `offset` on.

    What lies behind the end of a source that was cut off is unreadable, and so is what the source
    has and does not give.
    """
    there = min(stop, start + max(0, source.size - offset))
    position, shift = start, offset - start
    for found in distrusted(source, offset, there + shift):
        first, last = found.start - shift, found.stop - shift
        if position < first:
            yield data(position, first, source, position + shift)
        yield unreadable(first, last, source, found.start, found.reason)
        position = last
    if position < there:
        yield data(position, there, source, position + shift)
    if there < stop:
        reason = f"the image is cut off: it ends at byte {source.size} of what is stored"
        yield unreadable(there, stop, source, offset + there - start, reason)
