"""Pins: while a daemon reads a catalog, indexes that no image uses any more are kept.

An index whose image was removed or scanned anew may still be read through an open file. A daemon
therefore holds a shared lock on a file beside the catalog; only who can lock that file alone may
delete unused indexes. The kernel drops the lock of a process that dies.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


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
    """Give True if no daemon reads the catalog, and none can begin to before the block ends."""
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
    try:
        fd = os.open(f"{catalog_path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError:
        yield None
        return
    try:
        yield fd
    finally:
        os.close(fd)
