"""Seek points: where in a compressed stream decoding can begin, and what is needed for it."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, NamedTuple

from ..errors import CorruptImageError

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE_SIZE = 128 << 10
"""Plain bytes in a page: what is hashed, cached and checked as one. The last may be shorter."""

HASH_SIZE = 8
"""Bytes in a page's hash: XXH3 of 64 bits, little-endian."""

HASHES_IN_GROUP = 4096
"""Page hashes that are stored together: those of 512 MiB of plain data."""

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


@dataclasses.dataclass(frozen=True, slots=True)
class StreamIndex:
    """What one pass over a compressed stream found.

    Attributes:
        codec: the codec's name.
        library: the library that decoded it, and its version.
        plain_size: bytes in the plain stream.
        stored_size: bytes in the compressed one.
        points: ascending, the first at plain byte 0.
        hashes: `HASH_SIZE` bytes for each page.
        damage: what is wrong with the stream, None where nothing is.
    """

    codec: str
    library: str
    plain_size: int
    stored_size: int
    points: tuple[SeekPoint, ...]
    hashes: bytes
    damage: str | None = None

    def hash_groups(self) -> Iterator[tuple[int, bytes]]:
        """Yield the hashes as they are stored: number of the group, and a zstd frame of it."""
        # Imported where needed: who only asks the catalog has no use for it.
        import zstandard

        size = HASHES_IN_GROUP * HASH_SIZE
        compressor = zstandard.ZstdCompressor(level=1)
        for group, start in enumerate(range(0, len(self.hashes), size)):
            yield group, compressor.compress(self.hashes[start : start + size])

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


def unpack_hashes(stored: bytes) -> bytes:
    """Return a group of hashes from its stored form.

    Raises:
        CorruptImageError: it is damaged.
    """
    import zstandard

    try:
        return zstandard.ZstdDecompressor().decompress(
            stored, max_output_size=HASHES_IN_GROUP * HASH_SIZE
        )
    except zstandard.ZstdError as error:
        raise CorruptImageError(
            "index.hashes", 0, f"{error}: add the image again with --force"
        ) from error
