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
import shlex
import threading
import time
from typing import TYPE_CHECKING

from ..errors import CatalogBusyError
from . import private
from .connection import BUSY_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_SILENT_SECONDS = 1.0
_POLL_SECONDS = 0.02


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
        self._is_kept = False

    @contextlib.contextmanager
    def held(self, notify: Callable[[str], None] | None = None) -> Iterator[bool]:
        """Keep unused indexes for the time of the block; give whether that worked. See `pinned`."""
        with self._lock:
            is_kept = self._add(notify)
        try:
            yield is_kept
        finally:
            self._release()

    def take(self) -> Callable[[], None]:
        """Keep unused indexes until the function that is returned is called; twice is harmless.

        Beside a catalog in a directory where no lock file can be made, nothing is kept.
        """
        with self._lock:
            self._add(None)
        once = contextlib.ExitStack()
        once.callback(self._release)
        return once.close

    def renew(self) -> None:
        """Lock what lies at the path now: another catalog may have come, with a lock of its own."""
        with self._lock:
            if self._count:
                # The old one's indexes cannot be reached any more.
                self._held.close()
                self._is_kept = False
                self._is_kept = self._held.enter_context(pinned(self._catalog_path))

    def _add(self, notify: Callable[[str], None] | None) -> bool:
        if not self._count:
            self._is_kept = self._held.enter_context(pinned(self._catalog_path, notify))
        self._count += 1
        return self._is_kept

    def _release(self) -> None:
        with self._lock:
            self._count -= 1
            if not self._count:
                self._held.close()


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
        fd = _open_lock(catalog_path)
    except OSError:
        try:
            # Who may only read it can lock it as well.
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
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
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        # Private: whoever can open it can lock it, and make everybody else wait.
        fd = os.open(f"{catalog_path}.lock", flags | os.O_CREAT | os.O_EXCL, private.MODE)
    except FileExistsError:
        # Whatever it is, somebody else may have put it there: nothing of it is changed.
        return os.open(f"{catalog_path}.lock", flags)
    try:
        if os.geteuid() == 0:
            # As SQLite does it with its files: else the catalog's owner could not lock it.
            status = os.stat(catalog_path)
            os.fchown(fd, status.st_uid, status.st_gid)
    except BaseException:
        os.close(fd)
        raise
    return fd
