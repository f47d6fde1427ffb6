"""Several sources as one stream: chunks of a split image, volumes without their headers."""

from __future__ import annotations

import bisect
import itertools
from typing import TYPE_CHECKING

from ..errors import TruncatedImageError
from .distrusted import Distrusted, distrusted, every_byte
from .encoded import encoded
from .fingerprint import digest_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from .byte_source import ByteSource
    from .encoded import Encoded
    from .place import Place


def joined(parts: Sequence[ByteSource], skip: int = 0) -> ByteSource:
    """Return the parts as one source: the only one itself, if nothing of it is left out."""
    return parts[0] if len(parts) == 1 and not skip else JoinedSource(parts, skip)


class JoinedSource:
    """Several sources one after the other, each without its first bytes. See `ByteSource`.

    Args:
        parts: the sources, in order.
        skip: bytes at the beginning of each that are left out.
    """

    def __init__(self, parts: Sequence[ByteSource], skip: int = 0) -> None:
        self._parts = tuple(parts)
        self._skip = skip
        self._stops = list(itertools.accumulate(max(0, part.size - skip) for part in parts))

    @property
    def parts(self) -> tuple[ByteSource, ...]:
        """The sources, in order."""
        return self._parts

    @property
    def size(self) -> int:
        """Number of bytes in the stream."""
        return self._stops[-1] if self._stops else 0

    def readv(self, buffers: Sequence[memoryview], offset: int) -> None:
        """Fill `buffers` from `offset` on; see `ByteSource.readv`."""
        for part, pieces, at in self._split(buffers, offset):
            part.readv(pieces, at)

    def readv_nowait(self, buffers: Sequence[memoryview], offset: int) -> bool:
        """Fill `buffers` if that needs no waiting; see `ByteSource.readv_nowait`."""
        return all(
            part.readv_nowait(pieces, at) for part, pieces, at in self._split(buffers, offset)
        )

    def read_at(self, offset: int, length: int) -> bytes:
        """Return ``length`` bytes at ``offset``; see `ByteSource.read_at`."""
        if offset + length > self.size:
            raise self._ends(offset + length - self.size)
        data = bytearray(length)
        self.readv((memoryview(data),), offset)
        return bytes(data)

    def stored_digest(self) -> bytes | None:
        """Return what tells the parts from others, where they say that of themselves."""
        digests = [digest_of(part) for part in self._parts]
        known = [digest for digest in digests if digest is not None]
        return b"".join(known) if len(known) == len(digests) else None

    def place(self, offset: int) -> Place:
        """Return the place in the part that the byte is in; of one behind the end, in the last."""
        part, at = self._part_of(offset)
        return part.place(at)

    def encoded(self, offset: int) -> Encoded | None:
        """Return the piece that the byte comes out of, where its part is compressed."""
        return encoded(*self._part_of(offset))

    def distrusted(self, start: int, stop: int) -> Iterator[Distrusted]:
        """Yield what the parts have of bytes ``[start, stop)`` and do not give, ascending."""
        first = 0
        for part, end in zip(self._parts, self._stops, strict=True):
            shift = first - self._skip
            low, high = max(start, first), min(stop, end)
            if low < high:
                for found in distrusted(part, low - shift, high - shift):
                    yield Distrusted(found.start + shift, found.stop + shift, found.reason)
            first = end

    def every_byte(self) -> ByteSource:
        """Return the same, of parts that give all that they have."""
        return JoinedSource([every_byte(part) for part in self._parts], self._skip)

    def close(self) -> None:
        """Close every part."""
        for part in self._parts:
            part.close()

    def _part_of(self, offset: int) -> tuple[ByteSource, int]:
        """Return the part that a byte is in, the last if it is behind the end, and where there."""
        number = min(bisect.bisect_right(self._stops, offset), len(self._parts) - 1)
        start = self._stops[number - 1] if number else 0
        return self._parts[number], offset - start + self._skip

    def _split(
        self, buffers: Sequence[memoryview], offset: int
    ) -> list[tuple[ByteSource, Sequence[memoryview], int]]:
        """Return which part fills which buffers, from which of its bytes on."""
        number = bisect.bisect_right(self._stops, offset)
        length = sum(map(len, buffers))
        if offset + length > self.size:
            raise self._ends(offset + length - self.size)
        if not length:
            return []
        start = self._stops[number - 1] if number else 0
        if offset + length <= self._stops[number]:
            return [(self._parts[number], buffers, offset - start + self._skip)]
        found: list[tuple[ByteSource, Sequence[memoryview], int]] = []
        pending = list(buffers)
        while pending:
            at = offset - start + self._skip
            taken, pending = _cut(pending, self._stops[number] - offset)
            if taken:
                found.append((self._parts[number], taken, at))
            start = offset = self._stops[number]
            number += 1
        return found

    def _ends(self, missing: int) -> TruncatedImageError:
        return TruncatedImageError(
            "source", self.size, f"the last volume ends here, {missing} bytes short"
        )


def _cut(buffers: list[memoryview], length: int) -> tuple[list[memoryview], list[memoryview]]:
    """Return the first `length` bytes of the buffers, and the rest."""
    taken: list[memoryview] = []
    for position, buffer in enumerate(buffers):
        if length < len(buffer):
            if length:
                taken.append(buffer[:length])
            return taken, [buffer[length:], *buffers[position + 1 :]]
        taken.append(buffer)
        length -= len(buffer)
    return taken, []
