"""ntfsclone: there are no checksums, so the structure to the last byte, and what a rescue left."""

from __future__ import annotations

import bisect
import re
from typing import TYPE_CHECKING

from ..clusters import StoredClusters
from ..errors import FormatError
from ..finding import Finding
from . import reader

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ..index.ranges import RangeIndex, RangeList
    from ..index.stored import StoredIndex
    from ..reader import Progress
    from ..source import ByteSource

_MARK = re.compile(rb"BadSectoR\0")
"""How a sector begins that `ntfsclone --rescue` could not read (observed: ntfs-3g sources)."""

_MARK_SIZE = 10
_PIECE = 1 << 20
_SECTOR = 512


def verify(
    source: ByteSource,
    fields: Mapping[str, int],
    index: StoredIndex,
    *,
    progress: Progress | None = None,
    jobs: int | None = None,  # noqa: ARG001 - the stream can only be followed by one
) -> Iterator[Finding]:
    """Follow the commands to the end, read every byte, and yield what is wrong.

    Args:
        source: the stored bytes.
        fields: `ImageInfo.layout` of the scan.
        index: the range index of the scan.
        progress: told the stored bytes that are done.
        jobs: as the other formats have it.

    Raises:
        OSError: the operating system could not read.
    """
    clusters = StoredClusters.from_json(fields)
    watching = _Watching(source)
    ranges = index.range_index()
    try:
        scan = reader.scan(watching, progress)
    except FormatError as error:
        start = _cluster_at(ranges, index.total_blocks, clusters, error.offset)
        yield Finding(start, clusters.size, str(error))
    else:
        watching.look_at_the_rest()
        if scan.info.missing is not None:
            yield Finding(*scan.info.missing, str(scan.info.damage))
        assert scan.ranges is not None
        if not _is_same(scan.ranges, ranges, index.total_blocks):
            yield Finding(
                None, None, "the index in the catalog is not the image's: `imgcat add --force` it"
            )
    yield from _rescued(watching.marks, ranges, index.total_blocks, clusters)


class _Watching:
    """A source that looks at all that is read, and at what is left out in between.

    Attributes:
        marks: where the mark of a sector that could not be read was seen, ascending.
    """

    def __init__(self, source: ByteSource) -> None:
        self._source = source
        self._looked = 0
        self._tail = b""
        self.marks: list[int] = []

    @property
    def size(self) -> int:
        return self._source.size

    def readv(self, buffers: Sequence[memoryview], offset: int) -> None:
        self._source.readv(buffers, offset)
        (buffer,) = buffers
        if offset > self._looked:
            # The rest of a cluster that the buffer before held the beginning of.
            between = self._source.read_at(self._looked, offset - self._looked)
            self._look(between, self._looked)
        self._look(buffer, offset)
        self._looked = offset + len(buffer)

    def readv_nowait(self, buffers: Sequence[memoryview], offset: int) -> bool:
        return self._source.readv_nowait(buffers, offset)

    def read_at(self, offset: int, length: int) -> bytes:
        return self._source.read_at(offset, length)

    def close(self) -> None:
        self._source.close()

    def look_at_the_rest(self) -> None:
        """Read what follows the beginning of the last cluster."""
        while self._looked < self.size:
            data = self._source.read_at(self._looked, min(_PIECE, self.size - self._looked))
            self._look(data, self._looked)
            self._looked += len(data)

    def _look(self, data: bytes | memoryview, offset: int) -> None:
        rest = _MARK_SIZE - 1
        seam = self._tail + bytes(data[:rest])
        self.marks += [offset - len(self._tail) + m.start() for m in _MARK.finditer(seam)]
        self.marks += [offset + m.start() for m in _MARK.finditer(data)]
        self._tail = bytes(data[-rest:])


def _is_same(found: RangeList, kept: RangeIndex, total: int) -> bool:
    return list(found) == list(kept.ranges(0, total))


def _cluster_at(
    ranges: RangeIndex, total: int, clusters: StoredClusters, source_offset: int
) -> int:
    """Return the first guest byte that is stored at `source_offset` or later."""
    stride = clusters.cluster_size + clusters.gap
    first = total
    for found in ranges.ranges(0, total):
        if found.source_offset + found.number * stride > source_offset:
            behind = max(0, source_offset - found.source_offset) // stride
            first = min(first, found.first + behind)
    return min(clusters.size, first * clusters.cluster_size)


def _rescued(
    marks: list[int], ranges: RangeIndex, total: int, clusters: StoredClusters
) -> Iterator[Finding]:
    """Yield the guest sectors in which a mark was found."""
    if not marks:
        return
    stride = clusters.cluster_size + clusters.gap
    sectors = []
    for found in ranges.ranges(0, total):
        stop = found.source_offset + found.number * stride
        first, last = (bisect.bisect_left(marks, each) for each in (found.source_offset, stop))
        for mark in marks[first:last]:
            number, within = divmod(mark - found.source_offset, stride)
            if within % _SECTOR == 0 and within < clusters.cluster_size:
                sectors.append((found.first + number) * clusters.cluster_size + within)
    for start, stop in _joined(sorted(sectors)):
        yield Finding(
            start, stop, "could not be read when the image was made: ntfsclone filled it in"
        )


def _joined(sectors: list[int]) -> Iterator[tuple[int, int]]:
    start = stop = -1
    for sector in sectors:
        if sector != stop:
            if start >= 0:
                yield start, stop
            start = sector
        stop = sector + _SECTOR
    if start >= 0:
        yield start, stop
