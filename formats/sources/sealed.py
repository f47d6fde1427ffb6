"""Stored bytes that are compared with hashes which were taken when all of them were right.

An image is *sealed* when there are hashes of every page of what is stored of it. A `SealedSource`
looks at each page once, when it is first read, and again after `forget`.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from ..errors import CorruptImageError
from .pages import HASH_SIZE, HASHES_IN_GROUP, PAGE_SIZE, page_hash, page_hash_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from .byte_source import ByteSource
    from .place import Place

_PAGE_BITS = PAGE_SIZE.bit_length() - 1
_GROUP_BITS = HASHES_IN_GROUP.bit_length() - 1
_WITHIN_GROUP = HASHES_IN_GROUP - 1

_MOST_GROUPS = 512
"""Groups of pages of which it is remembered which were looked at: those of 256 GiB, in 2 MiB."""


class BrokenSealError(CorruptImageError):
    """A page is not what it was when the image was sealed."""


class SealedSource:
    """A byte source that gives no page which differs from its hash. See `ByteSource`.

    Args:
        source: the stored bytes.
        hashes: returns the hashes of a group of pages; it may block.
        hashes_nowait: the same, or None where it would have to wait.
        on_broken: is told of each page that differs.
    """

    def __init__(
        self,
        source: ByteSource,
        hashes: Callable[[int], bytes],
        hashes_nowait: Callable[[int], bytes | None],
        on_broken: Callable[[BrokenSealError], None] | None = None,
    ) -> None:
        self._source = source
        self._hashes = hashes
        self._hashes_nowait = hashes_nowait
        self._on_broken = on_broken
        self._looked_at: dict[int, bytearray] = {}
        self._buffers = _Buffers()
        self._lock = threading.Lock()

    @property
    def size(self) -> int:
        """Number of stored bytes."""
        return self._source.size

    def forget(self) -> None:
        """Look at every page again: the files may have been written."""
        # A read that is under way goes on marking pages in the old one.
        self._looked_at = {}

    def readv(self, buffers: Sequence[memoryview], offset: int) -> None:
        """Fill `buffers` from `offset` on; see `ByteSource.readv`.

        Raises:
            BrokenSealError: a page is not what it was.
        """
        looked_at = self._looked_at
        self._source.readv(buffers, offset)
        stop = offset + sum(map(len, buffers))
        for number in _unseen(looked_at, offset, stop):
            data = _of_page(buffers, offset, stop, number, self.size)
            if data is None:
                whole = self._buffers.view[: min(PAGE_SIZE, self.size - number * PAGE_SIZE)]
                self._source.readv((whole,), number * PAGE_SIZE)
                data = [whole]
            self._compare(looked_at, number, data, self._hashes(number >> _GROUP_BITS))

    def readv_nowait(self, buffers: Sequence[memoryview], offset: int) -> bool:
        """Fill `buffers` if that needs no waiting; see `ByteSource.readv_nowait`.

        Raises:
            BrokenSealError: a page is not what it was.
        """
        looked_at = self._looked_at
        if not self._source.readv_nowait(buffers, offset):
            return False
        first = offset >> _PAGE_BITS
        if len(buffers) == 1 and offset + len(buffers[0]) <= (first + 1) << _PAGE_BITS:
            # The hot path of small reads.
            marks = looked_at.get(first >> _GROUP_BITS)
            if marks is not None and marks[first & _WITHIN_GROUP]:
                return True
        return self._look_nowait(looked_at, buffers, offset)

    def read_at(self, offset: int, length: int) -> bytes:
        """Return ``length`` bytes at ``offset``; see `ByteSource.read_at`.

        Raises:
            BrokenSealError: a page is not what it was.
        """
        if offset + length > self.size:
            # It says what is missing.
            return self._source.read_at(offset, length)
        data = bytearray(length)
        self.readv((memoryview(data),), offset)
        return bytes(data)

    def place(self, offset: int) -> Place:
        """Return the place in the source."""
        return self._source.place(offset)

    def close(self) -> None:
        """Close the source."""
        self._source.close()

    def _look_nowait(
        self, looked_at: dict[int, bytearray], buffers: Sequence[memoryview], offset: int
    ) -> bool:
        stop = offset + sum(map(len, buffers))
        for number in _unseen(looked_at, offset, stop):
            hashes = self._hashes_nowait(number >> _GROUP_BITS)
            if hashes is None:
                return False
            data = _of_page(buffers, offset, stop, number, self.size)
            if data is None:
                whole = self._buffers.view[: min(PAGE_SIZE, self.size - number * PAGE_SIZE)]
                if not self._source.readv_nowait((whole,), number * PAGE_SIZE):
                    return False
                data = [whole]
            self._compare(looked_at, number, data, hashes)
        return True

    def _compare(
        self,
        looked_at: dict[int, bytearray],
        number: int,
        data: Sequence[memoryview],
        hashes: bytes,
    ) -> None:
        group, within = number >> _GROUP_BITS, number & _WITHIN_GROUP
        expected = hashes[within * HASH_SIZE : (within + 1) * HASH_SIZE]
        found = page_hash(data[0]) if len(data) == 1 else page_hash_of(data)
        if found != expected:
            start = number * PAGE_SIZE
            error = BrokenSealError(
                "stored",
                start,
                f"bytes [{start}, {min(start + PAGE_SIZE, self.size)}) are not what they were "
                "when the image was sealed: put its file back from a copy, or scan it anew with "
                "`imgcat add --force`",
            )
            if self._on_broken is not None:
                self._on_broken(error)
            raise error
        marks = looked_at.get(group)
        if marks is None:
            marks = self._new_marks(looked_at, group)
        marks[within] = 1

    def _new_marks(self, looked_at: dict[int, bytearray], group: int) -> bytearray:
        with self._lock:
            while len(looked_at) >= _MOST_GROUPS:
                del looked_at[next(iter(looked_at))]
            return looked_at.setdefault(group, bytearray(HASHES_IN_GROUP))


class _Buffers(threading.local):
    """A page's buffer for each thread."""

    def __init__(self) -> None:
        self.view = memoryview(bytearray(PAGE_SIZE))


def _unseen(looked_at: dict[int, bytearray], start: int, stop: int) -> Iterator[int]:
    """Yield the pages of ``[start, stop)`` that were not looked at."""
    for number in range(start >> _PAGE_BITS, (stop + PAGE_SIZE - 1) >> _PAGE_BITS):
        marks = looked_at.get(number >> _GROUP_BITS)
        if marks is None or not marks[number & _WITHIN_GROUP]:
            yield number


def _of_page(
    buffers: Sequence[memoryview], offset: int, stop: int, number: int, size: int
) -> list[memoryview] | None:
    """Return the bytes of a page, where all of it is in buffers of ``[offset, stop)``."""
    first = number * PAGE_SIZE
    last = min(first + PAGE_SIZE, size)
    if first < offset or last > stop:
        return None
    pieces = []
    position = offset
    for buffer in buffers:
        end = position + len(buffer)
        if end > first:
            pieces.append(buffer[max(0, first - position) : last - position])
        if end >= last:
            break
        position = end
    return pieces
