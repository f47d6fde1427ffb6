"""What an image that is made of others consists of, piece by piece.

A piece is literal bytes, or bytes of another image, its child. Everywhere else are zeros.
"""

from __future__ import annotations

import bisect
import dataclasses


@dataclasses.dataclass(frozen=True, slots=True)
class LiteralBytes:
    """Bytes as they are: `data` from `offset` on."""

    data: bytes = dataclasses.field(repr=False)
    offset: int = 0

    def after(self, length: int) -> LiteralBytes:
        """Return what follows `length` bytes further on."""
        return LiteralBytes(self.data, self.offset + length)

    def taken(self, length: int) -> bytes:
        """Return the first `length` of them."""
        return self.data[self.offset : self.offset + length]


@dataclasses.dataclass(frozen=True, slots=True)
class ChildBytes:
    """Bytes of a child, by its name, from its guest byte `offset` on.

    What the child does not reach is zeros.
    """

    name: str
    offset: int = 0

    def after(self, length: int) -> ChildBytes:
        """Return what follows `length` bytes further on."""
        return ChildBytes(self.name, self.offset + length)


Content = LiteralBytes | ChildBytes


@dataclasses.dataclass(frozen=True, slots=True)
class Segment:
    """Guest bytes ``[start, stop)``, never empty, and what they are."""

    start: int
    stop: int
    content: Content


class Canvas:
    """Segments, put down one after the other; what is taken stays as it is.

    Args:
        size: bytes of the image.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._segments: list[Segment] = []

    def put(self, start: int, stop: int, content: Content) -> None:
        """Put down what of ``[start, stop)`` is inside of the image and still free."""
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
