"""Pins: while a daemon reads a catalog, indexes that no image uses any more are kept.

An index whose image was removed or scanned anew may still be read through an open file. A daemon
therefore holds a shared lock on a file beside the catalog; only who can lock that file alone may
delete unused indexes. The kernel drops the lock of a process that dies.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shlex
import time
from typing import TYPE_CHECKING

from ..errors import CatalogBusyError
from . import private
from .connection import BUSY_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_SILENT_SECONDS = 1.0
_POLL_SECONDS = 0.02


@contextlib.contextmanager
def pinned(
    catalog_path: str,
    notify: Callable[[str], None] | None = None,
    *,
    busy_seconds: float = BUSY_SECONDS,
) -> Iterator[bool]:
    """Keep unused indexes for the time of the block.

    Gives whether that worked; it does not beside a catalog in a directory that one cannot write.

    Args:
        catalog_path: the catalog's database.
        notify: told in words what is waited for, after a second of that.
        busy_seconds: how long to wait for who deletes unused indexes.

    Raises:
        CatalogBusyError: the lock was kept for longer.
    """
    with _lock_file(catalog_path) as fd:
        if fd is not None:
            _share(fd, f"{catalog_path}.lock", notify, busy_seconds)
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
        fd = _open_lock(catalog_path)
    except OSError:
        yield None
        return
    try:
        yield fd
    finally:
        os.close(fd)


def _share(fd: int, path: str, notify: Callable[[str], None] | None, busy_seconds: float) -> None:
    began = time.monotonic()
    has_told = False
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            waited = time.monotonic() - began
            if waited > busy_seconds:
                raise CatalogBusyError(
                    f"{path}: another process has kept it locked for {busy_seconds:g} seconds: "
                    f"`fuser -v {shlex.quote(path)}` names it"
                ) from None
            if waited > _SILENT_SECONDS and notify is not None and not has_told:
                notify(f"waiting for another process, which has locked {path}")
                has_told = True
            time.sleep(_POLL_SECONDS)
        else:
            return


def _open_lock(catalog_path: str) -> int:
    # Private: whoever can open it can lock it, and make everybody else wait.
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(f"{catalog_path}.lock", flags, private.MODE)
    try:
        if os.geteuid() == 0 and os.fstat(fd).st_uid == 0:
            # As SQLite does it with its files: else the catalog's owner could not lock it.
            status = os.stat(catalog_path)
            os.fchown(fd, status.st_uid, status.st_gid)
    except BaseException:
        os.close(fd)
        raise
    return fd
