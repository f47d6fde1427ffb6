"""An image that is made of others, as one image. For any number of threads."""

from __future__ import annotations

import bisect
from typing import TYPE_CHECKING, NamedTuple

from ..extent import zero
from ..reader import check_range, stored_ranges
from ..stored.scatter import fill_zero
from .parts import Child, Literal
from .segments import LiteralBytes
from .striped import Striped

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ..extent import Extent
    from ..reader import ImageReader
    from .parts import Part
    from .segments import Segment


class Slice(NamedTuple):
    """Guest bytes ``[start, stop)`` that are those of a part, from its byte `offset` on."""

    start: int
    stop: int
    part: Part
    offset: int


class ComposedReader:
    """Random access to an image that is made of others. See `ImageReader`.

    Args:
        size: guest bytes.
        slices: what it is made of, ascending and not overlapping; between them are zeros. A part
            may have several; the parts are closed with the reader.
    """

    def __init__(self, size: int, slices: Sequence[Slice]) -> None:
        self._size = size
        self._slices = slices
        self._stops = [each.stop for each in slices]

    @classmethod
    def of_segments(
        cls, size: int, segments: Sequence[Segment], open_child: Callable[[str], ImageReader]
    ) -> ComposedReader:
        """Return a reader over segments that are in memory.

        Args:
            size: guest bytes.
            segments: what it is made of.
            open_child: opens a child by its name.
        """
        children: dict[str, Child] = {}
        slices = []
        for start, stop, content in ((each.start, each.stop, each.content) for each in segments):
            part: Part
            if isinstance(content, LiteralBytes):
                part, offset = Literal.of(content.taken(stop - start)), 0
            else:
                name, offset = content.name, content.offset
                if name not in children:
                    children[name] = Child(name, lambda name=name: open_child(name))  # type: ignore[misc]
                part = children[name]
                if content.stripes is not None:
                    part = Striped(children[name], content.stripes)
            slices.append(Slice(start, stop, part, offset))
        return cls(size, slices)

    @property
    def size(self) -> int:
        """Number of guest bytes."""
        return self._size

    def extents(self, start: int, stop: int) -> Iterator[Extent]:
        """Yield the extents of ``[start, stop)``; see `ImageReader.extents`.

        Children in the range are opened. Of one that cannot be, the bytes are unreadable.
        """
        check_range(start, stop, self._size)
        return self._extents(start, stop)

    def stored_ranges(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """Yield what is stored of ``[start, stop)``; see `reader.stored_ranges`.

        What cannot be had is among it. Children in the range are opened.
        """
        check_range(start, stop, self._size)
        for piece_start, piece_stop, part, at in self._cut(start, stop):
            if part is not None:
                shift = piece_start - at
                for first, last in stored_ranges(part, at, at + piece_stop - piece_start):
                    yield first + shift, last + shift

    def read_into(self, view: memoryview, offset: int) -> None:
        """Fill `view` from guest byte `offset` on; see `ImageReader.read_into`."""
        check_range(offset, offset + len(view), self._size)
        for start, stop, part, at in self._cut(offset, offset + len(view)):
            piece = view[start - offset : stop - offset]
            if part is None:
                fill_zero(piece)
            else:
                part.read_into(piece, at)

    def read_into_nowait(self, view: memoryview, offset: int) -> bool:
        """Do as `read_into` unless that needs waiting; see `ImageReader.read_into_nowait`."""
        check_range(offset, offset + len(view), self._size)
        for start, stop, part, at in self._cut(offset, offset + len(view)):
            piece = view[start - offset : stop - offset]
            if part is None:
                fill_zero(piece)
            elif not part.read_into_nowait(piece, at):
                return False
        return True

    def close(self) -> None:
        """Close what was opened. Closing twice is harmless."""
        for each in self._slices:
            each.part.close()

    def _extents(self, start: int, stop: int) -> Iterator[Extent]:
        for piece_start, piece_stop, part, at in self._cut(start, stop):
            if part is None:
                yield zero(piece_start, piece_stop)
                continue
            shift = piece_start - at
            for extent in part.extents(at, at + piece_stop - piece_start):
                yield extent._replace(start=extent.start + shift, stop=extent.stop + shift)

    def _cut(self, start: int, stop: int) -> Iterator[tuple[int, int, Part | None, int]]:
        """Yield adjacent (start, stop, part, offset in it) that cover ``[start, stop)``."""
        index = bisect.bisect_right(self._stops, start)
        position = start
        while position < stop:
            found = self._slices[index] if index < len(self._slices) else None
            if found is None or found.start >= stop:
                yield position, stop, None, 0
                return
            if position < found.start:
                yield position, found.start, None, 0
                position = found.start
            end = min(found.stop, stop)
            yield position, end, found.part, found.offset + position - found.start
            position = end
            index += 1
