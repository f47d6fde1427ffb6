"""Extents: what a stretch of guest bytes is made of.

All ranges are half-open, ``[start, stop)``, in guest bytes.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


class ExtentKind(enum.Enum):
    """Where the bytes of an extent come from."""

    DATA = "data"
    ZERO = "zero"


class Extent(NamedTuple):
    """Guest bytes ``[start, stop)`` of one kind, never empty.

    ``source_offset`` is the byte of the stored stream that holds guest byte ``start`` of a DATA
    extent, the rest following without a gap; it is -1 for a ZERO extent.
    """

    start: int
    stop: int
    kind: ExtentKind
    source_offset: int = -1

    @property
    def length(self) -> int:
        """The number of guest bytes, at least 1."""
        return self.stop - self.start


def check_cover(extents: Iterable[Extent], start: int, stop: int) -> None:
    """Assert that `extents` are non-empty, adjacent and cover ``[start, stop)`` exactly.

    Raises:
        AssertionError: they do not; the message names the first offender.
    """
    position = start
    for extent in extents:
        if extent.start != position or extent.stop <= extent.start or extent.stop > stop:
            message = f"{extent} does not continue at {position} inside [{start}, {stop})"
            raise AssertionError(message)
        position = extent.stop
    if position != stop:
        message = f"extents end at {position}, not at {stop}"
        raise AssertionError(message)


def merged(extents: Iterable[Extent]) -> Iterator[Extent]:
    """Yield adjacent `extents`, with neighbours of one kind as one; holds only one at a time.

    The ``source_offset`` of a DATA extent is where its first byte lies; the rest follow it with
    gaps.
    """
    start, stop, kind, source_offset = 0, 0, None, -1
    for extent in extents:
        if extent.kind is kind:
            stop = extent.stop
            continue
        if kind is not None:
            yield Extent(start, stop, kind, source_offset)
        start, stop, kind, source_offset = extent
    if kind is not None:
        yield Extent(start, stop, kind, source_offset)
