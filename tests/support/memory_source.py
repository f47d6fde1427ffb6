"""Byte sources for tests: in memory, and counting."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from imgcat.formats.errors import TruncatedImageError
from imgcat.formats.sources.place import Place

if TYPE_CHECKING:
    from collections.abc import Sequence

    from imgcat.formats.sources.byte_source import ByteSource


class MemorySource:
    """Bytes in memory as a byte source.

    Args:
        parts: the stored bytes in pieces, so that a changed head needs no copy of a long tail.
    """

    def __init__(self, *parts: bytes) -> None:
        self._parts = [memoryview(part) for part in parts]
        self._size = sum(map(len, parts))
        self.closed = 0

    @property
    def size(self) -> int:
        """Number of bytes in all parts."""
        return self._size

    def readv(self, buffers: Sequence[memoryview], offset: int) -> None:
        """Fill `buffers` from `offset` on."""
        for buffer in buffers:
            if offset + len(buffer) > self._size:
                raise self._short(offset, len(buffer))
            self._copy(buffer, offset)
            offset += len(buffer)

    def readv_nowait(self, buffers: Sequence[memoryview], offset: int) -> bool:
        """Fill `buffers`; memory needs no waiting, but what is not there is left to `readv`."""
        if offset + sum(map(len, buffers)) > self._size:
            return False
        self.readv(buffers, offset)
        return True

    def read_at(self, offset: int, length: int) -> bytes:
        """Return `length` bytes at `offset`, allocating nothing where they are not there."""
        if offset + length > self._size:
            raise self._short(offset, length)
        data = bytearray(length)
        self._copy(memoryview(data), offset)
        return bytes(data)

    def place(self, offset: int) -> Place:  # noqa: ARG002
        """Tell of no file."""
        return Place()

    def close(self) -> None:
        """Count the call."""
        self.closed += 1

    def _copy(self, buffer: memoryview, offset: int) -> None:
        filled = 0
        for part in self._parts:
            if filled == len(buffer):
                return
            if offset < len(part):
                piece = part[offset : offset + len(buffer) - filled]
                buffer[filled : filled + len(piece)] = piece
                filled += len(piece)
                offset = 0
            else:
                offset -= len(part)

    def _short(self, offset: int, length: int) -> TruncatedImageError:
        missing = offset + length - self._size
        return TruncatedImageError("source", self._size, f"the bytes end here, {missing} short")


class Call(NamedTuple):
    """One read of a source: `length` bytes in all."""

    method: str
    offset: int
    length: int


class CountingSource:
    """Passes every read on to another source, and writes it down in `calls`."""

    def __init__(self, inner: ByteSource) -> None:
        self._inner = inner
        self.calls: list[Call] = []

    @property
    def size(self) -> int:
        """Number of bytes of the other source; asking it is no read."""
        return self._inner.size

    def readv(self, buffers: Sequence[memoryview], offset: int) -> None:
        """Note and pass on."""
        self.calls.append(Call("readv", offset, sum(map(len, buffers))))
        self._inner.readv(buffers, offset)

    def readv_nowait(self, buffers: Sequence[memoryview], offset: int) -> bool:
        """Note and pass on."""
        self.calls.append(Call("readv_nowait", offset, sum(map(len, buffers))))
        return self._inner.readv_nowait(buffers, offset)

    def read_at(self, offset: int, length: int) -> bytes:
        """Note and pass on."""
        self.calls.append(Call("read_at", offset, length))
        return self._inner.read_at(offset, length)

    def place(self, offset: int) -> Place:
        """Pass on."""
        return self._inner.place(offset)

    def close(self) -> None:
        """Pass on."""
        self._inner.close()
