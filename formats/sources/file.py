"""A regular file or a block device as a byte source: exact positional reads. See `ByteSource`."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING, Protocol

from ..errors import TruncatedImageError
from .place import Place

if TYPE_CHECKING:
    from collections.abc import Sequence

IOV_MAX = 1024
"""Most buffers that one ``preadv`` takes on Linux (UIO_MAXIOV)."""

_LAST_OFFSET = (1 << 63) - (1 << 31)
"""Beyond this, offset and length of a read would not fit into the kernel's 63 bits."""

_NOWAIT = os.RWF_NOWAIT

_NOT_WITHOUT_WAITING = frozenset({errno.EAGAIN, errno.EOPNOTSUPP, errno.ENOSYS})


class NotAFileError(OSError):
    """The path leads to something that has no bytes at offsets: a pipe, a socket, a terminal."""


class FileSource:
    """A regular file or a block device as a byte source.

    Args:
        path: the file; opened read-only and close-on-exec.

    Raises:
        NotAFileError: it is a pipe, a socket or a character device; it was not opened.
        OSError: it cannot be opened, or is a directory.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        # Looked at before it is opened: to open a tape rewinds it, to open a fifo wakes its writer.
        _check_type(os.stat(self.path), self.path)
        self._fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            self.stat = os.fstat(self._fd)
            _check_type(self.stat, self.path)
            is_device = stat.S_ISBLK(self.stat.st_mode)
            # stat tells no size for a block device.
            self._size = os.lseek(self._fd, 0, os.SEEK_END) if is_device else self.stat.st_size
        except BaseException:
            self.close()
            raise

    @property
    def size(self) -> int:
        """Number of bytes in the file when it was opened."""
        return self._size

    def readv(self, buffers: Sequence[memoryview], offset: int) -> None:
        """Fill `buffers` from `offset` on; see `ByteSource.readv`."""
        readv(self._fd, buffers, offset)

    def readv_nowait(self, buffers: Sequence[memoryview], offset: int) -> bool:
        """Fill `buffers` if the page cache holds the bytes; see `ByteSource.readv_nowait`."""
        if len(buffers) != 1 or offset > _LAST_OFFSET:
            return readv_nowait(self._fd, buffers, offset)
        # The hot path of small reads.
        try:
            return os.preadv(self._fd, buffers, offset, _NOWAIT) == len(buffers[0])
        except OSError as error:
            if error.errno in _NOT_WITHOUT_WAITING:
                return False
            raise

    def read_at(self, offset: int, length: int) -> bytes:
        """Return ``length`` bytes at ``offset``; see `ByteSource.read_at`."""
        self._check_inside(offset, length)
        data = os.pread(self._fd, length, offset)
        if len(data) == length:
            return data
        # Interrupted, over 2 GiB, or cut off since it was opened.
        whole = bytearray(length)
        self.readv([memoryview(whole)], offset)
        return bytes(whole)

    def _check_inside(self, offset: int, length: int) -> None:
        if offset + length > self._size:
            raise TruncatedImageError(
                "source",
                self._size,
                f"the file ends here, {offset + length - self._size} bytes short",
            )

    def place(self, offset: int) -> Place:
        """Return the same place in the file."""
        return Place(self.path, offset)

    def current_stat(self) -> os.stat_result:
        """Return what `fstat` tells of the open file now."""
        return os.fstat(self._fd)

    def close(self) -> None:
        """Close the file."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


class OpenFile(Protocol):
    """A file that was opened, and what was told of it then."""

    @property
    def stat(self) -> os.stat_result:
        """What `fstat` told when it was opened."""

    def current_stat(self) -> os.stat_result:
        """Return what the system tells of the file now."""


def has_changed(file: OpenFile) -> bool:
    """Tell whether a file was written since it was opened, by its time and its size.

    Raises:
        OSError: it cannot be looked at.
    """
    return state_of(file.current_stat()) != state_of(file.stat)


def state_of(status: os.stat_result) -> tuple[int, int]:
    """Return what changes when a file is written: time in nanoseconds, and size.

    Of a block device nothing is told by that: it is written behind everybody's back.
    """
    if stat.S_ISBLK(status.st_mode):
        return 0, 0
    return status.st_mtime_ns, status.st_size


def readv(fd: int, buffers: Sequence[memoryview], offset: int) -> None:
    """Fill `buffers` from an open file; see `ByteSource.readv`."""
    wanted = [buffer for buffer in buffers if len(buffer)]
    if wanted and offset > _LAST_OFFSET:
        raise TruncatedImageError("source", offset, "no file is as long as that")
    for start in range(0, len(wanted), IOV_MAX):
        offset = _readv_batch(fd, wanted[start : start + IOV_MAX], offset)


def _readv_batch(fd: int, pending: list[memoryview], offset: int) -> int:
    while pending:
        count = os.preadv(fd, pending, offset)
        if count == 0:
            raise TruncatedImageError(
                "source", offset, f"the file ends here, {_total(pending)} bytes short"
            )
        offset += count
        pending = _advance(pending, count)
    return offset


def readv_nowait(fd: int, buffers: Sequence[memoryview], offset: int) -> bool:
    """Fill `buffers` from an open file without waiting; see `ByteSource.readv_nowait`."""
    if offset > _LAST_OFFSET:
        return False
    try:
        if len(buffers) == 1:
            return os.preadv(fd, buffers, offset, _NOWAIT) == len(buffers[0])
        for start in range(0, len(buffers), IOV_MAX):
            batch = buffers[start : start + IOV_MAX]
            size = _total(batch)
            if os.preadv(fd, batch, offset, _NOWAIT) != size:
                return False
            offset += size
    except OSError as error:
        if error.errno in _NOT_WITHOUT_WAITING:
            return False
        raise
    return True


def _check_type(status: os.stat_result, path: str) -> None:
    mode = status.st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    if not (stat.S_ISREG(mode) or stat.S_ISBLK(mode)):
        raise NotAFileError(errno.ESPIPE, "not a regular file or block device", path)


def _total(buffers: Sequence[memoryview]) -> int:
    return sum(map(len, buffers))


def _advance(buffers: list[memoryview], count: int) -> list[memoryview]:
    """Return what is still to be filled of `buffers` after `count` bytes."""
    for position, buffer in enumerate(buffers):
        if count < len(buffer):
            return [buffer[count:], *buffers[position + 1 :]]
        count -= len(buffer)
    return []
