"""Pins: while somebody reads images of a catalog, indexes that no image uses any more are kept.

An index whose image was removed or scanned anew may still be read through what is open. Whoever has
an image open, and a daemon always, therefore holds a shared lock on a file beside the catalog; only
who can lock that file alone may delete unused indexes. The kernel drops the lock of a process that
dies.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Pins:
    """The pins of what one program has open of a catalog: one lock, however many they are.

    For any number of threads.

    Args:
        catalog_path: the catalog's database file.
    """

    def __init__(self, catalog_path: str) -> None:
        self._catalog_path = catalog_path
        self._lock = threading.Lock()
        self._count = 0
        self._held = contextlib.ExitStack()

    def take(self) -> Callable[[], None]:
        """Keep unused indexes until the function that is returned is called; twice is harmless.

        Beside a catalog in a directory where no lock file can be made, nothing is kept.
        """
        with self._lock:
            if not self._count:
                self._held.enter_context(pinned(self._catalog_path))
            self._count += 1
        once = contextlib.ExitStack()
        once.callback(self._release)
        return once.close

    def _release(self) -> None:
        with self._lock:
            self._count -= 1
            if not self._count:
                self._held.close()


@contextlib.contextmanager
def pinned(catalog_path: str) -> Iterator[bool]:
    """Keep unused indexes for the time of the block.

    Gives whether that worked; it does not beside a catalog in a directory that one cannot write.
    """
    with _lock_file(catalog_path) as fd:
        if fd is not None:
            fcntl.flock(fd, fcntl.LOCK_SH)
        yield fd is not None


@contextlib.contextmanager
def unpinned(catalog_path: str) -> Iterator[bool]:
    """Give True if nobody reads images of the catalog, nor can begin to before the block ends."""
    with _lock_file(catalog_path) as fd:
        if fd is None:
            yield False
            return
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True


@contextlib.contextmanager
def _lock_file(catalog_path: str) -> Iterator[int | None]:
    path = f"{catalog_path}.lock"
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError:
        try:
            # Who may only read it can lock it as well.
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            yield None
            return
    try:
        yield fd
    finally:
        os.close(fd)
