"""Content hashes of versions, kept once they were computed."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..store import Catalog
    from .asking import Row

_KEEP = """
    UPDATE file_versions SET sha256 = ?
    WHERE lineage_id = ? AND directory_id = ? AND name_id = ? AND first_generation = ?
        AND mode = ? AND size_bytes = ? AND mtime_ns IS ?
"""


def keep_hash(catalog: Catalog, row: Row, sha256: bytes) -> None:
    """Keep the hash of what a version holds; nothing where it is gone by now.

    Raises:
        CatalogError: the catalog cannot be written.
    """
    from ..database.transaction import driver_connection

    key = (row.lineage_id, row.directory_id, row.name_id, row.first)
    with catalog.database.writing() as connection:
        driver_connection(connection).execute(_KEEP, (sha256, *key, *row.what))
