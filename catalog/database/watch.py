"""Following a catalog: whether another process has committed, or another catalog has come."""

from __future__ import annotations

import contextlib
import sqlite3
from typing import TYPE_CHECKING

from ..errors import CatalogMissingError, CatalogReplacedError
from .connection import translate

if TYPE_CHECKING:
    from .connection import Database


class Follower:
    """Looks at a catalog's file again and again. Used by one thread at a time; it may block.

    Args:
        database: the catalog.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._open = contextlib.ExitStack()
        self._connection: sqlite3.Connection | None = None

    def version(self) -> int:
        """Return another number after another process has committed.

        Raises:
            CatalogReplacedError: another catalog has taken the place of this one.
            CatalogMissingError: there is none any more.
            CatalogError: it could not be read.
        """
        path, original = self._database.path, self._database.original()
        try:
            is_there = original.is_there()
        except OSError as error:
            raise CatalogMissingError(f"{path}: {error.strerror}") from error
        if not is_there:
            raise CatalogReplacedError(f"{path}: is another catalog now")
        if self._connection is None:
            self._connection = self._open.enter_context(self._database.raw())
        try:
            return int(self._connection.execute("PRAGMA data_version").fetchone()[0])
        except sqlite3.Error as error:
            # What is half written since is undone by whoever opens it next: the next look, if
            # nobody else.
            self.close()
            raise translate(error, path) from error

    def close(self) -> None:
        """Close the connection; the next look opens another."""
        self._open.close()
        self._connection = None
