"""Reading a source from one end to the other, piece after piece, ahead of whoever looks at them.

Two threads read while the caller looks at what was read before, so that copying from the page
cache, which is what a scan spends its time on, runs on two cores.
"""

from __future__ import annotations

import collections
import concurrent.futures
from typing import TYPE_CHECKING, NamedTuple, Protocol, Self

if TYPE_CHECKING:
    from .byte_source import ByteSource

PIECE_SIZE = 4 << 20
"""Bytes in a piece: large enough that handing it from thread to thread does not count."""

OVERLAP = 16
"""Bytes of the next piece that each one has at its end, so that what crosses is whole in one."""

_THREADS = 2
_AHEAD = 3


class Piece(NamedTuple):
    """Source bytes ``[offset, offset + length)``, and up to `OVERLAP` more.

    Attributes:
        offset: where it begins in the source.
        length: bytes of the piece itself.
        filled: bytes in the buffer, with those of the next piece.
        buffer: the bytes; good until the next piece is taken.
    """

    offset: int
    length: int
    filled: int
    buffer: bytearray


class PieceStream(Protocol):
    """The pieces of a stream, in order. Use it in a ``with`` block, in one thread."""

    def __enter__(self) -> Self:
        """Return itself."""

    def __exit__(self, *exc: object) -> None:
        """Read nothing any more."""

    def take(self) -> Piece | None:
        """Return the next piece, None at the end; the buffer of the one before is used again."""


class Pieces:
    """The pieces of a source from an offset on. Use it in a ``with`` block, in one thread.

    Args:
        source: the stored bytes.
        start: where the first piece begins.
    """

    def __init__(self, source: ByteSource, start: int) -> None:
        self._source = source
        self._next = start
        size = min(PIECE_SIZE + OVERLAP, max(0, source.size - start))
        self._buffers = [bytearray(size) for _ in range(_AHEAD + 1)]
        self._count = 0
        self._pending: collections.deque[concurrent.futures.Future[Piece]] = collections.deque()
        self._executor = concurrent.futures.ThreadPoolExecutor(
            _THREADS, thread_name_prefix="pieces"
        )

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *exc: object) -> None:
        """Wait until nothing is read any more."""
        self._executor.shutdown(cancel_futures=True)

    def take(self) -> Piece | None:
        """Return the next piece, None at the end; the buffer of the one before is used again.

        Raises:
            TruncatedImageError: the source was cut off since it was opened.
            OSError: the operating system could not read.
        """
        while len(self._pending) < _AHEAD and self._next < self._source.size:
            buffer = self._buffers[self._count % len(self._buffers)]
            self._pending.append(self._executor.submit(self._read, self._next, buffer))
            self._next += PIECE_SIZE
            self._count += 1
        return self._pending.popleft().result() if self._pending else None

    def _read(self, offset: int, buffer: bytearray) -> Piece:
        left = self._source.size - offset
        filled = min(left, len(buffer))
        self._source.readv((memoryview(buffer)[:filled],), offset)
        return Piece(offset, min(left, PIECE_SIZE), filled, buffer)
