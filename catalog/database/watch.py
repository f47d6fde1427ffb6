"""Following a catalog: whether another process has committed, or another catalog has come."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from typing import TYPE_CHECKING

from ..errors import CatalogMissingError, CatalogReplacedError
from .connection import translate
from .identity import key_of, uri_of

if TYPE_CHECKING:
    from .connection import Database
    from .identity import Identity


class Follower:
    """Looks at a catalog's file again and again. Used by one thread at a time; it may block.

    Args:
        database: the catalog.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._open = contextlib.ExitStack()
        self._connection: sqlite3.Connection | None = None
        self._seen: tuple[int, int] | None = None

    def version(self) -> int:
        """Return another number after another process has committed.

        Raises:
            CatalogReplacedError: another catalog has taken the place of this one.
            CatalogMissingError: there is none any more.
            CatalogError: it could not be read.
        """
        path, known = self._database.path, self._database.identify()
        try:
            is_same = self._is_same(path, known)
        except OSError as error:
            raise CatalogMissingError(f"{path}: {error.strerror}") from error
        if not is_same:
            raise CatalogReplacedError(f"{path}: is another catalog now")
        if self._connection is None:
            self._connection = self._open.enter_context(self._database.raw())
        try:
            return int(self._connection.execute("PRAGMA data_version").fetchone()[0])
        except sqlite3.Error as error:
            raise translate(error, path) from error

    def close(self) -> None:
        """Close the connection; the next look opens another."""
        self._open.close()
        self._connection = None
        self._seen = None

    def _is_same(self, path: str, known: Identity) -> bool:
        """Tell whether it is the same catalog; reads of it only where the file was written.

        The key is read past the write-ahead log, and past what open connections have cached: a file
        that was overwritten in place tells its own.
        """
        status = os.stat(path)
        if (status.st_dev, status.st_ino) != (known.device, known.inode):
            return False
        state = status.st_mtime_ns, status.st_size
        if state == self._seen or known.key is None:
            return True
        try:
            uri = uri_of(path, "ro&immutable=1")
            with contextlib.closing(sqlite3.connect(uri, uri=True, isolation_level=None)) as alone:
                key = key_of(alone)
        except sqlite3.Error:
            # It is being written at this moment: looked at again the next time.
            return True
        self._seen = state
        return key == known.key
