"""ntfsclone: there are no checksums, so the structure to the last byte, and what a rescue left."""

from __future__ import annotations

import bisect
import re
from typing import TYPE_CHECKING

from ..errors import FormatError
from ..finding import Finding
from ..progress import WHOLE
from ..sources.prefetch import Pieces
from ..stored.clusters import StoredClusters
from . import reader

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from ..index.ranges import ClusterRange, RangeIndex, RangeList
    from ..index.stored import StoredIndex
    from ..progress import Progress, Stage
    from ..sources.byte_source import ByteSource
    from ..sources.prefetch import Piece

_MARK = re.compile(rb"BadSectoR\0")
"""How a sector begins that `ntfsclone --rescue` could not read (observed: ntfs-3g sources)."""

_SECTOR = 512


def verify(
    source: ByteSource,
    fields: Mapping[str, int],
    index: StoredIndex,
    *,
    progress: Progress | None = None,
    jobs: int | None = None,  # noqa: ARG001 - the stream can only be followed by one
    stage: Stage = WHOLE,  # noqa: ARG001 - and only from its beginning
) -> Iterator[Finding]:
    """Follow the commands to the end, read every byte, and yield what is wrong.

    Args:
        source: the stored bytes.
        fields: `ImageInfo.layout` of the scan.
        index: the range index of the scan.
        progress: told the stored bytes that are done.
        jobs: as the other formats have it.
        stage: as the other formats have it.

    Raises:
        OSError: the operating system could not read.
    """
    clusters = StoredClusters.from_json(fields)
    marks = Marks()
    ranges = index.range_index()
    try:
        scan = reader.walk_through(source, Pieces, progress, marks.look)
    except FormatError as error:
        start = _cluster_at(ranges, index.total_blocks, clusters, error.offset)
        yield Finding(start, clusters.size, str(error))
    else:
        known = index.total_blocks
        if scan.info.missing is not None:
            yield Finding(*scan.info.missing, str(scan.info.damage))
            known = scan.info.missing[0] // clusters.cluster_size
        assert scan.ranges is not None
        if not _is_same(scan.ranges, ranges, known):
            yield Finding(
                None, None, "the index in the catalog is not the image's: `imgcat add --force` it"
            )
    yield from _rescued(marks.found, ranges, index.total_blocks, clusters)


class Marks:
    """Where in the stream the marks of sectors that could not be read are."""

    def __init__(self) -> None:
        self.found: list[int] = []

    def look(self, piece: Piece) -> None:
        """Look for them in a piece."""
        view = memoryview(piece.buffer)[: piece.filled]
        starts = (match.start() for match in _MARK.finditer(view))
        # What begins in the overlap is the next piece's.
        self.found.extend(piece.offset + at for at in starts if at < piece.length)


def _is_same(found: RangeList, kept: RangeIndex, known: int) -> bool:
    """Tell whether both are alike in the first `known` clusters."""
    return _cut(found, known) == _cut(kept.ranges(0, known), known)


def _cut(ranges: Iterable[ClusterRange], known: int) -> list[ClusterRange]:
    return [
        each._replace(number=min(each.number, known - each.first))
        for each in ranges
        if each.first < known
    ]


def _cluster_at(
    ranges: RangeIndex, total: int, clusters: StoredClusters, source_offset: int
) -> int:
    """Return the first guest byte whose command lies at `source_offset` or later."""
    stride = clusters.cluster_size + clusters.gap
    data_offset = source_offset + clusters.gap
    first = total
    for found in ranges.ranges(0, total):
        if found.source_offset + found.number * stride > data_offset:
            behind = max(0, data_offset - found.source_offset) // stride
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
