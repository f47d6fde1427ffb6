"""A volume that an image has only in part."""

from __future__ import annotations

from typing import TYPE_CHECKING

from imgcat.formats.errors import CorruptImageError
from imgcat.formats.extent import Extent, data

if TYPE_CHECKING:
    from collections.abc import Iterator


class WithHole:
    """A volume of which some bytes cannot be had."""

    def __init__(self, image: bytes, hole: range) -> None:
        self._image, self._hole = image, hole
        self.size = len(image)

    def read_into(self, view: memoryview, offset: int) -> None:
        if offset < self._hole.stop and self._hole.start < offset + len(view):
            raise CorruptImageError("stored", offset, "gone")
        view[:] = self._image[offset : offset + len(view)]

    def extents(self, start: int, stop: int) -> Iterator[Extent]:
        yield data(start, stop, self, start)
