"""A file system of the tests' own that shows a directory, and blocks what it is told to block.

`python blocking_fs.py SOURCE MOUNT CONTROL`: while there is a file ``CONTROL/open``, opening a file
does not end; so with ``read``, ``close`` and ``stat``.
"""

# ruff: noqa: ARG002 - the arguments are pyfuse3's

from __future__ import annotations

import errno
import os
import stat
import sys
from pathlib import Path
from typing import Any

import pyfuse3
import trio


class Blocking(pyfuse3.Operations):
    """A flat directory, read-only."""

    def __init__(self, source: Path, control: Path) -> None:
        super().__init__()
        self._source, self._control = source, control
        self._names: dict[int, str] = {}

    async def _wait(self, what: str) -> None:
        # Another process says so: there is nothing else to wait for.
        while (self._control / what).exists():  # noqa: ASYNC110
            await trio.sleep(0.02)

    def _attributes(self, inode: int) -> pyfuse3.EntryAttributes:
        path = self._source / self._names[inode] if inode != pyfuse3.ROOT_INODE else self._source
        status = os.stat(path)
        made = pyfuse3.EntryAttributes()
        made.st_ino = pyfuse3.InodeT(inode)
        made.st_mode = pyfuse3.ModeT(status.st_mode)
        made.st_size, made.st_nlink = status.st_size, 1
        made.st_mtime_ns = status.st_mtime_ns
        made.attr_timeout = made.entry_timeout = 0
        return made

    async def getattr(self, inode: Any, ctx: Any) -> pyfuse3.EntryAttributes:
        if inode != pyfuse3.ROOT_INODE:
            await self._wait("stat")
        return self._attributes(inode)

    async def lookup(self, parent_inode: Any, name: Any, ctx: Any) -> pyfuse3.EntryAttributes:
        path = self._source / os.fsdecode(name)
        if not path.exists():
            raise pyfuse3.FUSEError(errno.ENOENT)
        inode = os.stat(path).st_ino + 10
        self._names[inode] = path.name
        return self._attributes(inode)

    async def opendir(self, inode: Any, ctx: Any) -> pyfuse3.FileHandleT:
        return pyfuse3.FileHandleT(inode)

    async def readdir(self, fh: Any, start_id: int, token: Any) -> None:
        for number, name in enumerate(sorted(os.listdir(self._source))[start_id:], start_id + 1):
            attributes = await self.lookup(fh, os.fsencode(name), None)
            if not pyfuse3.readdir_reply(
                token, pyfuse3.FileNameT(os.fsencode(name)), attributes, number
            ):
                break

    async def open(self, inode: Any, flags: Any, ctx: Any) -> pyfuse3.FileInfo:
        await self._wait("open")
        fd = os.open(self._source / self._names[inode], os.O_RDONLY)
        # Nothing is cached: each read comes here.
        return pyfuse3.FileInfo(fh=pyfuse3.FileHandleT(fd), direct_io=True)

    async def read(self, fh: Any, off: int, size: int) -> bytes:
        await self._wait("read")
        return os.pread(fh, size, off)

    async def flush(self, fh: Any) -> None:
        await self._wait("close")

    async def release(self, fh: Any) -> None:
        os.close(fh)


def main() -> None:
    """Mount, and serve until unmounted."""
    source, mount, control = map(Path, sys.argv[1:])
    assert stat.S_ISDIR(source.stat().st_mode)
    pyfuse3.init(Blocking(source, control), str(mount), {"fsname=blocking", "allow_other"})
    try:
        trio.run(pyfuse3.main)
    finally:
        pyfuse3.close()


if __name__ == "__main__":
    main()
