"""A block device as a byte source: read past the page cache, which others do not keep up to date.

A file system that is mounted writes to its device by other ways than through the device's own pages
in memory: what was once read of those stays what it was.
"""

from __future__ import annotations

import fcntl
import mmap
import os
from typing import TYPE_CHECKING

from .file import FileSource

if TYPE_CHECKING:
    from collections.abc import Sequence

_SECTOR_SIZE = 0x1268
"""BLKSSZGET of linux/fs.h."""


class DeviceSource(FileSource):
    """A block device, each read of which is one of the device. See `FileSource`."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__(path)
        try:
            found = bytearray(4)
            fcntl.ioctl(self._fd, _SECTOR_SIZE, found)
            self._sector_size = int.from_bytes(found, "little") or 512
            flags = fcntl.fcntl(self._fd, fcntl.F_GETFL)
            fcntl.fcntl(self._fd, fcntl.F_SETFL, flags | os.O_DIRECT)
        except BaseException:
            self.close()
            raise

    def readv(self, buffers: Sequence[memoryview], offset: int) -> None:
        """Fill `buffers` from `offset` on, by whole sectors; see `ByteSource.readv`."""
        length = sum(map(len, buffers))
        if not length:
            return
        unit = self._sector_size
        start, stop = offset // unit * unit, -(-(offset + length) // unit) * unit
        # Anonymous memory begins at a page, as such a read needs it.
        with mmap.mmap(-1, stop - start) as memory, memoryview(memory) as whole:
            super().readv([whole], start)
            position = offset - start
            for buffer in buffers:
                buffer[:] = whole[position : position + len(buffer)]
                position += len(buffer)

    def readv_nowait(self, buffers: Sequence[memoryview], offset: int) -> bool:  # noqa: ARG002
        """Return False: nothing of it is in memory."""
        return False

    def read_at(self, offset: int, length: int) -> bytes:
        """Return ``length`` bytes at ``offset``; see `ByteSource.read_at`."""
        self._check_inside(offset, length)
        whole = bytearray(length)
        self.readv([memoryview(whole)], offset)
        return bytes(whole)
