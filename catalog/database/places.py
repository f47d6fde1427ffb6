"""Paths as the catalog keeps them: absolute, or relative to the directory that the catalog is in.

Which of them is one setting of the catalog. Only what lies below that directory is kept relative:
that is what moves with it. Every question about paths goes through two functions of SQL, which a
connection has from here, so that no other module knows of the difference.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ..names import file_name, stored_name

if TYPE_CHECKING:
    import sqlite3

PLACE = "CASE WHEN substr({0}, 1, 1) = '/' THEN {0} ELSE place({0}) END"
"""A path as an absolute one, in SQL; those that are one cost nothing. A BLOB is asked for too."""

_KEPT = "SELECT coalesce((SELECT near(?1) FROM identity WHERE is_portable), ?1)"


def add_functions(connection: sqlite3.Connection, database: str) -> None:
    """Let a connection have `place`, from a stored path to a file's, and `near`, the way back.

    ``near(path)`` is the path relative to the catalog's directory, NULL where it lies elsewhere.

    Args:
        connection: to the catalog.
        database: the catalog's file.
    """
    base = os.path.dirname(os.path.abspath(database))
    below = base.rstrip("/") + "/"

    def place(value: str | bytes | None) -> str | bytes | None:
        return None if value is None else stored_name(os.path.join(base, file_name(value)))

    def near(value: str | bytes | None) -> str | bytes | None:
        path = None if value is None else file_name(value)
        if path is None or not path.startswith(below):
            return None
        return stored_name(path[len(below) :])

    connection.create_function("place", 1, place, deterministic=True)
    connection.create_function("near", 1, near, deterministic=True)


def kept(connection: sqlite3.Connection, path: str) -> str:
    """Return a path as this catalog keeps it. One statement."""
    (value,) = connection.execute(_KEPT, (stored_name(path),)).fetchone()
    return file_name(value)


def is_portable(connection: sqlite3.Connection) -> bool:
    """Tell whether paths below the catalog's directory are kept relative to it."""
    row = connection.execute("SELECT is_portable FROM identity").fetchone()
    return bool(row[0])


def make_portable(connection: sqlite3.Connection) -> None:
    """Keep paths below the catalog's directory relative to it: those to come, and those it has.

    Args:
        connection: in a transaction.
    """
    connection.execute("UPDATE identity SET is_portable = 1")
    for table in ("images", "volumes", "image_directories", "passed_over"):
        connection.execute(
            f"UPDATE {table} SET path = near(path) WHERE near(path) IS NOT NULL"  # noqa: S608
        )
