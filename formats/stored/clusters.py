"""Stored clusters: reading the formats that keep clusters at places that a range index knows."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from ..extent import zero
from ..reader import check_range
from ..sources.place import stored
from .geometry import Geometry
from .scatter import Scatter

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..extent import Extent
    from ..index.ranges import RangeIndexLike
    from ..sources.byte_source import ByteSource

_JUNK = 64
"""Bytes between two ranges of the image up to which reading on is cheaper than another read."""


@dataclasses.dataclass(frozen=True, slots=True)
class StoredClusters(Geometry):
    """The geometry of the stored clusters. Sizes are bytes.

    Attributes:
        size: guest bytes.
        cluster_size: bytes in a cluster; the last one is cut off where `size` ends.
        gap: bytes between two clusters of a range.
        known_clusters: clusters below this are known to be stored or not; where the image is cut
            off, those from here on are not.
        stored_size: bytes of the whole image, as far as it goes.
    """

    size: int
    cluster_size: int
    gap: int
    known_clusters: int
    stored_size: int


class StoredClustersReader:
    """Random access to an image of stored clusters. See `ImageReader`."""

    def __init__(self, source: ByteSource, clusters: StoredClusters, index: RangeIndexLike) -> None:
        self._source = source
        self._clusters = clusters
        self._index = index

    @property
    def size(self) -> int:
        """Number of guest bytes."""
        return self._clusters.size

    def extents(self, start: int, stop: int) -> Iterator[Extent]:
        """Yield the extents of guest bytes ``[start, stop)``; see `ImageReader.extents`."""
        check_range(start, stop, self._clusters.size)
        cluster_size = self._clusters.cluster_size
        position = start
        for run_start, run_stop, source_offset, within in self._runs(start, stop):
            if position < run_start:
                yield zero(position, run_start)
            position, shift, rest = run_start, source_offset - run_start, cluster_size - within
            while position < run_stop:
                piece_stop = min(run_stop, position + rest)
                yield from stored(position, piece_stop, self._source, position + shift)
                position, rest = piece_stop, cluster_size
                shift += self._clusters.gap
        if position < stop:
            yield zero(position, stop)

    def stored_ranges(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """Yield what is stored of guest bytes ``[start, stop)``; see `reader.stored_ranges`."""
        check_range(start, stop, self._clusters.size)
        return ((first, last) for first, last, _offset, _within in self._runs(start, stop))

    def read_into(self, view: memoryview, offset: int) -> None:
        """Fill `view` from guest byte `offset` on; see `ImageReader.read_into`."""
        check_range(offset, offset + len(view), self._clusters.size)
        self._plan(view, offset).read(self._source)

    def read_into_nowait(self, view: memoryview, offset: int) -> bool:
        """Do as `read_into` unless that needs waiting; see `ImageReader.read_into_nowait`."""
        stop = offset + len(view)
        check_range(offset, stop, self._clusters.size)
        cluster_size = self._clusters.cluster_size
        if not self._index.resident(offset // cluster_size, -(-stop // cluster_size)):
            return False
        return self._plan(view, offset).read_nowait(self._source)

    def close(self) -> None:
        """Close the source."""
        self._source.close()

    def _plan(self, view: memoryview, offset: int) -> Scatter:
        scatter = Scatter(view, _JUNK)
        cluster_size, gap = self._clusters.cluster_size, self._clusters.gap
        for start, stop, source_offset, within in self._runs(offset, offset + len(view)):
            scatter.grouped(start - offset, stop - offset, source_offset, within, cluster_size, gap)
        scatter.finish()
        return scatter

    def _runs(self, start: int, stop: int) -> Iterator[tuple[int, int, int, int]]:
        """Yield (guest start, guest stop, source offset, bytes into its cluster), ascending."""
        if start >= stop:
            return
        clusters = self._clusters
        cluster_size = clusters.cluster_size
        stride = cluster_size + clusters.gap
        known = clusters.known_clusters
        for found in self._index.ranges(start // cluster_size, -(-stop // cluster_size)):
            position = max(found.first * cluster_size, start)
            number, within = divmod(position - found.first * cluster_size, cluster_size)
            source_offset = found.source_offset + number * stride + within
            yield position, min(found.stop * cluster_size, stop), source_offset, within
        if stop > known * cluster_size:
            # What is cut off: reading it finds the end of the source, which says so.
            position = max(start, known * cluster_size)
            yield position, stop, clusters.stored_size, position % cluster_size
