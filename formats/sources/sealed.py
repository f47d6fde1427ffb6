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
    from collections.abc import Callable, Sequence

    from .byte_source import ByteSource
    from .place import Place

_PAGE_BITS = PAGE_SIZE.bit_length() - 1
_GROUP_BITS = HASHES_IN_GROUP.bit_length() - 1
_WITHIN_GROUP = HASHES_IN_GROUP - 1

_MOST_GROUPS = 512
"""Groups of pages of which it is remembered which were looked at: those of 256 GiB, in 2 MiB."""


NOT_AS_SEALED = "are not what they were when the image was sealed"
"""How an error says that: what it says is gone when all pages are right again."""


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
        self._look(looked_at, buffers, offset, self._hashes, self._readv)

    def _readv(self, buffers: Sequence[memoryview], offset: int) -> bool:
        self._source.readv(buffers, offset)
        return True

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
        return self._look(
            looked_at, buffers, offset, self._hashes_nowait, self._source.readv_nowait
        )

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

    def _look(
        self,
        looked_at: dict[int, bytearray],
        buffers: Sequence[memoryview],
        offset: int,
        hashes_of: Callable[[int], bytes | None],
        read: Callable[[Sequence[memoryview], int], bool],
    ) -> bool:
        """Compare the pages of what was read from `offset` on; False where one had to wait for it.

        Raises:
            BrokenSealError: a page is not what it was.
        """
        stop = offset + sum(map(len, buffers))
        group, hashes = -1, b""
        for number in range(offset >> _PAGE_BITS, (stop + PAGE_SIZE - 1) >> _PAGE_BITS):
            within = number & _WITHIN_GROUP
            if number >> _GROUP_BITS != group:
                group = number >> _GROUP_BITS
                marks = looked_at.get(group) or self._new_marks(looked_at, group)
                hashes = b""
            if marks[within]:
                continue
            if not hashes:
                found = hashes_of(group)
                if found is None:
                    return False
                hashes = found
            pieces = self._page(buffers, offset, stop, number, read)
            if pieces is None:
                return False
            actual = page_hash(pieces[0]) if len(pieces) == 1 else page_hash_of(pieces)
            if actual != hashes[within * HASH_SIZE : (within + 1) * HASH_SIZE]:
                raise self._broken(number)
            marks[within] = 1
        return True

    def _page(
        self,
        buffers: Sequence[memoryview],
        offset: int,
        stop: int,
        number: int,
        read: Callable[[Sequence[memoryview], int], bool],
    ) -> list[memoryview] | None:
        """Return the bytes of a page: those that were read, and the rest; None where one must wait.

        What is compared is what is given, not the same bytes read once more.
        """
        first = number << _PAGE_BITS
        last = min(first + PAGE_SIZE, self.size)
        pieces = _part(buffers, offset, first, last)
        if first < offset:
            before = self._buffers.before[: offset - first]
            if not read((before,), first):
                return None
            pieces.insert(0, before)
        if stop < last:
            after = self._buffers.after[: last - stop]
            if not read((after,), stop):
                return None
            pieces.append(after)
        return pieces

    def _broken(self, number: int) -> BrokenSealError:
        start = number * PAGE_SIZE
        error = BrokenSealError(
            "stored",
            start,
            f"bytes [{start}, {min(start + PAGE_SIZE, self.size)}) {NOT_AS_SEALED}: put its file "
            "back from a copy and `imgcat verify` it, or scan it anew with `imgcat add --force`",
        )
        if self._on_broken is not None:
            self._on_broken(error)
        return error

    def _new_marks(self, looked_at: dict[int, bytearray], group: int) -> bytearray:
        with self._lock:
            while len(looked_at) >= _MOST_GROUPS:
                del looked_at[next(iter(looked_at))]
            return looked_at.setdefault(group, bytearray(HASHES_IN_GROUP))


class _Buffers(threading.local):
    """For each thread, room for what a page has before and behind what was read of it."""

    def __init__(self) -> None:
        self.before = memoryview(bytearray(PAGE_SIZE))
        self.after = memoryview(bytearray(PAGE_SIZE))


def _part(buffers: Sequence[memoryview], offset: int, start: int, stop: int) -> list[memoryview]:
    """Return what buffers that lie at `offset` hold of ``[start, stop)``."""
    pieces = []
    position = offset
    for buffer in buffers:
        end = position + len(buffer)
        if end > start:
            pieces.append(buffer[max(0, start - position) : stop - position])
            if end >= stop:
                break
        position = end
    return pieces
