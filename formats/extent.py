"""Extents: what a stretch of guest bytes is made of.

All ranges are half-open, ``[start, stop)``, in guest bytes.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


class ExtentKind(enum.Enum):
    """What is known of the bytes of an extent.

    DATA: they are stored, one after the other.
    ZERO: they are zeros, and not stored.
    COMPRESSED: they are stored as one piece that must be decoded whole.
    UNREADABLE: they cannot be had; the extent says why.
    """

    DATA = "data"
    ZERO = "zero"
    COMPRESSED = "compressed"
    UNREADABLE = "unreadable"


class Origin(NamedTuple):
    """Where the first byte of an extent comes from.

    Attributes:
        depth: images that lie between the one that was asked and the one that has it.
        source: what holds it, a `ByteSource`; None where it is stored nowhere.
        offset: its place in `source`; of bytes that cannot be had, in the innermost image.
    """

    depth: int
    source: object
    offset: int


class Extent(NamedTuple):
    """Guest bytes ``[start, stop)`` of one kind, never empty.

    Attributes:
        start: the first guest byte.
        stop: the guest byte after the last.
        kind: what is known of them.
        source: what holds them: a `ByteSource`, or of an image that is made of others the
            `ImageReader` of the child; None of a ZERO extent.
        offset: the byte of `source` that holds guest byte `start`, the rest following without a
            gap; of a COMPRESSED extent, where the stored piece begins. -1 of a ZERO extent.
        stored_length: bytes of `source` that hold them, 0 where they are not stored.
        reason: why they cannot be read, of an UNREADABLE extent.
        inner: of a child's bytes, where they come from, as the child says; see `origin`.
    """

    start: int
    stop: int
    kind: ExtentKind
    source: object = None
    offset: int = -1
    stored_length: int = 0
    reason: str = ""
    inner: Origin | None = None

    @property
    def origin(self) -> Origin:
        """Where the first byte comes from, through images that others are made of."""
        return self.inner or Origin(0, self.source, self.offset)

    def of_child(self, reader: object) -> Extent:
        """Return this extent of a child as one of what the child is a part of.

        Args:
            reader: the child's `ImageReader`.
        """
        if self.kind is ExtentKind.ZERO:
            return self
        depth, source, offset = self.origin
        inner = Origin(depth + 1, source, offset)
        return self._replace(source=reader, offset=self.start, inner=inner)

    @property
    def length(self) -> int:
        """The number of guest bytes, at least 1."""
        return self.stop - self.start

    @property
    def is_stored(self) -> bool:
        """Whether the image says of these bytes what they are: they may be unreadable."""
        return self.kind is not ExtentKind.ZERO


def zero(start: int, stop: int) -> Extent:
    """Return guest bytes that are zeros."""
    return Extent(start, stop, ExtentKind.ZERO)


def data(start: int, stop: int, source: object, offset: int) -> Extent:
    """Return guest bytes that are stored at an offset of a source."""
    return Extent(start, stop, ExtentKind.DATA, source, offset, stop - start)


def unreadable(start: int, stop: int, source: object, offset: int, reason: str) -> Extent:
    """Return guest bytes that cannot be had."""
    return Extent(start, stop, ExtentKind.UNREADABLE, source, offset, 0, reason)


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
    """Yield adjacent `extents`, with neighbours of one kind and source as one; holds only one.

    A reader ends an extent wherever a checksum lies between its bytes. Whoever asks what the guest
    holds does not care: `offset` is where the first byte lies, the rest follow it with gaps.
    """
    pending: Extent | None = None
    for extent in extents:
        if pending is None:
            pending = extent
        elif (
            extent.kind is pending.kind
            and extent.source is pending.source
            and extent.reason == pending.reason
        ):
            length = pending.stored_length + extent.stored_length
            pending = pending._replace(stop=extent.stop, stored_length=length)
        else:
            yield pending
            pending = extent
    if pending is not None:
        yield pending


_SMALLEST_CLUSTER = 512


def joined_in_place(extents: Iterable[Extent]) -> Iterator[Extent]:
    """Yield adjacent `extents`, with neighbours as one that lie one behind the other.

    Checksums may lie between them, as in `merged`; what lies further off is another place.
    """
    pending: Extent | None = None
    behind = 0
    for extent in extents:
        origin = extent.origin
        if pending is not None and _continues(pending, behind, extent):
            length = pending.stored_length + extent.stored_length
            pending = pending._replace(stop=extent.stop, stored_length=length)
        else:
            if pending is not None:
                yield pending
            pending = extent
        behind = origin.offset + extent.length
    if pending is not None:
        yield pending


def _continues(extent: Extent, behind: int, following: Extent) -> bool:
    """Tell whether an extent, whose bytes end before `behind`, goes on with the following one."""
    if following.kind is not extent.kind or following.reason != extent.reason:
        return False
    if extent.kind is ExtentKind.ZERO:
        return True
    before, after = extent.origin, following.origin
    is_there = (before.depth, before.source) == (after.depth, after.source)
    if extent.kind is ExtentKind.UNREADABLE:
        return is_there
    is_plain = extent.kind is ExtentKind.DATA
    return is_there and is_plain and 0 <= after.offset - behind < _SMALLEST_CLUSTER
