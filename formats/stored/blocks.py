"""Stored blocks: reading the formats that store used blocks one after the other.

partclone and partimage keep the used blocks in ascending order, with a checksum after every so
many bytes of them. Where a used block lies follows from its rank alone:

    d = rank * block_size + byte in the block          (used-data byte)
    source offset = data_offset + d + checksum_size * (d // group_size)
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, ClassVar

from ..extent import zero
from ..index.rank import NONE_PRESENT, NOT_UNIFORM, block_of_rank
from ..reader import check_range
from ..sources.place import stored
from .geometry import Geometry
from .scatter import Scatter, fill_zero

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ..extent import Extent
    from ..index.rank import RankIndexLike
    from ..index.rank_chunk import RankChunk
    from ..sources.byte_source import ByteSource


@dataclasses.dataclass(frozen=True, slots=True)
class StoredBlocks(Geometry):
    """The geometry of the stored blocks. Sizes and offsets are bytes.

    Attributes:
        size: guest bytes.
        block_size: bytes in a block.
        total_blocks: blocks that the bitmap describes; guest bytes past them are zeros.
        used_blocks: blocks that are stored.
        data_offset: where the first stored block lies.
        group_size: used-data bytes that share a checksum, 0 where there is none.
        checksum_size: bytes of checksum after each group.
        partial_checksum: bytes of checksum after a last group that is not full; as many as after
            a full one with partclone, none with partimage.
    """

    size: int
    block_size: int
    total_blocks: int
    used_blocks: int
    data_offset: int
    group_size: int
    checksum_size: int
    partial_checksum: int

    # Catalogs of the first schema have no other kind of checksum.
    _defaults: ClassVar[Mapping[str, str]] = {"partial_checksum": "checksum_size"}

    @property
    def stored_size(self) -> int:
        """Bytes of the whole stored stream, every checksum included."""
        return self.size_with(self.used_blocks)

    def size_with(self, used_blocks: int) -> int:
        """Return the bytes of the stored stream if it held `used_blocks` blocks."""
        data = used_blocks * self.block_size
        groups, rest = divmod(data, self.group_size) if self.group_size else (0, 0)
        checksums = groups * self.checksum_size + (self.partial_checksum if rest else 0)
        return self.data_offset + data + checksums

    def whole_blocks(self, stored_size: int) -> int:
        """Return how many blocks lie wholly in the first `stored_size` bytes of the stream."""
        available = max(0, stored_size - self.data_offset)
        if self.group_size:
            groups, rest = divmod(available, self.group_size + self.checksum_size)
            available = groups * self.group_size + min(rest, self.group_size)
        return min(self.used_blocks, available // self.block_size)

    def missing(
        self, stored_size: int, chunks: Sequence[RankChunk] | None
    ) -> tuple[int, int] | None:
        """Return the guest bytes ``[start, stop)`` from the first to the last missing block.

        Args:
            stored_size: the bytes of the stream that are there.
            chunks: the rank index, None where every block is stored.
        """
        there = self.whole_blocks(stored_size)
        if there == self.used_blocks:
            return None
        first, last = there, self.used_blocks - 1
        if chunks is not None:
            first = block_of_rank(chunks, self.total_blocks, first)
            last = block_of_rank(chunks, self.total_blocks, last)
        return first * self.block_size, min((last + 1) * self.block_size, self.size)


class StoredBlocksReader:
    """Random access to an image of stored blocks. See `ImageReader`."""

    def __init__(self, source: ByteSource, blocks: StoredBlocks, index: RankIndexLike) -> None:
        self._source = source
        self._blocks = blocks
        self._index = index
        # What each small read asks for, without a look into the record.
        self._uniform_rank = index.uniform_rank
        self._readv_nowait = source.readv_nowait
        self._block_size = blocks.block_size
        self._mapped_size = min(blocks.size, blocks.total_blocks * blocks.block_size)
        self._group_size = blocks.group_size
        self._checksum_size = blocks.checksum_size
        self._data_offset = blocks.data_offset

    @property
    def size(self) -> int:
        """Number of guest bytes."""
        return self._blocks.size

    def extents(self, start: int, stop: int) -> Iterator[Extent]:
        """Yield the extents of guest bytes ``[start, stop)``; see `ImageReader.extents`."""
        check_range(start, stop, self._blocks.size)
        position = start
        for piece_start, piece_stop, source_offset in self._pieces(start, stop):
            if position < piece_start:
                yield zero(position, piece_start)
            yield from stored(piece_start, piece_stop, self._source, source_offset)
            position = piece_stop
        if position < stop:
            yield zero(position, stop)

    def stored_ranges(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """Yield what is stored of guest bytes ``[start, stop)``; see `reader.stored_ranges`."""
        check_range(start, stop, self._blocks.size)
        return ((first, last) for first, last, _data in self._runs(start, stop))

    def read_into(self, view: memoryview, offset: int) -> None:
        """Fill `view` from guest byte `offset` on; see `ImageReader.read_into`."""
        check_range(offset, offset + len(view), self._blocks.size)
        self._plan(view, offset).read(self._source)

    def read_into_nowait(self, view: memoryview, offset: int) -> bool:
        """Do as `read_into` unless that needs waiting; see `ImageReader.read_into_nowait`."""
        stop = offset + len(view)
        block_size = self._block_size
        first = offset // block_size
        last = (stop + block_size - 1) // block_size
        if 0 <= offset < stop <= self._mapped_size:
            rank = self._uniform_rank(first, last)
            if rank == NONE_PRESENT:
                fill_zero(view)
                return True
            if rank != NOT_UNIFORM:
                data = (rank - first) * block_size + offset
                group_size = self._group_size
                if not group_size:
                    return self._readv_nowait((view,), self._data_offset + data)
                group = data // group_size
                if data + stop - offset <= (group + 1) * group_size:
                    position = self._data_offset + data + group * self._checksum_size
                    return self._readv_nowait((view,), position)
        check_range(offset, stop, self._blocks.size)
        if not self._index.resident(first, min(last, self._blocks.total_blocks)):
            return False
        return self._plan(view, offset).read_nowait(self._source)

    def close(self) -> None:
        """Close the source."""
        self._source.close()

    def _plan(self, view: memoryview, offset: int) -> Scatter:
        scatter = Scatter(view, self._checksum_size)
        blocks = self._blocks
        group, gap = blocks.group_size, blocks.checksum_size
        for start, stop, data in self._runs(offset, offset + len(view)):
            if group:
                number, within = divmod(data, group)
                source_offset = blocks.data_offset + data + number * gap
                scatter.grouped(start - offset, stop - offset, source_offset, within, group, gap)
            else:
                scatter.piece(start - offset, stop - offset, blocks.data_offset + data)
        scatter.finish()
        return scatter

    def _runs(self, start: int, stop: int) -> Iterator[tuple[int, int, int]]:
        """Yield (guest start, guest stop, used-data byte) of the stored bytes, ascending."""
        if start >= stop:
            return
        block_size = self._blocks.block_size
        last = min(-(-stop // block_size), self._blocks.total_blocks)
        for run in self._index.runs(start // block_size, last):
            position = max(run.start * block_size, start)
            data = (run.rank - run.start) * block_size + position
            yield position, min(run.stop * block_size, stop), data

    def _pieces(self, start: int, stop: int) -> Iterator[tuple[int, int, int]]:
        """Yield (guest start, guest stop, source offset) of what is stored in one piece each."""
        blocks = self._blocks
        group_size, checksum_size = blocks.group_size, blocks.checksum_size
        for run_start, run_stop, run_data in self._runs(start, stop):
            if not group_size:
                yield run_start, run_stop, blocks.data_offset + run_data
                continue
            position, data = run_start, run_data
            while position < run_stop:
                group, within = divmod(data, group_size)
                length = min(run_stop - position, group_size - within)
                offset = blocks.data_offset + data + group * checksum_size
                yield position, position + length, offset
                position += length
                data += length
