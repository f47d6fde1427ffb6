"""Reading a byte source from an offset on, in pieces of exact sizes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import TruncatedImageError

if TYPE_CHECKING:
    from ..sources.byte_source import ByteSource

_CHUNK = 1 << 20

_FIRST = 64 << 10
"""Bytes that are read first, and twice as many each time after: who wants little reads little."""


class Feed:
    """A cursor over a source. What it returns is good until the next call.

    Args:
        source: the stored bytes.
        offset: where it begins.
        structure: what an error calls the stream.
        chunk: bytes that are read at once.
    """

    def __init__(
        self, source: ByteSource, offset: int = 0, *, structure: str, chunk: int = _CHUNK
    ) -> None:
        self._source = source
        self._structure = structure
        self._chunk = chunk
        self._step = min(chunk, _FIRST)
        self._buffer = memoryview(b"")
        self._at = 0
        self._next = offset

    @property
    def offset(self) -> int:
        """Where in the source the next byte lies."""
        return self._next - len(self._buffer) + self._at

    @property
    def left(self) -> int:
        """Bytes up to the end of the source."""
        return self._source.size - self.offset

    def peek(self, size: int) -> memoryview:
        """Return the next `size` bytes, fewer at the end, and stay where it is."""
        self._fill(size)
        return self._buffer[self._at : self._at + size]

    def take(self, size: int) -> memoryview:
        """Return the next `size` bytes and go on behind them.

        Raises:
            TruncatedImageError: the source ends before.
            OSError: the operating system could not read.
        """
        self._fill(size)
        stop = self._at + size
        if stop > len(self._buffer):
            raise TruncatedImageError(
                self._structure,
                self.offset,
                f"{size} bytes of the stream belong here, {self.left} are left: it is cut off",
            )
        data = self._buffer[self._at : stop]
        self._at = stop
        return data

    def look(self, size: int) -> memoryview:
        """Return the next `size` bytes and stay where it is. Raises as `take`."""
        data = self.peek(size)
        return data if len(data) == size else self.take(size)

    def read_at(self, size: int) -> bytes:
        """Return the next `size` bytes past the buffer, and stay where it is. Raises as `take`."""
        if size > self.left:
            self.take(size)
        return self._source.read_at(self.offset, size)

    def skip(self, size: int) -> None:
        """Go on behind the next `size` bytes.

        Raises:
            TruncatedImageError: the source ends before.
        """
        have = len(self._buffer) - self._at
        if size <= have:
            self._at += size
            return
        if size > self.left:
            self.take(size)
        self._next += size - have
        self._buffer, self._at = memoryview(b""), 0

    def take_some(self) -> memoryview:
        """Return what is at hand, or else the next piece; nothing at the end."""
        self._fill(1)
        data = self._buffer[self._at :]
        self._at = len(self._buffer)
        return data

    def back(self, size: int) -> None:
        """Go back over bytes that `take` or `take_some` has just returned."""
        self._at -= size

    def _fill(self, size: int) -> None:
        have = len(self._buffer) - self._at
        if have >= size:
            return
        # Never sized by a field alone: what the source does not have is not allocated.
        more = min(max(size - have, self._step), self._source.size - self._next)
        if more <= 0:
            return
        fresh = bytearray(have + more)
        fresh[:have] = self._buffer[self._at :]
        self._source.readv((memoryview(fresh)[have:],), self._next)
        self._buffer, self._at = memoryview(fresh).toreadonly(), 0
        self._next += more
        self._step = min(self._chunk, 2 * self._step)
