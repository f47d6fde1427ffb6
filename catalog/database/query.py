"""Questions in SQL, which can change nothing."""

from __future__ import annotations

import os
import sqlite3
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .connection import Database

_ALLOWED = frozenset(
    {
        sqlite3.SQLITE_SELECT,
        sqlite3.SQLITE_READ,
        sqlite3.SQLITE_FUNCTION,
        sqlite3.SQLITE_RECURSIVE,
        sqlite3.SQLITE_PRAGMA,
    }
)

_THE_CATALOGS_FAULT = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_FULL,
    }
)

_STEPS = 50_000
"""Steps of SQLite's machine between two looks whether the user has interrupted."""


class SqlError(Exception):
    """The query is wrong, or wants to change something."""


def ask(database: Database, query: str) -> tuple[list[str], list[tuple[Any, ...]]]:
    """Return the columns' names and the rows that a query gives.

    Raises:
        SqlError: the query is wrong, or wants to change something.
        ValueError: it is no text.
        CatalogError: the catalog cannot be read.
        KeyboardInterrupt: the user has interrupted it.
    """
    with database.raw() as connection:
        connection.text_factory = os.fsdecode
        connection.set_authorizer(_authorize)
        # Without it, Python would not look at signals before the query has ended.
        connection.set_progress_handler(lambda: 0, _STEPS)
        try:
            cursor = connection.execute(query)
            return [column[0] for column in cursor.description or ()], cursor.fetchall()
        except (sqlite3.Error, sqlite3.Warning) as error:
            code = (getattr(error, "sqlite_errorcode", None) or sqlite3.SQLITE_ERROR) & 0xFF
            if code == sqlite3.SQLITE_INTERRUPT:
                raise KeyboardInterrupt from error
            if code in _THE_CATALOGS_FAULT:
                raise
            raise SqlError(str(error)) from error


def _authorize(action: int, first: str | None, second: str | None, *_where: str | None) -> int:
    """Allow reading; of pragmas those that tell, which take at most the name of a table."""
    if action == sqlite3.SQLITE_PRAGMA and second is not None and not _tells(first or ""):
        return sqlite3.SQLITE_DENY
    if action == sqlite3.SQLITE_UPDATE and first == "sqlite_master":
        # How SQLite declares table-valued functions to itself; the file cannot be written anyway.
        return sqlite3.SQLITE_OK
    return sqlite3.SQLITE_OK if action in _ALLOWED else sqlite3.SQLITE_DENY


def _tells(pragma: str) -> bool:
    return pragma.endswith(("_info", "_xinfo", "_list", "_check"))
