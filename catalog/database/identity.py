"""What tells a catalog from others: a random key of its own, and where its file lies.

A file that was moved away and made again is told by its inode; one that was overwritten in place,
by that key.
"""

from __future__ import annotations

import os
import sqlite3
import urllib.parse
from typing import NamedTuple


class Identity(NamedTuple):
    """What tells a catalog from others: where its file lies, and its key.

    `key` is None of one that has none, being of an older schema, or cannot be told just now.
    """

    device: int
    inode: int
    key: int | None


def key_of(connection: sqlite3.Connection) -> int | None:
    """Return the key of an open catalog, None where it has none."""
    try:
        row = connection.execute("SELECT key FROM identity").fetchone()
    except sqlite3.OperationalError as error:
        if "no such table" in str(error):
            return None
        raise
    return None if row is None else int(row[0])


def uri_of(path: str, mode: str) -> str:
    """Return SQLite's URI for a path, which need not be UTF-8."""
    return f"file:{urllib.parse.quote(os.fsencode(os.path.abspath(path)))}?mode={mode}"
