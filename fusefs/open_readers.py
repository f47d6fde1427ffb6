"""The images, and files inside of them, that are open in one process, by their handles.

A handle is the key of what it reads, and of a file inside of an image its inode number, so whoever
reads first fills this: the process that serves a read need not be the one that served the open, and
no handle ever reads another content. What is opened here is closed when the last handle that was
opened here is released; what other processes' handles have brought in, when there are too many.

Used in the event loop only; opening and closing are done in threads.
"""

from __future__ import annotations

import collections
import contextlib
import logging
import queue
import threading
import time
import weakref
from typing import TYPE_CHECKING

import trio

from ..catalog.records import MountEntry
from .tree import inode_of, is_inside

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import Any

    from ..catalog.opening.watched import WatchedReader
    from .volumes import InsideFile, InsideReader

    Entry = MountEntry | InsideFile
    Reader = WatchedReader | InsideReader
    Opener = Callable[[Entry], Reader]
    InThread = Callable[..., Awaitable[Any]]

log = logging.getLogger("imgcat.mount")

_THREADS_PER_FILE = 4
"""Reads of one open file that may wait for its device at the same time."""

_OPENING_THREADS = 2
"""The same of opens: each image has its own, so that a disk that hangs holds up no other image."""

_TOGETHER_SECONDS = 0.02
"""How long it takes until a file is closed that nobody reads any more."""

_MOST_IDLE = 64
"""Images that stay open though no handle of this process is: of other processes' handles."""


class OpenReader:
    """An image that is open.

    Attributes:
        entry: what the tree said of it when it was opened.
        reader: reads it.
        size: its guest bytes.
        read_into_nowait: the reader's own: the hot path goes without another look-up.
        limiter: held by a read that waits.
        reads: reads that wait just now.
    """

    __slots__ = (
        "entry", "is_retired", "limiter", "read_into_nowait", "reader", "reads", "size",
    )  # fmt: skip

    def __init__(self, entry: Entry, reader: Reader) -> None:
        self.entry = entry
        self.reader = reader
        self.size = reader.size
        self.read_into_nowait = reader.read_into_nowait
        self.limiter = trio.CapacityLimiter(_THREADS_PER_FILE)
        self.reads = 0
        self.is_retired = False


class OpenReaders:
    """What is open.

    Args:
        opener: opens an image, or a file in one; it may block.
        in_thread: calls a function in a thread, under a limiter.
        opener_nowait: opens a file in an image where that needs no waiting; else returns None.
    """

    def __init__(
        self,
        opener: Opener,
        in_thread: InThread,
        opener_nowait: Callable[[InsideFile], InsideReader | None] = lambda _file: None,
    ) -> None:
        self._opener = opener
        self._opener_nowait = opener_nowait
        self._in_thread = in_thread
        self._opening: weakref.WeakValueDictionary[int, trio.CapacityLimiter] = (
            weakref.WeakValueDictionary()
        )
        self._closer = Closer()
        self._close = self._closer.close
        self._by_handle: collections.OrderedDict[int, OpenReader] = collections.OrderedDict()
        # Of this process: a reader may take the place of another.
        self._handles: collections.Counter[int] = collections.Counter()
        # The hot path takes it from here.
        self.get = self._by_handle.get

    def of_inode(self, inode: int) -> OpenReader | None:
        """Return what is open by an inode number, though it may have no name any more."""
        if is_inside(inode):
            return self._by_handle.get(inode)
        for known in self._by_handle.values():
            if isinstance(known.entry, MountEntry) and inode_of(known.entry) == inode:
                return known
        return None

    async def open(self, handle: int, entry: Entry) -> OpenReader:
        """Count a handle more, and return what it reads.

        Where the image is open already, and its files are what they were then, that serves this
        handle too; else it is opened anew.

        Raises:
            Whatever the opener raises.
        """
        # Counted before anything is waited for, so that it is not closed meanwhile.
        self._handles[handle] += 1
        try:
            known = self._by_handle.get(handle)
            if known is None and is_inside(handle) and not isinstance(entry, MountEntry):
                reader = self._opener_nowait(entry)
                if reader is not None:
                    return self._take(handle, entry, reader)
            if (
                known is not None
                and await self._in_thread(self._limiter(handle), known.reader.is_current)
                and self._by_handle.get(handle) is known
            ):
                return known
            return await self._open(handle, entry)
        except BaseException:
            self.release(handle)
            raise

    async def reading(self, handle: int, entry: Entry) -> OpenReader:
        """Return what reads an image of which another process has opened the handle.

        Raises:
            Whatever the opener raises.
        """
        known = self._by_handle.get(handle)
        if known is None:
            known = await self._open(handle, entry)
            self._drop_idle()
        return known

    def release(self, handle: int) -> None:
        """Count a handle less, and close what nobody reads any more."""
        self._handles[handle] -= 1
        if self._handles[handle] <= 0:
            # Below zero where another process served the open.
            del self._handles[handle]
            self.retire(handle)

    def retire(self, handle: int) -> None:
        """Close what is open by a handle, when the last read that waits has ended."""
        known = self._by_handle.pop(handle, None)
        if known is not None:
            self._let_go(known)

    def done_reading(self, known: OpenReader) -> None:
        """Tell that a read that waited has ended."""
        known.reads -= 1
        if known.is_retired and not known.reads:
            self._close(known.reader)

    def close(self) -> None:
        """Close everything, when the mount has ended; also what is about to be closed. It waits."""
        for known in self._by_handle.values():
            known.reader.close()
        self._by_handle.clear()
        self._closer.finish()

    async def _open(self, handle: int, entry: Entry) -> OpenReader:
        reader = await self._in_thread(self._limiter(handle), self._opener, entry)
        return self._take(handle, entry, reader)

    def _take(self, handle: int, entry: Entry, reader: Reader) -> OpenReader:
        fresh = OpenReader(entry, reader)
        before = self._by_handle.get(handle)
        self._by_handle[handle] = fresh
        if before is not None:
            # Opened by two at once, or changed since: handles of before go on with this one.
            self._let_go(before)
        return fresh

    def _limiter(self, handle: int) -> trio.CapacityLimiter:
        """Return what limits the threads that open one image; it lives as long as one does."""
        limiter = self._opening.get(handle)
        if limiter is None:
            limiter = self._opening[handle] = trio.CapacityLimiter(_OPENING_THREADS)
        return limiter

    def _let_go(self, known: OpenReader) -> None:
        """Close it now, or when the last read that waits has ended."""
        known.is_retired = True
        if not known.reads:
            self._close(known.reader)

    def _drop_idle(self) -> None:
        idle = [handle for handle in self._by_handle if handle not in self._handles]
        for handle in idle[: max(0, len(idle) - _MOST_IDLE)]:
            self.retire(handle)


class Closer:
    """Closes readers in a thread of its own, so that nobody waits for a file that does not close.

    The thread is started when it is first needed, in each process that needs it.
    """

    def __init__(self) -> None:
        self._readers: queue.SimpleQueue[Reader | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def close(self, reader: Reader) -> None:
        """Have a reader closed soon."""
        self._readers.put(reader)
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._run, name="closer", daemon=True)
            self._thread.start()

    def finish(self) -> None:
        """Wait until all that it was given are closed."""
        if self._thread is not None and self._thread.is_alive():
            self._readers.put(None)
            self._thread.join()

    def _run(self) -> None:
        while True:
            reader = self._readers.get()
            # Of many that are closed one after the other, not each wakes this thread.
            time.sleep(_TOGETHER_SECONDS)
            with contextlib.suppress(queue.Empty):
                while reader is not None:
                    self._close(reader)
                    reader = self._readers.get_nowait()
                # Nothing comes after what `finish` puts in.
                return

    def _close(self, reader: Reader) -> None:
        try:
            reader.close()
        except Exception:
            log.exception("a reader cannot be closed")
