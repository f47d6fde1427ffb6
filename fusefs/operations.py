"""The pyfuse3 adapter: kernel requests to tree and readers.

Every handler raises only `pyfuse3.FUSEError`: any other exception that left one would end the
whole mount. What goes wrong with an image is logged with its name and becomes an errno for that
one request.
"""

from __future__ import annotations

import dataclasses
import errno
import functools
import itertools
import logging
import os
import stat
import time
from typing import TYPE_CHECKING, Any, NoReturn, ParamSpec, TypeVar, TypeVarTuple

import pyfuse3
import trio

from ..catalog.opening.errnos import errno_of, is_expected
from .tree import ROOT_INODE, Node, Tree

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Sequence

    from ..catalog.opening.watched import ReaderFactory, WatchedReader
    from ..catalog.records import MountEntry
    from .receiving import Turns

log = logging.getLogger("imgcat.mount")

_MAX_READ = 1 << 20
"""The kernel asks for at most this many bytes at a time (FUSE_MAX_MAX_PAGES of 4 KiB)."""

_THREADS_PER_FILE = 4
"""Reads of one open file that may wait for its device at the same time."""

_OPENING_THREADS = 16

_NAME_MAX = 255
_BLOCK = 512
_LONG = 3600.0
_SHORT = 1.0

_P = ParamSpec("_P")
_R = TypeVar("_R")
_Args = TypeVarTuple("_Args")


def _guarded(
    handler: Callable[_P, Coroutine[Any, Any, _R]],
) -> Callable[_P, Coroutine[Any, Any, _R]]:
    """Turn whatever else leaves a handler into EIO, and log it as the bug that it is."""

    @functools.wraps(handler)
    async def wrapper(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        try:
            return await handler(*args, **kwargs)
        except (pyfuse3.FUSEError, trio.Cancelled):
            raise
        except Exception:
            log.exception("%s failed", handler.__name__)
            raise pyfuse3.FUSEError(errno.EIO) from None

    return wrapper


@dataclasses.dataclass(slots=True, eq=False)
class _OpenFile:
    name: str
    size: int
    reader: WatchedReader
    limiter: trio.CapacityLimiter


class Operations(pyfuse3.Operations):
    """The handlers of one mount.

    Args:
        readers: opens images.
        turns: who receives the next request; passed on before a handler waits.

    Attributes:
        kernel_is_there: set when the kernel has begun to talk to the mount.
    """

    supports_dot_lookup = True

    def __init__(self, readers: ReaderFactory, turns: Turns) -> None:
        super().__init__()
        self._turns = turns
        self.kernel_is_there = trio.Event()
        self._readers = readers
        self._tree = Tree()
        self._files: dict[int, _OpenFile] = {}
        self._directories: dict[int, list[Node]] = {}
        self._handles = itertools.count(1)
        self._opening = trio.CapacityLimiter(_OPENING_THREADS)
        self._changed_ns = time.time_ns()
        self._uid, self._gid = os.getuid(), os.getgid()
        # One buffer for every read that needs no waiting. pyfuse3 hands it to the kernel as soon
        # as the handler returns, before any other task runs, so it is free again by then.
        self._scratch = memoryview(bytearray(_MAX_READ))

    @property
    def image_count(self) -> int:
        """The number of images shown."""
        return self._tree.image_count

    def show(self, entries: Iterable[MountEntry]) -> None:
        """Show these images from now on. Files that are open go on working."""
        for gone in self._tree.update(entries):
            pyfuse3.invalidate_entry_async(
                pyfuse3.InodeT(gone.parent_inode),
                pyfuse3.FileNameT(gone.name),
                deleted=pyfuse3.InodeT(0),
                ignore_enoent=True,
            )
        self._changed_ns = time.time_ns()

    def close_files(self) -> None:
        """Close what is still open, when the mount has ended."""
        for file in self._files.values():
            file.reader.close()
        self._files.clear()

    # -- names and attributes ----------------------------------------------

    def init(self) -> None:
        """Tell that the mount is usable."""
        self.kernel_is_there.set()

    @_guarded
    async def lookup(
        self,
        parent_inode: pyfuse3.InodeT,
        name: pyfuse3.FileNameT,
        ctx: pyfuse3.RequestContext,  # noqa: ARG002
    ) -> pyfuse3.EntryAttributes:
        """Find a name in a directory."""
        if name == b".":
            node = self._tree.node(parent_inode)
        elif name == b"..":
            here = self._tree.node(parent_inode)
            node = here and (here.parent or here)
        else:
            node = self._tree.child(parent_inode, name)
        if node is None:
            raise pyfuse3.FUSEError(errno.ENOENT)
        self._tree.looked_up(node)
        return self._attributes(node)

    @_guarded
    async def forget(self, inode_list: Sequence[tuple[pyfuse3.InodeT, int]]) -> None:
        """Drop what the kernel does not know any more."""
        for inode, count in inode_list:
            self._tree.forget(inode, count)

    @_guarded
    async def getattr(
        self,
        inode: pyfuse3.InodeT,
        ctx: pyfuse3.RequestContext,  # noqa: ARG002
    ) -> pyfuse3.EntryAttributes:
        """Return what `stat` tells."""
        return self._attributes(self._node(inode))

    @_guarded
    async def statfs(self, ctx: pyfuse3.RequestContext) -> pyfuse3.StatvfsData:  # noqa: ARG002
        """Return the sizes of all images together."""
        data = pyfuse3.StatvfsData()
        data.f_bsize = data.f_frsize = 4096
        data.f_blocks = -(-self._tree.size_bytes // 4096)
        data.f_files = self._tree.image_count
        data.f_namemax = _NAME_MAX
        return data

    @_guarded
    async def listxattr(
        self,
        inode: pyfuse3.InodeT,  # noqa: ARG002
        ctx: pyfuse3.RequestContext,  # noqa: ARG002
    ) -> Sequence[pyfuse3.XAttrNameT]:
        """Return no names."""
        return []

    @_guarded
    async def getxattr(
        self,
        inode: pyfuse3.InodeT,  # noqa: ARG002
        name: pyfuse3.XAttrNameT,  # noqa: ARG002
        ctx: pyfuse3.RequestContext,  # noqa: ARG002
    ) -> bytes:
        """Know no extended attribute."""
        raise pyfuse3.FUSEError(pyfuse3.ENOATTR)

    # -- directories -------------------------------------------------------

    @_guarded
    async def opendir(
        self,
        inode: pyfuse3.InodeT,
        ctx: pyfuse3.RequestContext,  # noqa: ARG002
    ) -> pyfuse3.FileHandleT:
        """Fix what the directory lists until it is closed."""
        if not self._node(inode).is_directory:
            raise pyfuse3.FUSEError(errno.ENOTDIR)
        handle = next(self._handles)
        self._directories[handle] = self._tree.children(inode)
        return pyfuse3.FileHandleT(handle)

    @_guarded
    async def readdir(
        self, fh: pyfuse3.FileHandleT, start_id: int, token: pyfuse3.ReaddirToken
    ) -> None:
        """List the directory from entry `start_id` on."""
        nodes = self._directories[fh]
        for number in range(start_id, len(nodes)):
            node = nodes[number]
            if not node.linked:
                continue
            name = pyfuse3.FileNameT(node.name)
            if not pyfuse3.readdir_reply(token, name, self._attributes(node), number + 1):
                break
            self._tree.looked_up(node)

    @_guarded
    async def releasedir(self, fh: pyfuse3.FileHandleT) -> None:
        """Close the directory."""
        del self._directories[fh]

    # -- files -------------------------------------------------------------

    @_guarded
    async def open(
        self,
        inode: pyfuse3.InodeT,
        flags: pyfuse3.FlagT,
        ctx: pyfuse3.RequestContext,  # noqa: ARG002
    ) -> pyfuse3.FileInfo:
        """Open an image, if its file still is the one that was scanned."""
        node = self._node(inode)
        if node.entry is None:
            raise pyfuse3.FUSEError(errno.EISDIR)
        if flags & os.O_ACCMODE != os.O_RDONLY:
            raise pyfuse3.FUSEError(errno.EROFS)
        entry = node.entry
        try:
            reader = await self._in_thread(
                self._opening, self._readers.open, entry.image_id, entry.index_id
            )
        except Exception as error:  # noqa: BLE001 - each becomes an errno and a line in the log
            self._fail(entry.name, "open", error)
        handle = next(self._handles)
        self._files[handle] = _OpenFile(
            entry.name, reader.size, reader, trio.CapacityLimiter(_THREADS_PER_FILE)
        )
        # Of a file that was touched, what the kernel has cached may be from before.
        return pyfuse3.FileInfo(fh=pyfuse3.FileHandleT(handle), keep_cache=not reader.was_touched)

    async def read(self, fh: pyfuse3.FileHandleT, off: int, size: int) -> bytes:
        """Return guest bytes, fewer than asked for only at the image's end.

        Not `_guarded`: it is the hot path, and catches everything itself.
        """
        try:
            file = self._files[fh]
            size = min(size, file.size - off)
            if size <= 0:
                return b""
            if size <= _MAX_READ:
                view = self._scratch[:size]
                if file.reader.read_into_nowait(view, off):
                    # pyfuse3 takes any buffer, though it declares bytes.
                    return view  # type: ignore[return-value]
            buffer = bytearray(size)
            await self._in_thread(file.limiter, file.reader.read_into, memoryview(buffer), off)
        except Exception as error:  # noqa: BLE001 - each becomes an errno and a line in the log
            known = self._files.get(fh)
            self._fail(
                known.name if known else f"handle {fh}", f"read of {size} bytes at {off}", error
            )
        return buffer  # type: ignore[return-value]

    @_guarded
    async def release(self, fh: pyfuse3.FileHandleT) -> None:
        """Close the image."""
        self._files.pop(fh).reader.close()

    # -- helpers -----------------------------------------------------------

    async def _in_thread(
        self,
        limiter: trio.CapacityLimiter,
        function: Callable[[*_Args], _R],
        *args: *_Args,
    ) -> _R:
        """Call what may block. The only place where a handler waits for anything."""
        self._turns.pass_on()
        return await trio.to_thread.run_sync(
            function, *args, limiter=limiter, abandon_on_cancel=True
        )

    def _node(self, inode: int) -> Node:
        node = self._tree.node(inode)
        if node is None:
            raise pyfuse3.FUSEError(errno.ESTALE)
        return node

    def _fail(self, name: str, what: str, error: Exception) -> NoReturn:
        if is_expected(error):
            log.warning("%s: %s: %s", name, what, error)
        else:
            log.error("%s: %s failed", name, what, exc_info=error)
        raise pyfuse3.FUSEError(errno_of(error)) from None

    def _attributes(self, node: Node) -> pyfuse3.EntryAttributes:
        attributes = pyfuse3.EntryAttributes()
        attributes.st_ino = pyfuse3.InodeT(node.inode)
        if node.entry is None:
            # Short: the count of links and the time change when images come and go.
            attributes.attr_timeout = attributes.entry_timeout = _SHORT
            attributes.st_mode = pyfuse3.ModeT(stat.S_IFDIR | 0o555)
            attributes.st_nlink = 2 + node.subdirectory_count
            attributes.st_uid, attributes.st_gid = self._uid, self._gid
            changed_ns = self._changed_ns
        else:
            attributes.attr_timeout = attributes.entry_timeout = _LONG
            entry = node.entry
            # Who may read the image's file may read the image, and nobody else.
            attributes.st_mode = pyfuse3.ModeT(stat.S_IFREG | (entry.mode & 0o444))
            attributes.st_nlink = 1
            attributes.st_size = entry.size_bytes
            attributes.st_blocks = -(-entry.used_bytes // _BLOCK)
            attributes.st_blksize = 1 << 17
            attributes.st_uid, attributes.st_gid = entry.uid, entry.gid
            changed_ns = entry.mtime_ns
        attributes.st_atime_ns = attributes.st_mtime_ns = attributes.st_ctime_ns = changed_ns
        return attributes


__all__ = ["ROOT_INODE", "Operations"]
