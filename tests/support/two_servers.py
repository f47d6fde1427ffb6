"""Two processes that serve one mount: a program, run as ``two_servers.py CATALOG MOUNT LOG``.

It mounts, serves until the kernel is there, forks, and serves in both until the mount is gone. Each
line of LOG is what one of them was asked for: process id, handler, inode.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING

import pyfuse3
import trio
from imgcat.catalog.opening.open import open_watched
from imgcat.catalog.opening.permissions import KnownPermissions
from imgcat.catalog.store import Catalog
from imgcat.fusefs import receiving
from imgcat.fusefs.operations import Operations
from imgcat.fusefs.tree import Planner

if TYPE_CHECKING:
    from imgcat.catalog.opening.watched import WatchedReader
    from imgcat.catalog.records import MountEntry


class Told(Operations):
    """The real handlers; what they are asked for is written down."""

    log_fd = -1

    def _tell(self, handler: str, inode: int) -> None:
        # One write to a file that is open for appending: lines of two processes do not mix.
        os.write(self.log_fd, f"{os.getpid()} {handler} {inode}\n".encode())

    async def open(self, inode, flags, ctx):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN201
        """Tell, and open."""
        self._tell("open", inode)
        return await super().open(inode, flags, ctx)

    async def read(self, fh, off, size):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN201
        """Tell, and read."""
        self._tell("read", fh)
        return await super().read(fh, off, size)

    async def release(self, fh):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN201
        """Tell, and release."""
        self._tell("release", fh)
        await super().release(fh)


async def _serve(operations: Operations, *, until_kernel_is_there: bool) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pyfuse3.main)
        if until_kernel_is_there:
            await operations.kernel_is_there.wait()
            nursery.cancel_scope.cancel()


def main(catalog_path: str, mount_point: str, log_path: str) -> None:
    """Mount, fork, serve."""
    opened: dict[int, Catalog] = {}

    def own_catalog() -> Catalog:
        # A connection to SQLite must not cross a fork: each process has its own.
        catalog = opened.get(os.getpid())
        if catalog is None:
            catalog = opened[os.getpid()] = Catalog.open(catalog_path, write=False)
        return catalog

    def open_entry(entry: MountEntry) -> WatchedReader:
        return open_watched(own_catalog(), entry.image_id, content_key=entry.content_key)

    permissions = KnownPermissions(lambda image_id: own_catalog().image_files(image_id))
    operations = Told(open_entry, permissions, receiving.install())
    operations.log_fd = os.open(log_path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    with Catalog.open(catalog_path, write=False) as catalog:
        operations.show(Planner().plan(catalog.mount_rows()))
    pyfuse3.init(operations, mount_point, {"ro", "fsname=imgcat", "subtype=imgcat"})
    trio.run(lambda: _serve(operations, until_kernel_is_there=True))
    child = os.fork()
    if not child:
        trio.run(lambda: _serve(operations, until_kernel_is_there=False))
        os._exit(0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    print(os.getpid(), child, flush=True)
    trio.run(lambda: _serve(operations, until_kernel_is_there=False))
    os.waitpid(child, 0)
    operations.close_files()
    pyfuse3.close(unmount=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
