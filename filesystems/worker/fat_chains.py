"""What FAT and exFAT have in common: chains of clusters, and dates as DOS wrote them."""

from __future__ import annotations

import calendar
from typing import TYPE_CHECKING

from ..errors import DamagedError
from .driver import Runs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .source import Source

_SECOND = 1_000_000_000
_FIRST = 2
_ENDS = {12: 0xFF8, 16: 0xFFF8, 32: 0x0FFFFFF8, 64: 0xFFFFFFF8}
"""Numbers from here on end a chain; the last one below them marks a bad cluster."""

EXFAT = 64
"""In place of the bits of a table: 32, of which all count."""


class Chains:
    """The clusters of a volume, and the table that leads from each to the next.

    Args:
        source: the volume.
        bits: 12, 16 or 32; `EXFAT` for that.
        table: where the table lies, and how many bytes it has.
        heap: where the first cluster, which has the number 2, lies; and how many there are.
        cluster_size: bytes in a cluster.

    Attributes:
        clusters: how many there are, all of them inside of the volume.
    """

    def __init__(
        self,
        source: Source,
        bits: int,
        table: tuple[int, int],
        heap: tuple[int, int],
        cluster_size: int,
    ) -> None:
        self._source = source
        self._bits = bits
        self._table_at, self._table_size = table
        self._heap, clusters = heap
        self.clusters = max(0, min(clusters, (source.size - self._heap) // cluster_size))
        self._size = cluster_size
        self._end = _ENDS[bits]

    def places(self, first: int, most: int, what: str) -> Iterator[int]:
        """Yield where the clusters of a chain lie, `most` at most.

        Raises:
            DamagedError: it leads to a number that is no cluster's, or back to one of its own.
        """
        cluster = first
        # A bit for each cluster: a set of their numbers takes hundreds of times as much.
        seen = bytearray(-(-self.clusters // 8))
        for number in range(most):
            if number and cluster >= self._end:
                return
            place = self.place(cluster, what)
            at, bit = divmod(cluster - _FIRST, 8)
            if seen[at] & 1 << bit:
                raise DamagedError(what, 0, f"its chain leads back to cluster {cluster}")
            seen[at] |= 1 << bit
            yield place
            cluster = self.following(cluster)

    def place(self, cluster: int, what: str) -> int:
        """Return where a cluster lies.

        Raises:
            DamagedError: there is none of this number.
        """
        if not _FIRST <= cluster < self.clusters + _FIRST:
            raise DamagedError(what, 0, f"a cluster of it is {cluster}, which is none")
        return self._heap + (cluster - _FIRST) * self._size

    def runs(self, first: int, size: int, what: str) -> Runs:
        """Return where the bytes of a file are; lost are those behind what its chain leads to."""
        found = Runs()
        try:
            for place in self.places(first, -(-size // self._size), what):
                found.add(min(found.stop + self._size, size), place)
            why = f"its chain of clusters ends at {found.stop} of {size} bytes"
        except DamagedError as error:
            why = error.detail
        found.lose(size, why)
        return found

    def following(self, cluster: int) -> int:
        """Return the number that stands in the table for a cluster: the next one, or an end."""
        if self._bits == 12:  # noqa: PLR2004
            pair = int.from_bytes(self._entry(cluster + cluster // 2, 2), "little")
            return pair >> 4 if cluster & 1 else pair & 0xFFF
        width = min(self._bits, 32) // 8
        found = int.from_bytes(self._entry(cluster * width, width), "little")
        return found if self._bits == EXFAT else found & 0x0FFFFFFF

    def _entry(self, offset: int, length: int) -> bytes:
        if offset + length > self._table_size:
            raise DamagedError(
                "fat.table", self._table_at, "the table is too small for its clusters"
            )
        return self._source.read(self._table_at + offset, length)


def moment(date: int, time: int) -> int | None:
    """Return nanoseconds since 1970 of the wall clock; None where there is no such date."""
    year, month, day = 1980 + (date >> 9), date >> 5 & 0xF, date & 0x1F
    if not 1 <= month <= 12 or not 1 <= day <= calendar.monthrange(year, month)[1]:  # noqa: PLR2004
        return None
    hour, minute, second = time >> 11, time >> 5 & 0x3F, (time & 0x1F) * 2
    return calendar.timegm((year, month, day, hour, minute, second)) * _SECOND
