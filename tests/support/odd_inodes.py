"""A FUSE file system with one file, ``odd.img``, whose inode number takes all 64 bits.

Run as a program: the file that it shows, and the mount point.
"""

# ruff: noqa: ARG002 - handlers take what pyfuse3 gives them

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

_INODE = pyfuse3.InodeT((1 << 64) - 12345)


class OneFile(pyfuse3.Operations):
    """Shows one file in its root."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self._fd = os.open(source, os.O_RDONLY)

    async def getattr(
        self, inode: pyfuse3.InodeT, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        attributes = pyfuse3.EntryAttributes()
        attributes.st_ino = inode
        attributes.st_mode = pyfuse3.ModeT(
            stat.S_IFDIR | 0o755 if inode == pyfuse3.ROOT_INODE else stat.S_IFREG | 0o644
        )
        attributes.st_size = os.fstat(self._fd).st_size if inode == _INODE else 0
        attributes.st_mtime_ns = os.fstat(self._fd).st_mtime_ns
        return attributes

    async def lookup(
        self,
        parent_inode: pyfuse3.InodeT,
        name: pyfuse3.FileNameT,
        ctx: pyfuse3.RequestContext,
    ) -> pyfuse3.EntryAttributes:
        if name != b"odd.img":
            raise pyfuse3.FUSEError(errno.ENOENT)
        return await self.getattr(_INODE, ctx)

    async def forget(self, inode_list: Sequence[tuple[pyfuse3.InodeT, int]]) -> None:
        pass

    async def open(
        self, inode: pyfuse3.InodeT, flags: pyfuse3.FlagT, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.FileInfo:
        return pyfuse3.FileInfo(fh=pyfuse3.FileHandleT(1))

    async def read(self, fh: pyfuse3.FileHandleT, off: int, size: int) -> bytes:
        return os.pread(self._fd, size, off)

    async def release(self, fh: pyfuse3.FileHandleT) -> None:
        pass


def main() -> None:
    """Serve until unmounted or stopped."""
    pyfuse3.init(OneFile(sys.argv[1]), sys.argv[2], {"ro", "fsname=odd"})
    try:
        trio.run(pyfuse3.main)
    finally:
        pyfuse3.close(unmount=True)


if __name__ == "__main__":
    main()
