"""Where the seek points and page hashes of a stream come from."""

from __future__ import annotations

import bisect
from typing import TYPE_CHECKING, Protocol

from ..sources.pages import HASH_SIZE, HASHES_IN_GROUP
from .seek_points import Span

if TYPE_CHECKING:
    from .seek_points import StreamIndex


class SeekTable(Protocol):
    """The seek points and page hashes of one stream, wherever they are kept."""

    @property
    def plain_size(self) -> int:
        """Bytes in the plain stream."""

    @property
    def trusted_size(self) -> int:
        """Plain bytes from the beginning that can be relied on; see `StreamIndex`."""

    def span_at(self, plain_offset: int) -> Span:
        """Return the span that a plain offset lies in.

        Raises:
            ChunkMissingError: the index is gone from where it was kept.
        """

    def hashes(self, group: int) -> bytes:
        """Return the hashes of pages from ``group * HASHES_IN_GROUP`` on. Raises as above."""


class MemoryTable:
    """The table of a stream that was just scanned. See `SeekTable`."""

    def __init__(self, index: StreamIndex) -> None:
        self._index = index
        self._starts = [point.plain_offset for point in index.points]

    @property
    def plain_size(self) -> int:
        """Bytes in the plain stream."""
        return self._index.plain_size

    @property
    def trusted_size(self) -> int:
        """Plain bytes that can be relied on."""
        return self._index.trusted_size

    def span_at(self, plain_offset: int) -> Span:
        """Return the span that a plain offset lies in."""
        number = max(1, bisect.bisect_right(self._starts, plain_offset))
        stop = self._starts[number] if number < len(self._starts) else self.plain_size
        return Span(self._index.points[number - 1], stop)

    def hashes(self, group: int) -> bytes:
        """Return the hashes of a group of pages."""
        size = HASHES_IN_GROUP * HASH_SIZE
        return self._index.hashes[group * size : (group + 1) * size]
