"""Mapped clusters: reading the formats that keep clusters where a map says, in any order."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, ClassVar, NamedTuple, Protocol

from ..errors import MissingParentError
from ..extent import Extent, ExtentKind, unreadable, zero
from ..index.map import MapKind
from ..reader import check_range
from ..sources.place import stored
from .geometry import Geometry
from .scatter import Scatter, fill_zero

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ..index.map import MapIndex
    from ..reader import ImageReader
    from ..sources.byte_source import ByteSource


_NO_PARENT = "what it is a difference to is not open"


@dataclasses.dataclass(frozen=True, slots=True)
class MappedClusters(Geometry):
    """The geometry of mapped clusters. Sizes are bytes.

    Attributes:
        size: guest bytes.
        unit_size: bytes in a unit of the map.
        cluster_size: bytes that come out of a compressed piece: one or more units.
        data_stop: where the last cluster may be cut off because the file ends there: what would lie
            behind it is zeros.
        compression: how pieces are compressed, as the format numbers it.
        has_parent: 1 where what is not mapped are bytes of another image, its parent; else 0.
    """

    size: int
    unit_size: int
    cluster_size: int
    data_stop: int
    compression: int
    has_parent: int = 0

    _defaults: ClassVar[Mapping[str, str]] = {}


class Clusters(Protocol):
    """Decodes compressed clusters."""

    def plain(self, offset: int, length: int) -> bytes:
        """Return the cluster whose compressed piece lies at `offset`. It may block.

        Raises:
            FormatError: it does not decode to a whole cluster.
            OSError: the operating system could not read.
        """

    def plain_nowait(self, offset: int) -> bytes | None:
        """Return the same if it is decoded already, else None."""


class _NoParent:
    """In the place of a parent that is not there. See `ImageReader`."""

    def __init__(self, size: int) -> None:
        self.size = size

    def extents(self, start: int, stop: int) -> Iterator[Extent]:
        yield unreadable(start, stop, None, start, _NO_PARENT)

    def read_into(self, view: memoryview, offset: int) -> None:  # noqa: ARG002
        raise MissingParentError("chain", offset, _NO_PARENT)

    def read_into_nowait(self, view: memoryview, offset: int) -> bool:  # noqa: ARG002
        return False

    def close(self) -> None:
        pass


class _Piece(NamedTuple):
    """Guest bytes ``[start, stop)`` of one kind; `offset` and `length` as of a `MapRun`."""

    start: int
    stop: int
    kind: int
    offset: int
    length: int


class MappedReader:
    """Random access to an image of mapped clusters. See `ImageReader`.

    Args:
        source: the stored bytes.
        geometry: the clusters.
        index: where they lie.
        clusters: decodes compressed ones; None of an image that cannot have any.
        parent: has what the image does not; zeros if None, and behind its end.
    """

    def __init__(
        self,
        source: ByteSource,
        geometry: MappedClusters,
        index: MapIndex,
        clusters: Clusters | None = None,
        parent: ImageReader | None = None,
    ) -> None:
        self._source = source
        self._geometry = geometry
        self._index = index
        self._clusters = clusters
        # Never zeros in the place of what somebody else has.
        if parent is None and geometry.has_parent:
            parent = _NoParent(geometry.size)
        self._parent = parent
        # What each small read asks for, without a look into the record.
        self._size = geometry.size
        self._unit_size = geometry.unit_size
        self._single_run = index.single_run
        self._readv_nowait = source.readv_nowait
        self._data_stop = geometry.data_stop

    @property
    def size(self) -> int:
        """Number of guest bytes."""
        return self._size

    def extents(self, start: int, stop: int) -> Iterator[Extent]:
        """Yield the extents of guest bytes ``[start, stop)``; see `ImageReader.extents`."""
        check_range(start, stop, self._size)
        for piece in self._pieces(start, stop):
            yield from self._extents_of(piece)

    def read_into(self, view: memoryview, offset: int) -> None:
        """Fill `view` from guest byte `offset` on; see `ImageReader.read_into`."""
        stop = offset + len(view)
        check_range(offset, stop, self._size)
        pieces = list(self._pieces(offset, stop))
        self._plan(view, offset, pieces).read(self._source)
        for piece in pieces:
            part = view[piece.start - offset : piece.stop - offset]
            if piece.kind == MapKind.COMPRESSED:
                self._copy_clusters(part, piece)
            elif piece.kind == MapKind.ABSENT and self._parent is not None:
                there = _within(self._parent, piece)
                if there:
                    self._parent.read_into(part[:there], piece.start)

    def read_into_nowait(self, view: memoryview, offset: int) -> bool:
        """Do as `read_into` unless that needs waiting; see `ImageReader.read_into_nowait`."""
        stop = offset + len(view)
        unit_size = self._unit_size
        if 0 <= offset < stop <= self._size:
            run = self._single_run(offset // unit_size, (stop - 1) // unit_size + 1)
            if run is not None:
                if run.kind == MapKind.DATA:
                    position = run.offset + offset - run.first * unit_size
                    if position + len(view) <= self._data_stop:
                        return self._readv_nowait((view,), position)
                elif run.kind == MapKind.ZERO or (
                    run.kind == MapKind.ABSENT and self._parent is None
                ):
                    fill_zero(view)
                    return True
        check_range(offset, stop, self._size)
        if not self._index.resident(offset // unit_size, -(-stop // unit_size)):
            return False
        pieces = list(self._pieces(offset, stop))
        if not self._plan(view, offset, pieces).read_nowait(self._source):
            return False
        return all(
            self._fill_nowait(view[piece.start - offset : piece.stop - offset], piece)
            for piece in pieces
        )

    def close(self) -> None:
        """Close the source, and the parent."""
        self._source.close()
        if self._parent is not None:
            self._parent.close()

    def _plan(self, view: memoryview, offset: int, pieces: list[_Piece]) -> Scatter:
        """Return what is to be read: what is zeros, or is filled in afterwards, is zeroed."""
        scatter = Scatter(view, 0)
        for piece in pieces:
            if piece.kind == MapKind.DATA:
                there = min(piece.stop - piece.start, max(0, self._data_stop - piece.offset))
                if there:
                    start = piece.start - offset
                    scatter.piece(start, start + there, piece.offset)
        scatter.finish()
        return scatter

    def _fill_nowait(self, part: memoryview, piece: _Piece) -> bool:
        if piece.kind == MapKind.COMPRESSED:
            return self._copy_clusters_nowait(part, piece)
        if piece.kind == MapKind.ABSENT and self._parent is not None:
            there = _within(self._parent, piece)
            return not there or self._parent.read_into_nowait(part[:there], piece.start)
        return True

    def _copy_clusters(self, part: memoryview, piece: _Piece) -> None:
        assert self._clusters is not None
        for start, stop, within in self._cluster_parts(piece):
            plain = self._clusters.plain(piece.offset, piece.length)
            part[start:stop] = plain[within : within + stop - start]

    def _copy_clusters_nowait(self, part: memoryview, piece: _Piece) -> bool:
        assert self._clusters is not None
        for start, stop, within in self._cluster_parts(piece):
            plain = self._clusters.plain_nowait(piece.offset)
            if plain is None:
                return False
            part[start:stop] = plain[within : within + stop - start]
        return True

    def _cluster_parts(self, piece: _Piece) -> Iterator[tuple[int, int, int]]:
        """Yield (start, stop) of the piece's parts, and how far into its cluster each begins."""
        cluster_size = self._geometry.cluster_size
        position = piece.start
        while position < piece.stop:
            within = position % cluster_size
            stop = min(piece.stop, position - within + cluster_size)
            yield position - piece.start, stop - piece.start, within
            position = stop

    def _pieces(self, start: int, stop: int) -> Iterator[_Piece]:
        """Yield what guest bytes ``[start, stop)`` are, all of them, ascending."""
        if start >= stop:
            return
        unit_size = self._unit_size
        position = start
        for run in self._index.runs(start // unit_size, -(-stop // unit_size)):
            run_start, run_stop = run.first * unit_size, min(run.stop * unit_size, stop)
            if position < run_start:
                yield _Piece(position, run_start, MapKind.ABSENT, 0, 0)
                position = run_start
            offset = run.offset
            if run.kind == MapKind.DATA:
                offset += position - run_start
            yield _Piece(position, run_stop, run.kind, offset, run.length)
            position = run_stop
        if position < stop:
            yield _Piece(position, stop, MapKind.ABSENT, 0, 0)

    def _extents_of(self, piece: _Piece) -> Iterator[Extent]:
        if piece.kind == MapKind.DATA:
            there = min(piece.stop, piece.start + max(0, self._data_stop - piece.offset))
            if piece.start < there:
                yield from stored(piece.start, there, self._source, piece.offset)
            if there < piece.stop:
                yield zero(max(piece.start, there), piece.stop)
        elif piece.kind == MapKind.COMPRESSED:
            for start, stop, _within in self._cluster_parts(piece):
                yield Extent(
                    piece.start + start, piece.start + stop, ExtentKind.COMPRESSED, self._source,
                    piece.offset, piece.length,
                )  # fmt: skip
        elif piece.kind == MapKind.ABSENT and self._parent is not None:
            yield from self._extents_of_parent(self._parent, piece)
        else:
            yield zero(piece.start, piece.stop)

    def _extents_of_parent(self, parent: ImageReader, piece: _Piece) -> Iterator[Extent]:
        end = piece.start + _within(parent, piece)
        for extent in parent.extents(piece.start, end) if piece.start < end else ():
            yield extent.of_child(parent)
        if end < piece.stop:
            yield zero(end, piece.stop)


def _within(reader: ImageReader, piece: _Piece) -> int:
    """Return how many bytes of a piece an image reaches."""
    return max(0, min(piece.stop, reader.size) - piece.start)
