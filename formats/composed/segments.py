"""What an image that is made of others consists of, piece by piece."""

from __future__ import annotations

import bisect
import dataclasses


@dataclasses.dataclass(frozen=True, slots=True)
class FileBytes:
    """Bytes of a file of the directory, from `offset` on."""

    path: str
    offset: int

    def after(self, length: int) -> FileBytes:
        """Return what follows `length` bytes further on."""
        return FileBytes(self.path, self.offset + length)


@dataclasses.dataclass(frozen=True, slots=True)
class MadeBytes:
    """Bytes that are in no file, but made as a restore makes them; `data` from `offset` on."""

    data: bytes
    offset: int = 0

    def after(self, length: int) -> MadeBytes:
        """Return what follows `length` bytes further on."""
        return MadeBytes(self.data, self.offset + length)


@dataclasses.dataclass(frozen=True, slots=True)
class PartitionBytes:
    """Bytes of a partition, from `offset` on. What its image does not reach is zeros."""

    name: str
    offset: int = 0

    def after(self, length: int) -> PartitionBytes:
        """Return what follows `length` bytes further on."""
        return PartitionBytes(self.name, self.offset + length)


Content = FileBytes | MadeBytes | PartitionBytes


@dataclasses.dataclass(frozen=True, slots=True)
class Segment:
    """Bytes ``[start, stop)`` of the disk, never empty, and what they are."""

    start: int
    stop: int
    content: Content


class Canvas:
    """Segments, put down one after the other; what is taken stays as it is."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._segments: list[Segment] = []

    def put(self, start: int, stop: int, content: Content) -> None:
        """Put down what of ``[start, stop)`` is on the disk and still free."""
        stop = min(stop, self._size)
        first = bisect.bisect_right(self._segments, start, key=lambda segment: segment.stop)
        last = bisect.bisect_left(self._segments, stop, key=lambda segment: segment.start)
        position, pieces = start, []
        for taken in self._segments[first:last]:
            if position < taken.start:
                pieces.append(Segment(position, taken.start, content.after(position - start)))
            pieces.append(taken)
            position = max(position, taken.stop)
        if position < stop:
            pieces.append(Segment(position, stop, content.after(position - start)))
        self._segments[first:last] = pieces

    def segments(self) -> tuple[Segment, ...]:
        """Return what was put down, ascending."""
        return tuple(self._segments)
