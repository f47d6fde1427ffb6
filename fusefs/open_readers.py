"""The images that are open in one process, by their inode numbers.

A handle is its inode number, so whoever reads first fills this: the process that serves a read need
not be the one that served the open. What is opened here is closed when the last handle that was
opened here is released; what other processes' handles have brought in, when there are too many.

Used in the event loop only; opening and closing are done in threads.
"""

from __future__ import annotations

import collections
import logging
import queue
import threading
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import Any

    from ..catalog.opening.watched import WatchedReader
    from ..catalog.records import MountEntry

    Opener = Callable[[MountEntry], WatchedReader]
    InThread = Callable[..., Awaitable[Any]]

log = logging.getLogger("imgcat.mount")

_THREADS_PER_FILE = 4
"""Reads of one open file that may wait for its device at the same time."""

_OPENING_THREADS = 16

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

    def __init__(self, entry: MountEntry, reader: WatchedReader) -> None:
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
        opener: opens an image; it may block.
        in_thread: calls a function in a thread, under a limiter.
    """

    def __init__(self, opener: Opener, in_thread: InThread) -> None:
        self._opener = opener
        self._in_thread = in_thread
        self._opening = trio.CapacityLimiter(_OPENING_THREADS)
        self._close = Closer().close
        self._by_inode: collections.OrderedDict[int, OpenReader] = collections.OrderedDict()
        # Of this process, by inode: a reader may take the place of another.
        self._handles: collections.Counter[int] = collections.Counter()
        # The hot path takes it from here.
        self.get = self._by_inode.get

    async def open(self, inode: int, entry: MountEntry) -> OpenReader:
        """Count a handle more, and return what it reads.

        Where the image is open already, and its files are what they were then, that serves this
        handle too; else it is opened anew.

        Raises:
            Whatever the opener raises.
        """
        # Counted before anything is waited for, so that it is not closed meanwhile.
        self._handles[inode] += 1
        try:
            known = self._by_inode.get(inode)
            if (
                known is not None
                and known.entry.content_key == entry.content_key
                and await self._in_thread(self._opening, known.reader.is_current)
                and self._by_inode.get(inode) is known
            ):
                return known
            return await self._open(inode, entry)
        except BaseException:
            self.release(inode)
            raise

    async def reading(self, inode: int, entry: MountEntry) -> OpenReader:
        """Return what reads an image of which another process has opened the handle.

        Raises:
            Whatever the opener raises.
        """
        known = self._by_inode.get(inode)
        if known is None:
            known = await self._open(inode, entry)
            self._drop_idle()
        return known

    def release(self, inode: int) -> None:
        """Count a handle less, and close what nobody reads any more."""
        self._handles[inode] -= 1
        if self._handles[inode] <= 0:
            # Below zero where another process served the open.
            del self._handles[inode]
            self.retire(inode)

    def retire(self, inode: int) -> None:
        """Close what is open by an inode number, when the last read that waits has ended."""
        known = self._by_inode.pop(inode, None)
        if known is not None:
            self._let_go(known)

    def done_reading(self, known: OpenReader) -> None:
        """Tell that a read that waited has ended."""
        known.reads -= 1
        if known.is_retired and not known.reads:
            self._close(known.reader)

    def close(self) -> None:
        """Close everything, when the mount has ended."""
        for known in self._by_inode.values():
            known.reader.close()
        self._by_inode.clear()

    async def _open(self, inode: int, entry: MountEntry) -> OpenReader:
        reader = await self._in_thread(self._opening, self._opener, entry)
        fresh = OpenReader(entry, reader)
        before = self._by_inode.get(inode)
        self._by_inode[inode] = fresh
        if before is not None:
            # Opened by two at once, or changed since: handles of before go on with this one.
            self._let_go(before)
        return fresh

    def _let_go(self, known: OpenReader) -> None:
        """Close it now, or when the last read that waits has ended."""
        known.is_retired = True
        if not known.reads:
            self._close(known.reader)

    def _drop_idle(self) -> None:
        idle = [inode for inode in self._by_inode if inode not in self._handles]
        for inode in idle[: max(0, len(idle) - _MOST_IDLE)]:
            self.retire(inode)


class Closer:
    """Closes readers in a thread of its own, so that nobody waits for a file that does not close.

    The thread is started when it is first needed, in each process that needs it.
    """

    def __init__(self) -> None:
        self._readers: queue.SimpleQueue[WatchedReader] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def close(self, reader: WatchedReader) -> None:
        """Have a reader closed soon."""
        self._readers.put(reader)
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._run, name="closer", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        while True:
            try:
                self._readers.get().close()
            except Exception:
                log.exception("a reader cannot be closed")
