"""A saved disk as one image: its tables and its partitions, each at its place.

For any number of threads. A partition is opened when it is first touched, and stays open; one that
cannot be opened spoils only its own range.
"""

from __future__ import annotations

import bisect
import threading
from typing import TYPE_CHECKING

from ..errors import FormatError
from ..extent import Extent, ExtentKind
from ..sources.file import FileSource
from ..stored.scatter import fill_zero
from .segments import FileBytes, MadeBytes, PartitionBytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ..reader import ImageReader
    from .segments import Content, Segment

    OpenPartition = Callable[[str], ImageReader]


class DiskReader:
    """Random access to a saved disk. See `ImageReader`.

    The bytes come from many files, so the offset of an extent cannot be one in any of them: the
    ``source_offset`` of a DATA extent is its place on the disk, as if the disk were stored plainly.

    Args:
        size: bytes of the disk.
        segments: what it is made of.
        open_partition: opens a partition by its name. It is called from any thread, for each
            partition once unless it raises; the reader that it returns is closed with this one.
            A FormatError that it raises is raised again for every further read; after an OSError
            it is called again.
    """

    def __init__(
        self, size: int, segments: Sequence[Segment], open_partition: OpenPartition
    ) -> None:
        self._size = size
        self._segments = segments
        contents = [segment.content for segment in segments]
        self._partitions = {
            content.name: _Partition(content.name, open_partition)
            for content in contents
            if isinstance(content, PartitionBytes)
        }
        self._files = {
            content.path: _File(content.path)
            for content in contents
            if isinstance(content, FileBytes)
        }

    @property
    def size(self) -> int:
        """Number of bytes of the disk."""
        return self._size

    def extents(self, start: int, stop: int) -> Iterator[Extent]:
        """Yield the extents of ``[start, stop)``; see `ImageReader.extents`.

        Partitions in the range are opened. One that cannot be opened is data, so that whoever reads
        it learns of the error.
        """
        self._check_range(start, stop)
        return self._extents(start, stop)

    def read_into(self, view: memoryview, offset: int) -> None:
        """Fill `view` from byte `offset` on; see `ImageReader.read_into`."""
        self._check_range(offset, offset + len(view))
        for start, stop, content in self._pieces(offset, offset + len(view)):
            piece = view[start - offset : stop - offset]
            if content is None:
                fill_zero(piece)
            elif isinstance(content, PartitionBytes):
                self._partitions[content.name].read_into(piece, content.offset)
            elif isinstance(content, FileBytes):
                self._files[content.path].open().readv((piece,), content.offset)
            else:
                piece[:] = _made(content, len(piece))

    def read_into_nowait(self, view: memoryview, offset: int) -> bool:
        """Do as `read_into` unless that needs waiting; see `ImageReader.read_into_nowait`."""
        self._check_range(offset, offset + len(view))
        return all(
            self._read_piece_nowait(view[start - offset : stop - offset], content)
            for start, stop, content in self._pieces(offset, offset + len(view))
        )

    def close(self) -> None:
        """Close what was opened. Closing twice is harmless."""
        for partition in self._partitions.values():
            partition.close()
        for file in self._files.values():
            file.close()

    def _read_piece_nowait(self, piece: memoryview, content: Content | None) -> bool:
        if isinstance(content, PartitionBytes):
            return self._partitions[content.name].read_into_nowait(piece, content.offset)
        if isinstance(content, FileBytes):
            source = self._files[content.path].opened
            return source is not None and source.readv_nowait((piece,), content.offset)
        if content is None:
            fill_zero(piece)
        else:
            piece[:] = _made(content, len(piece))
        return True

    def _extents(self, start: int, stop: int) -> Iterator[Extent]:
        for piece_start, piece_stop, content in self._pieces(start, stop):
            if content is None:
                yield Extent(piece_start, piece_stop, ExtentKind.ZERO)
            elif isinstance(content, PartitionBytes):
                partition = self._partitions[content.name]
                length = piece_stop - piece_start
                for first, last, kind in partition.extents(content.offset, length):
                    place = piece_start + first
                    is_data = kind is ExtentKind.DATA
                    yield Extent(place, piece_start + last, kind, place if is_data else -1)
            else:
                yield Extent(piece_start, piece_stop, ExtentKind.DATA, piece_start)

    def _pieces(self, start: int, stop: int) -> Iterator[tuple[int, int, Content | None]]:
        """Yield adjacent (start, stop, content) that cover ``[start, stop)``; None is zeros."""
        index = bisect.bisect_right(self._segments, start, key=_stop)
        position = start
        while position < stop:
            segment = self._segments[index] if index < len(self._segments) else None
            if segment is None or segment.start >= stop:
                yield position, stop, None
                return
            if position < segment.start:
                yield position, segment.start, None
                position = segment.start
            end = min(segment.stop, stop)
            yield position, end, segment.content.after(position - segment.start)
            position = end
            index += 1

    def _check_range(self, start: int, stop: int) -> None:
        if not 0 <= start <= stop <= self._size:
            message = f"[{start}, {stop}) is not inside [0, {self._size})"
            raise ValueError(message)


class _File:
    """A file of the directory, opened when it is first read."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._lock = threading.Lock()
        self.opened: FileSource | None = None

    def open(self) -> FileSource:
        with self._lock:
            if self.opened is None:
                self.opened = FileSource(self._path)
            return self.opened

    def close(self) -> None:
        if self.opened is not None:
            self.opened.close()


class _Partition:
    """A partition, opened when it is first touched. Behind the end of its image are zeros."""

    def __init__(self, name: str, open_partition: OpenPartition) -> None:
        self._name = name
        self._open_partition = open_partition
        # A lock for each, so that one that takes long to open does not stop the others.
        self._lock = threading.Lock()
        self._reader: ImageReader | None = None
        self._error: FormatError | None = None

    def read_into(self, view: memoryview, offset: int) -> None:
        reader = self._opened()
        stored = _within(reader, offset, len(view))
        if stored:
            reader.read_into(view[:stored], offset)
        fill_zero(view[stored:])

    def read_into_nowait(self, view: memoryview, offset: int) -> bool:
        reader = self._reader
        if reader is None:
            return False
        stored = _within(reader, offset, len(view))
        if stored and not reader.read_into_nowait(view[:stored], offset):
            return False
        fill_zero(view[stored:])
        return True

    def extents(self, offset: int, length: int) -> Iterator[tuple[int, int, ExtentKind]]:
        """Yield (start, stop, kind) of `length` bytes from `offset` on, counted from there."""
        try:
            reader = self._opened()
        except (FormatError, OSError):
            yield 0, length, ExtentKind.DATA
            return
        stored = _within(reader, offset, length)
        if stored:
            for extent in reader.extents(offset, offset + stored):
                yield extent.start - offset, extent.stop - offset, extent.kind
        if stored < length:
            yield stored, length, ExtentKind.ZERO

    def close(self) -> None:
        if self._reader is not None:
            self._reader.close()

    def _opened(self) -> ImageReader:
        with self._lock:
            if self._error is not None:
                # Without the traceback, which otherwise grows with every read.
                raise self._error.with_traceback(None)
            if self._reader is None:
                try:
                    self._reader = self._open_partition(self._name)
                except FormatError as error:
                    self._error = error
                    raise
            return self._reader


def _within(reader: ImageReader, offset: int, length: int) -> int:
    """Return how many of `length` bytes from `offset` on the image reaches."""
    return max(0, min(length, reader.size - offset))


def _made(content: MadeBytes, length: int) -> bytes:
    return content.data[content.offset : content.offset + length]


def _stop(segment: Segment) -> int:
    return segment.stop
