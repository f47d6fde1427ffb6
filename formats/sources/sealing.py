"""Taking the hashes of all that is stored, while something else reads it."""

from __future__ import annotations

import collections
import concurrent.futures
import threading
from typing import TYPE_CHECKING

from ..errors import CorruptImageError
from .pages import HASH_SIZE, PAGE_SIZE, page_hash

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from .byte_source import ByteSource
    from .place import Place

_BLOCK_SIZE = 32 * PAGE_SIZE
"""Bytes that are read at once: what several threads that read near each other share."""


class SealingSource:
    """A byte source that reads in whole pages, and keeps the hash of each. See `ByteSource`.

    For any number of threads that go through it more or less in order: each block is read from the
    source once, and hashed in the thread that reads it. Where the source cannot be read, the reader
    is told as if it had read itself, and there will be no hashes.

    Args:
        source: the stored bytes.
        readers: threads that read; the blocks that are kept grow with them.
    """

    def __init__(self, source: ByteSource, readers: int = 1) -> None:
        self._source = source
        self._size = source.size
        self._hashes = bytearray(-(-self._size // PAGE_SIZE) * HASH_SIZE)
        self._done = bytearray(-(-self._size // _BLOCK_SIZE))
        self._most = 4 + 2 * readers
        self._blocks: collections.OrderedDict[int, concurrent.futures.Future[memoryview]] = (
            collections.OrderedDict()
        )
        self._lock = threading.Lock()
        self._is_whole = True

    @property
    def size(self) -> int:
        """Number of stored bytes."""
        return self._size

    def readv(self, buffers: Sequence[memoryview], offset: int) -> None:
        """Fill `buffers` from `offset` on; see `ByteSource.readv`.

        Raises:
            CorruptImageError: what was read before is another than what is read now.
        """
        if offset + sum(map(len, buffers)) > self._size:
            # It says what is missing.
            self._source.readv(buffers, offset)
            return
        position = offset
        for buffer in buffers:
            filled = 0
            while filled < len(buffer):
                number, within = divmod(position, _BLOCK_SIZE)
                block = self._block(number)
                if block is None:
                    self._source.readv((buffer[filled:],), position)
                    position += len(buffer) - filled
                    break
                piece = block[within : within + len(buffer) - filled]
                buffer[filled : filled + len(piece)] = piece
                filled += len(piece)
                position += len(piece)

    def readv_nowait(self, buffers: Sequence[memoryview], offset: int) -> bool:  # noqa: ARG002
        """Return False: pages are hashed where one may wait."""
        return False

    def read_at(self, offset: int, length: int) -> bytes:
        """Return ``length`` bytes at ``offset``; see `ByteSource.read_at`."""
        if offset + length > self._size:
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

    def so_far(self) -> tuple[bytes, bytes]:
        """Return which blocks were read, a byte for each, and the hashes of all pages there are.

        For `go_on`, where the rest is read another time.
        """
        with self._lock:
            return bytes(self._done), bytes(self._hashes)

    def go_on(self, done: bytes, hashes: bytes) -> bool:
        """Take what `so_far` has returned of the same bytes; False, and nothing, if it is not."""
        if (len(done), len(hashes)) != (len(self._done), len(self._hashes)):
            return False
        self._done[:], self._hashes[:] = done, hashes
        return True

    def finish(self, progress: Callable[[int], None] | None = None) -> bytes | None:
        """Read what nobody has read, and return `HASH_SIZE` bytes for each page of all.

        Returns None where something could not be read.

        Args:
            progress: told the stored bytes that are done.

        Raises:
            CorruptImageError: what was read before is another than what is read now.
        """
        for number in range(-(-self._size // _BLOCK_SIZE)):
            if not self._done[number]:
                self._block(number)
            if progress is not None:
                progress(min(self._size, (number + 1) * _BLOCK_SIZE))
        return bytes(self._hashes) if self._is_whole else None

    def _block(self, number: int) -> memoryview | None:
        """Return a block, None where not all of it can be read."""
        with self._lock:
            future = self._blocks.get(number)
            is_mine = future is None
            if future is None:
                future = self._blocks[number] = concurrent.futures.Future()
                while len(self._blocks) > self._most:
                    self._blocks.popitem(last=False)
            else:
                self._blocks.move_to_end(number)
        if is_mine:
            try:
                future.set_result(self._load(number))
            except BaseException as error:  # noqa: BLE001 - every reader of it is told
                with self._lock:
                    self._blocks.pop(number, None)
                future.set_exception(error)
        try:
            return future.result()
        except OSError:
            self._is_whole = False
            return None

    def _load(self, number: int) -> memoryview:
        start = number * _BLOCK_SIZE
        data = memoryview(bytearray(min(_BLOCK_SIZE, self._size - start)))
        self._source.readv((data,), start)
        hashes = b"".join(page_hash(page) for page in _pages(data))
        first = start // PAGE_SIZE * HASH_SIZE
        place = slice(first, first + len(hashes))
        with self._lock:
            if self._done[number] and self._hashes[place] != hashes:
                raise CorruptImageError(
                    "stored", start, "was changed while it was read: look at it again"
                )
            self._hashes[place] = hashes
            self._done[number] = 1
        return data


def _pages(data: memoryview) -> Iterator[memoryview]:
    return (data[start : start + PAGE_SIZE] for start in range(0, len(data), PAGE_SIZE))
