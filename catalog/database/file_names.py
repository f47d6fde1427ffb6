"""Names of files as the catalog has them: each once, found by a hash, and by its trigrams."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

from ..names import legible

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable

Name = str | bytes
"""A name as SQLite has it: TEXT where it is valid UTF-8, else a BLOB of its bytes."""


def kept_name(name: bytes) -> Name:
    """Return a name as the catalog has it."""
    try:
        return name.decode()
    except UnicodeDecodeError:
        return name


def kept_names(names: list[bytes]) -> list[Name]:
    """Return names, none of which has a ``/`` in it, as the catalog has them."""
    if not names:
        return []
    try:
        # Most are UTF-8, and all at once are quicker.
        return list(b"/".join(names).decode().split("/"))
    except UnicodeDecodeError:
        return [kept_name(name) for name in names]


def raw_name(name: Name) -> bytes:
    """Return the bytes of a name out of the catalog."""
    return name.encode() if isinstance(name, str) else name


def hash_of(name: Name) -> int:
    """Return what a name is found by: its CRC-32, as gzip has it."""
    return zlib.crc32(raw_name(name))


def searched(name: Name) -> str:
    """Return the text that the trigrams of a name are of."""
    return name if isinstance(name, str) else legible(name.decode(errors="surrogateescape"))


def id_of(connection: sqlite3.Connection, name: Name) -> int | None:
    """Return the row of a name, None where there is none. One statement."""
    found = connection.execute(
        "SELECT id FROM file_names WHERE hash = ? AND name = ?", (hash_of(name), name)
    ).fetchone()
    return None if found is None else int(found[0])


def insert(connection: sqlite3.Connection, rows: Iterable[tuple[int, int, Name]]) -> None:
    """Write names that are not there, with their trigrams.

    Args:
        connection: in a transaction.
        rows: their ids, ascending and above all that there are; their hashes; the names.
    """
    (before,) = connection.execute("SELECT coalesce(max(id), 0) FROM file_names").fetchone()
    connection.executemany("INSERT INTO file_names (id, hash, name) VALUES (?, ?, ?)", rows)
    connection.execute(
        "INSERT INTO file_name_trigrams (rowid, name)"
        " SELECT id, name FROM file_names WHERE id > ? AND typeof(name) = 'text'",
        (before,),
    )
    odd = connection.execute(
        "SELECT id, name FROM file_names WHERE id > ? AND typeof(name) = 'blob'", (before,)
    ).fetchall()
    connection.executemany(
        "INSERT INTO file_name_trigrams (rowid, name) VALUES (?, ?)",
        ((name_id, searched(name)) for name_id, name in odd),
    )


def delete(connection: sqlite3.Connection, name_id: int) -> None:
    """Delete a name that nothing uses, and its trigrams."""
    row = connection.execute("SELECT name FROM file_names WHERE id = ?", (name_id,)).fetchone()
    if row is None:
        return
    # What an index without contents forgets, it must be told.
    connection.execute(
        "INSERT INTO file_name_trigrams (file_name_trigrams, rowid, name) VALUES ('delete', ?, ?)",
        (name_id, searched(row[0])),
    )
    connection.execute("DELETE FROM file_names WHERE id = ?", (name_id,))
