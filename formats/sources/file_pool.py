"""Chunks of split images: files of which only a few are open at a time.

Hundreds of chunks of hundreds of images would be more files than a process may have open. A chunk
is opened when it is read, and closed again when others have been read since.
"""

from __future__ import annotations

import collections
import contextlib
import errno
import os
import threading
from typing import TYPE_CHECKING

from ..errors import TruncatedImageError
from .file import FileSource, readv, readv_nowait, state_of
from .place import Place

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

MOST_OPEN = 128
"""Chunks that are open at the same time, in the whole process, while nobody reads more at once."""


class ChunkSource:
    """A regular file that need not stay open. See `ByteSource`.

    Attributes:
        path: the file.
        stat: what `fstat` told when it was first opened.
        on_change: called after a read of a file that has another time or size than that.

    Raises:
        OSError: it cannot be opened.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        first = FileSource(path)
        self.path = first.path
        self.stat = first.stat
        self._size = first.size
        first.close()
        self.on_change: Callable[[], None] | None = None

    @property
    def size(self) -> int:
        """Number of bytes in the file when it was first opened."""
        return self._size

    def readv(self, buffers: Sequence[memoryview], offset: int) -> None:
        """Fill `buffers` from `offset` on; see `ByteSource.readv`."""
        with _pool.lease(self) as fd:
            readv(fd, buffers, offset)
            self._look(fd)

    def readv_nowait(self, buffers: Sequence[memoryview], offset: int) -> bool:
        """Fill `buffers` if the file is open just now and the page cache holds the bytes."""
        with _pool.borrow(self) as fd:
            if fd is None or not readv_nowait(fd, buffers, offset):
                return False
            self._look(fd)
            return True

    def _look(self, fd: int) -> None:
        """Tell whoever wants to know if the file, which was read just now, is not as it was."""
        if self.on_change is not None and state_of(os.fstat(fd)) != state_of(self.stat):
            self.on_change()

    def read_at(self, offset: int, length: int) -> bytes:
        """Return ``length`` bytes at ``offset``; see `ByteSource.read_at`."""
        if offset + length > self._size:
            missing = offset + length - self._size
            raise TruncatedImageError(
                "source", self._size, f"the file ends here, {missing} bytes short"
            )
        data = bytearray(length)
        self.readv((memoryview(data),), offset)
        return bytes(data)

    def place(self, offset: int) -> Place:
        """Return the same place in the file."""
        return Place(self.path, offset)

    def current_stat(self) -> os.stat_result:
        """Return what the system tells of the file now."""
        return os.stat(self.path)

    def close(self) -> None:
        """Close the file, if it is open just now."""
        _pool.forget(self)

    def is_same(self, status: os.stat_result) -> bool:
        """Tell whether a file is the one that was first opened, unchanged."""
        return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns) == (
            self.stat.st_dev, self.stat.st_ino, self.stat.st_size, self.stat.st_mtime_ns,
        )  # fmt: skip


class _Open:
    """An open chunk, and how many read it just now."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.readers = 0


class _Pool:
    """The open chunks of the process, least recently read first."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: collections.OrderedDict[ChunkSource, _Open] = collections.OrderedDict()

    @contextlib.contextmanager
    def lease(self, chunk: ChunkSource) -> Iterator[int]:
        """Give the descriptor of a chunk, which stays open during the block. It may block.

        Raises:
            OSError: it cannot be opened, or is not the file any more that it was.
        """
        found = self._take(chunk)
        if found is None:
            found = self._add(chunk, _reopen(chunk))
        try:
            yield found.fd
        finally:
            self._give_back(found)

    @contextlib.contextmanager
    def borrow(self, chunk: ChunkSource) -> Iterator[int | None]:
        """Do as `lease`, but give None where the chunk is not open."""
        found = self._take(chunk)
        if found is None:
            yield None
            return
        try:
            yield found.fd
        finally:
            self._give_back(found)

    def forget(self, chunk: ChunkSource) -> None:
        """Close a chunk that nobody reads."""
        with self._lock:
            found = self._open.pop(chunk, None)
        if found is not None:
            os.close(found.fd)

    # The lock is held for moments only: files are opened and closed outside of it.

    def _take(self, chunk: ChunkSource) -> _Open | None:
        with self._lock:
            found = self._open.get(chunk)
            if found is not None:
                self._open.move_to_end(chunk)
                found.readers += 1
            return found

    def _add(self, chunk: ChunkSource, fd: int) -> _Open:
        with self._lock:
            found = self._open.get(chunk)
            spare = [] if found is None else [fd]
            if found is None:
                found = self._open[chunk] = _Open(fd)
            found.readers += 1
            spare += self._surplus()
        for each in spare:
            os.close(each)
        return found

    def _give_back(self, found: _Open) -> None:
        with self._lock:
            found.readers -= 1

    def _surplus(self) -> list[int]:
        """Take out the chunks that have not been read for longest, if there are too many."""
        surplus = max(0, len(self._open) - MOST_OPEN)
        idle = [chunk for chunk, each in self._open.items() if not each.readers]
        return [self._open.pop(chunk).fd for chunk in idle[:surplus]]


def _reopen(chunk: ChunkSource) -> int:
    fd = os.open(chunk.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    if not chunk.is_same(os.fstat(fd)):
        os.close(fd)
        raise OSError(errno.ESTALE, "was changed while the image was open", chunk.path)
    return fd


_pool = _Pool()
