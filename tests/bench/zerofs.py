# ruff: noqa: ARG002 - handlers have the arguments that pyfuse3 gives them
"""The least that a pyfuse3 handler can do: files full of zeros, answered with a constant.

Started as ``zerofs.py DIR BYTES NAME...``; serves until it is unmounted. Plain pyfuse3 with trio.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
from typing import TYPE_CHECKING

import pyfuse3
import trio

if TYPE_CHECKING:
    from collections.abc import Sequence

_SIZES = (4096, 1 << 20)


class ZeroOperations(pyfuse3.Operations):
    """Files of zeros.

    Args:
        size: bytes in each.
        names: their names.
    """

    def __init__(self, size: int, names: Sequence[str]) -> None:
        super().__init__()
        self._size = size
        self._inodes = {
            os.fsencode(name): pyfuse3.ROOT_INODE + number for number, name in enumerate(names, 1)
        }
        self._answers = {size: bytes(size) for size in _SIZES}

    async def getattr(
        self, inode: pyfuse3.InodeT, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        """Return what `stat` tells."""
        attributes = pyfuse3.EntryAttributes()
        attributes.st_ino = inode
        is_root = inode == pyfuse3.ROOT_INODE
        mode = stat.S_IFDIR | 0o555 if is_root else stat.S_IFREG | 0o444
        attributes.st_mode = pyfuse3.ModeT(mode)
        attributes.st_size = 0 if is_root else self._size
        return attributes

    async def lookup(
        self, parent_inode: pyfuse3.InodeT, name: pyfuse3.FileNameT, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        """Find a file."""
        if name not in self._inodes:
            raise pyfuse3.FUSEError(errno.ENOENT)
        return await self.getattr(pyfuse3.InodeT(self._inodes[name]), ctx)

    async def open(
        self, inode: pyfuse3.InodeT, flags: pyfuse3.FlagT, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.FileInfo:
        """Open a file."""
        return pyfuse3.FileInfo(fh=pyfuse3.FileHandleT(inode))

    async def read(self, fh: pyfuse3.FileHandleT, off: int, size: int) -> bytes:
        """Return zeros."""
        size = min(size, self._size - off)
        return self._answers.get(size) or bytes(max(0, size))


def main() -> None:
    """Mount and serve."""
    directory, size, *names = sys.argv[1:]
    pyfuse3.init(ZeroOperations(int(size), names), directory, {"ro", "fsname=zeros"})
    try:
        trio.run(pyfuse3.main)
    finally:
        pyfuse3.close()


if __name__ == "__main__":
    main()
