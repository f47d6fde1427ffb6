"""A part of an image whose bytes are taken from several places of a child in turn."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..reader import stored_ranges

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..extent import Extent
    from .parts import Child
    from .segments import Stripes


class Striped:
    """Stripes of a child, as a `Part`.

    Args:
        child: what they are bytes of; it is closed with this.
        stripes: where they lie in it.
    """

    def __init__(self, child: Child, stripes: Stripes) -> None:
        self._child = child
        self._stripes = stripes

    def read_into(self, view: memoryview, offset: int) -> None:
        """Fill `view` from byte `offset` on; see `Part`."""
        for start, stop, at in self._stripes.cut(offset, offset + len(view)):
            self._child.read_into(view[start - offset : stop - offset], at)

    def read_into_nowait(self, view: memoryview, offset: int) -> bool:
        """Do as `read_into` if no piece of it needs waiting; see `Part`."""
        return all(
            self._child.read_into_nowait(view[start - offset : stop - offset], at)
            for start, stop, at in self._stripes.cut(offset, offset + len(view))
        )

    def extents(self, start: int, stop: int) -> Iterator[Extent]:
        """Yield what the child has, stripe by stripe; see `Part`."""
        for piece_start, piece_stop, at in self._stripes.cut(start, stop):
            shift = piece_start - at
            for extent in self._child.extents(at, at + piece_stop - piece_start):
                yield extent._replace(start=extent.start + shift, stop=extent.stop + shift)

    def stored_ranges(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """Yield what is stored, or cannot be told any more; see `reader.stored_ranges`."""
        for piece_start, piece_stop, at in self._stripes.cut(start, stop):
            shift = piece_start - at
            for first, last in stored_ranges(self._child, at, at + piece_stop - piece_start):
                yield first + shift, last + shift

    def close(self) -> None:
        """Close the child."""
        self._child.close()
