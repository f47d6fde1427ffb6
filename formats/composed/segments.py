"""What an image that is made of others consists of, piece by piece.

A piece is literal bytes, or bytes of another image, its child. Everywhere else are zeros.
"""

from __future__ import annotations

import bisect
import dataclasses
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator


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


class Stripes(NamedTuple):
    """Bytes of a child that are taken from several places in turn, as RAID 0 does.

    Attributes:
        size: how many are taken before it is the next place's turn; at least 1.
        offsets: the guest byte of the child at which each place begins; one at least.
    """

    size: int
    offsets: tuple[int, ...]

    def cut(self, start: int, stop: int) -> Iterator[tuple[int, int, int]]:
        """Yield adjacent (start, stop, guest byte of the child) that cover ``[start, stop)``."""
        while start < stop:
            stripe, within = divmod(start, self.size)
            row, column = divmod(stripe, len(self.offsets))
            end = min(stop, start + self.size - within)
            yield start, end, self.offsets[column] + row * self.size + within
            start = end

    def among(self, start: int, stop: int, first: int, last: int) -> Iterator[tuple[int, int]]:
        """Yield which of the bytes ``[start, stop)`` are among the child's ``[first, last)``.

        They are in no order.
        """
        width = len(self.offsets)
        rows = -(-stop // (self.size * width))
        for column, offset in enumerate(self.offsets):
            begin = max(0, (first - offset) // self.size)
            for row in range(begin, min(rows, -(-(last - offset) // self.size))):
                stripe = (row * width + column) * self.size
                shift = stripe - offset - row * self.size
                found_start = max(start, stripe, first + shift)
                found_stop = min(stop, stripe + self.size, last + shift)
                if found_start < found_stop:
                    yield found_start, found_stop


@dataclasses.dataclass(frozen=True, slots=True)
class ChildBytes:
    """Bytes of a child, by its name, from its guest byte `offset` on.

    Where there are stripes, `offset` counts the bytes that these give. What the child does not
    reach is zeros.
    """

    name: str
    offset: int = 0
    stripes: Stripes | None = None

    def after(self, length: int) -> ChildBytes:
        """Return what follows `length` bytes further on."""
        return ChildBytes(self.name, self.offset + length, self.stripes)


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
