"""Seek points: where in a compressed stream decoding can begin, and what is needed for it."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

SPAN_BUDGET = 64 << 20
"""Most plain bytes that a read may have to decode before the ones that it wants."""

INDEX_VERSION = 1
"""Version of what seek points mean; an index of another version must be made anew."""


class SeekPoint(NamedTuple):
    """A place where decoding can begin.

    Attributes:
        plain_offset: the first plain byte that comes out.
        stored_offset: the first byte of the compressed stream that goes in.
        state: what else the codec must know; its module says what it means.
        window_size: plain bytes before `plain_offset` that may be referred to.
        window: a zstd frame of them, with zeros where nothing is referred to; empty where none is.
    """

    plain_offset: int
    stored_offset: int
    state: int = 0
    window_size: int = 0
    window: bytes | memoryview = b""


class Span(NamedTuple):
    """What is decoded from one seek point on.

    Attributes:
        point: where decoding begins.
        stop: the plain byte at which the next point lies, or the stream ends.
    """

    point: SeekPoint
    stop: int


@dataclasses.dataclass(slots=True)
class ScanMarks:
    """What a codec notes while it decodes a whole stream.

    Attributes:
        points: the seek points, ascending; complete when the last piece was taken.
        trusted_size: plain bytes from the beginning that the container's own checksums vouch for:
            each of them lies before a checksum that was right. What follows is not known to be
            damaged, nor to be right.
    """

    points: list[SeekPoint] = dataclasses.field(default_factory=list)
    trusted_size: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class StreamIndex:
    """What one pass over a compressed stream found.

    Attributes:
        codec: the codec's name.
        library: the library that decoded it, and its version.
        plain_size: bytes in the plain stream.
        stored_size: bytes in the compressed one.
        points: ascending, the first at plain byte 0.
        hashes: those of its pages, one after the other; see `sources.pages`.
        trusted_size: plain bytes that can be relied on: of a stream without damage all of them,
            else those that the container's checksums vouch for.
        damage: what is wrong with the stream, None where nothing is.
    """

    codec: str
    library: str
    plain_size: int
    stored_size: int
    points: tuple[SeekPoint, ...]
    hashes: bytes
    trusted_size: int
    damage: str | None = None

    @property
    def largest_span(self) -> int:
        """Most plain bytes between two points, or between the last one and the end."""
        starts = [point.plain_offset for point in self.points]
        return max(
            (
                stop - start
                for start, stop in zip(starts, [*starts[1:], self.plain_size], strict=True)
            ),
            default=0,
        )


def pages_digest(streams: Sequence[StreamIndex]) -> bytes:
    """Return 16 bytes that tell the plain bytes of an image's streams from all others."""
    # Imported where needed: who only asks a catalog has no use for it.
    from ..sources.pages import digest_of_pages

    size = sum(stream.plain_size for stream in streams)
    return digest_of_pages(size, b"".join(stream.hashes for stream in streams))
