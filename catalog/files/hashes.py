"""Hashes of what files hold, each in one backup: kept once they were computed."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlite3

    from ..store import Catalog
    from .asking import Backup, Row

_FIND = """
    SELECT sha256 FROM file_hashes WHERE generation_id = ? AND directory_id = ? AND name_id = ?
"""
_KEEP = """
    INSERT OR REPLACE INTO file_hashes
    SELECT file_generations.id, directory_id, name_id, ?
    FROM file_generations JOIN file_versions USING (lineage_id)
    WHERE file_generations.id = ? AND number = ? AND image_id = ?
        AND lineage_id = ? AND directory_id = ? AND name_id = ? AND first_generation <= number
        AND (last_generation IS NULL OR last_generation >= number)
        AND mode = ? AND size_bytes = ? AND mtime_ns IS ?
"""


def hash_of(connection: sqlite3.Connection, backup: Backup, row: Row) -> bytes | None:
    """Return the SHA-256 of a file in a backup, None where it was never asked for."""
    found = connection.execute(_FIND, (backup.generation_id, *row.place)).fetchone()
    return None if found is None else bytes(found[0])


def keep_hash(catalog: Catalog, backup: Backup, row: Row, sha256: bytes) -> None:
    """Keep the hash of what a file holds in an image; nothing where that is gone by now.

    Raises:
        CatalogError: the catalog cannot be written.
    """
    from ..database.transaction import driver_connection

    generation = (backup.generation_id, backup.number, backup.image_id)
    with catalog.database.writing() as connection:
        driver_connection(connection).execute(
            _KEEP, (sha256, *generation, row.lineage_id, *row.place, *row.what)
        )
